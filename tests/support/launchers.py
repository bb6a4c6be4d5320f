"""A launcher process of either kind, run for real, with the test as its master and its loop."""

import fcntl
import functools
import hashlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ucspid.codec import Packed
from ucspid.errors import EXIT_USAGE
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, close_all, pair
from ucspid.ipc.session_table import SIZE
from ucspid.launcher.native.build import FOLDER, CannotBuildError, build
from ucspid.master import roles
from ucspid.plan import LauncherKind
from ucspid.policy.environ import NAMES
from ucspid.profile import Profile

VARIANTS = {"native": "strict", "sanitized": "sanitized"}
"""The launcher in C, where warnings are errors; and one that ends at the first misuse of memory."""

KINDS = ("python", "native", pytest.param("sanitized", marks=pytest.mark.slow))
"""The kinds of launchers that every test of a launcher is for."""

_BUILT = Path(__file__).parents[2] / ".pytest_cache" / "launchers"

TIMEOUT = 10.0
TAG = b"tag of the session".ljust(wire.TAG_SIZE, b"\0")
SERVICE = 7


class Report(NamedTuple):
    kind: int
    status: int
    process: int
    service: int
    connection: int
    user: int
    system: int
    memory: int
    tag: bytes


class Peers:
    """The master and the loop of one launcher, through all the processes that it is."""

    def __init__(self, kind: LauncherKind) -> None:
        self.kind = kind
        self.loop, self.loop_end = pair()
        self.loop.settimeout(TIMEOUT)
        self.memory = os.memfd_create("table")
        os.ftruncate(self.memory, SIZE)
        self.reports: list[Report] = []
        self.clients: list[socket.socket] = []
        self.programs: dict[int, bytes] = {}
        self.preload = b""
        self.pid = 0
        self.master = self.loop

    def launch(self) -> None:
        """Start a process, which waits for its orders."""
        if self.master is not self.loop:
            self.master.close()
        self.master, theirs = pair()
        self.master.settimeout(TIMEOUT)
        with theirs:
            self.pid = roles.start_launcher(self.kind, theirs.fileno(), self.loop_end.fileno(), self.memory)

    def start(self, orphans: set[int] | None = None, nofile: int | None = None, **profile: Any) -> None:
        self.launch()
        for packet in self.programs.values():
            self.master.send(packet)
        if self.preload:
            self.master.send(self.preload)
        for some in wire.chunks_of_numbers(orphans or set()):
            self.master.send(wire.Orphans(some).pack())
        self.take_privileges(nofile, **profile)

    def take_privileges(self, nofile: int | None = None, **profile: Any) -> None:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if nofile is None else nofile
        orders = wire.TakePrivileges(wire.VERSION, soft, "ucspid: launcher test", Profile(**profile))
        self.master.send(orders.pack())

    def ready(self, orphans: set[int] | None = None, nofile: int | None = None, **profile: Any) -> None:
        self.start(orphans, nofile, **profile)
        assert self.hear() == wire.Ready(wire.VERSION).pack()

    def hear(self) -> bytes:
        """Return the launcher's next message to the master; it may have died since, with orders unread."""
        try:
            return self.master.recv(wire.MAX_PACKET)
        except ConnectionResetError:
            return self.master.recv(wire.MAX_PACKET)

    def set_program(
        self,
        *argv: str,
        service: int = SERVICE,
        env: dict[str, str] | None = None,
        executable: str | None = None,
        stderr: int = wire.STDERR_KEPT,
    ) -> None:
        self.programs[service] = wire.SetProgram(
            service=service,
            stderr=stderr,
            executable=executable or argv[0],
            arguments=tuple(item.encode() for item in argv),
            environment=tuple(f"{name}={value}".encode() for name, value in (env or {}).items()),
            names=tuple(name.encode() for name in NAMES["tcp"]),
        ).pack()
        if self.pid:
            self.master.send(self.programs[service])

    def set_python(
        self, *argv: str, module: str | None = None, modules: Sequence[str] = (), **settings: Any
    ) -> None:
        """Have the launcher preload a script, the first of argv, or a function of a module."""
        given = {
            "interpreter": sys.executable, "env": {}, "watch": False, "own": False,
            "stderr": wire.STDERR_KEPT, **settings,
        }  # fmt: skip
        self.set_program(*argv, env=given["env"], executable=given["interpreter"], stderr=given["stderr"])
        script = argv[0] if module is None else None
        names = tuple(name.encode() for name in modules)
        self.preload = wire.Preload(given["watch"], given["own"], script, module, names).pack()

    def refused(self, **profile: Any) -> str:
        """Start, and return why the program cannot be imported."""
        self.start(**profile)
        reason = wire.CannotLoad.unpack(self.hear()).reason
        assert self.exit() == EXIT_USAGE
        return reason

    def connect(
        self,
        connection: int,
        *variables: str,
        service: int = SERVICE,
        others: Sequence[socket.socket] = (),
    ) -> socket.socket:
        """Send a START, with others beside the client's socket; return the client's end of the connection."""
        client, servers = socket.socketpair()
        client.settimeout(TIMEOUT)
        head = wire.Start.head(service, connection, TAG)
        strings = "\0".join(variables).encode()
        with servers:
            socket.send_fds(self.loop, [head + strings], [sock.fileno() for sock in (servers, *others)])
        self.clients.append(client)
        return client

    def ask(self, message: Packed) -> None:
        self.loop.send(message.pack())

    def wait(self, kind: int, connection: int | None = None) -> Report:
        """Return the next report of a kind (for a connection), waiting for it."""

        def wanted(report: Report) -> bool:
            return report.kind == kind and connection in (None, report.connection)

        while not any(map(wanted, self.reports)):
            packet = self.loop.recv(wire.MAX_PACKET)
            assert packet
            self.reports += map(Report._make, wire.Report.rows(packet))
        found = next(filter(wanted, self.reports))
        self.reports.remove(found)
        return found

    def next_report(self, connection: int) -> Report:
        """Return the next report of a connection, whatever it says."""
        while not (found := [report for report in self.reports if report.connection == connection]):
            packet = self.loop.recv(wire.MAX_PACKET)
            assert packet
            self.reports += map(Report._make, wire.Report.rows(packet))
        self.reports.remove(found[0])
        return found[0]

    def list(self, token: int = 1) -> dict[int, Report]:
        """Have the launcher list what runs; return it by connection."""
        self.ask(wire.ListSessions(token))
        assert self.wait(wire.LISTED).connection == token
        running = {report.connection: report for report in self.reports if report.kind == wire.RUNNING}
        self.reports = [report for report in self.reports if report.kind != wire.RUNNING]
        return running

    def exit(self) -> int:
        """Wait until the launcher has ended; return how."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def drain(self) -> None:
        """Drop all that is in the channel, either way: of a launcher that is no more."""
        for end in (self.loop, self.loop_end):
            end.setblocking(False)
            while (received := Channel(end).receive()) is not None:
                close_all(received[1])
        self.loop.settimeout(TIMEOUT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.exit()
        self.master.close()

    def close(self) -> None:
        if self.pid:
            self.kill()
        for sock in (self.loop, self.loop_end, self.master, *self.clients):
            sock.close()
        os.close(self.memory)


@functools.cache
def built(variant: str) -> str:
    """Return the path of a native launcher, compiled from the source as it is; without a compiler, skip."""
    folder = _BUILT / _source()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / variant
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            try:
                build(str(path), variant)
            except CannotBuildError as problem:
                if shutil.which("cc"):
                    raise
                pytest.skip(str(problem))
    return str(path)


@functools.cache
def compiled(name: str) -> str:
    """Return the path of a library for LD_PRELOAD, made from a file of tests/programs."""
    source = Path(__file__).parents[1] / "programs" / name
    folder = _BUILT / hashlib.sha256(source.read_bytes()).hexdigest()[:20]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "library.so"
    if not path.exists():
        if not shutil.which("cc"):
            pytest.skip("there is no C compiler")
        made = path.with_suffix(f".{os.getpid()}")
        command = [
            "cc",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            str(source),
            "-o",
            str(made),
            "-ldl",
        ]
        subprocess.run(command, check=True)
        made.rename(path)
    return str(path)


def _source() -> str:
    """Return what changes with any file that a native launcher is made of."""
    content = hashlib.sha256()
    for path in sorted(Path(FOLDER).iterdir()):
        if path.suffix in {".c", ".h", ".py"}:
            content.update(path.read_bytes())
    return content.hexdigest()[:20]


def choose(name: str, monkeypatch: pytest.MonkeyPatch) -> LauncherKind:
    """Return the kind of launcher for one of KINDS, and have that be the one which is started."""
    if name == "python":
        return "python"
    arguments = roles.LAUNCHERS["native"][1:]
    monkeypatch.setitem(roles.LAUNCHERS, "native", [built(VARIANTS[name]), *arguments])
    return "native"
