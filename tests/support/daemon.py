"""The real daemon as a subprocess, for tests: started, asked, watched by its log, stopped, checked.

Nothing here sleeps: it waits for the readiness descriptor, for log events, for end of file.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

import processes
from ucspid.cli import client
from ucspid.errors import UcspidError

TIMEOUT = 20.0
"""Seconds after which something that a test waits for will not come."""

MAX_HELD = 1.0
"""Seconds for the end of a log whose daemon has ended: programs that outlive it may have it open still."""


class Daemon:
    """One daemon with its configuration in a folder of the test's."""

    launcher: ClassVar[str] = os.environ.get("UCSPID_LAUNCHER", "")
    """The kind of launcher that it has, unless the test says otherwise; "" is what it takes by itself."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Write the configuration; start() starts."""
        self.folder = folder
        self.config_path = folder / "ucspid.yaml"
        self.control = folder / "control"
        kind = {"launcher": self.launcher} if self.launcher else {}
        self.config: dict[str, Any] = {"control": str(self.control), **kind, **config}
        self.write()
        self.events: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, config: Mapping[str, Any] | None = None) -> None:
        """Write the configuration, after taking up changes."""
        if config is not None:
            self.config |= config
        self.replace(yaml.safe_dump(self.config, sort_keys=False))

    def replace(self, text: str) -> None:
        """Have the configuration file be this text, at once."""
        replacement = self.config_path.with_suffix(".new")
        replacement.write_text(text)
        replacement.rename(self.config_path)

    def start(
        self,
        *,
        ready: bool = True,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "ucspid"),
        pass_fds: Sequence[int] = (),
        **popen: Any,
    ) -> Self:
        """Start it, and wait until all listeners listen; command is what becomes the daemon."""
        reading, writing = os.pipe()
        arguments = ["run", "-c", str(self.config_path), "--ready-fd", str(writing)]
        self._process = subprocess.Popen(
            [*command, *arguments],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            pass_fds=(writing, *pass_fds),
            env=env,
            **popen,
        )
        os.close(writing)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.readline()
        if ready and said != b"\n":
            raise AssertionError(
                f"the daemon was not ready: exit {self._process.wait(TIMEOUT)}, {self.stderr}"
            )
        return self

    @property
    def pid(self) -> int:
        """Return the master's process."""
        assert self._process is not None
        return self._process.pid

    def wait(self) -> int:
        """Wait until the master has ended, and all that it has said has been read; return its exit status."""
        assert self._process is not None
        status = self._process.wait(TIMEOUT)
        self._reader.join(MAX_HELD)
        return status

    def stop(self) -> int:
        """Have it stop in order, and wait for that."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def signal(self, number: int) -> None:
        """Send the master a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    # What it says

    def status(self) -> dict[str, Any]:
        """Return what `ucspid status --json` prints."""
        return client.call(self.control, "status", {}, TIMEOUT)

    def differences(self) -> list[str]:
        """Return what `ucspid status --verify` finds wrong."""
        try:
            differences: list[str] = client.call(self.control, "verify", {}, TIMEOUT)["differences"]
        except UcspidError as problem:
            raise AssertionError(f"{problem}: {self.events[-5:]}") from None
        return differences

    def reload(self, config: Mapping[str, Any] | None = None) -> list[str]:
        """Take up changes of the configuration and reload; return what changed."""
        if config is not None:
            self.write(config)
        changes: list[str] = client.call(self.control, "reload", {}, TIMEOUT)["changes"]
        return changes

    def service(self, name: str) -> dict[str, Any]:
        """Return a service's entry in the status."""
        return next(item for item in self.status()["services"] if item["name"] == name)

    def processes(self, role: str) -> list[dict[str, Any]]:
        """Return the processes of a role in the status."""
        return [item for item in self.status()["processes"] if item["role"] == role]

    def children(self, name: str) -> list[int]:
        """Return the master's children of a command name, as the kernel cuts it: whatever the loop knows.

        They lead a session. What a launcher that died was starting has its name, too, until it is executed.
        """
        below = processes.children(self.pid)
        return [pid for pid in below if processes.name(pid) == name and processes.leads_session(pid)]

    def address(self, service: str) -> tuple[str, int]:
        """Return where a service listens: its first listener, as IPv4 if it takes both."""
        text = next(item["address"] for item in self.status()["listeners"] if item["service"] == service)
        host, _, port = text.rpartition(":")
        return {"*": "127.0.0.1"}.get(host, host.strip("[]")), int(port)

    def wait_event(self, event: str, **fields: Any) -> dict[str, Any]:
        """Return the first event with these fields, waiting for it."""
        return self.wait_events(1, event, **fields)[0]

    def wait_events(self, count: int, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return events with these fields as soon as there are so many."""
        wanted = {"event": event, **fields}

        def found() -> list[dict[str, Any]]:
            return [item for item in self.events if wanted.items() <= item.items()]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, TIMEOUT), (
                f"{len(found())} of {count} {wanted} in {self.events[-20:]} {self.stderr[-20:]}"
            )
            return found()

    def wait_lines(self, count: int) -> list[str]:
        """Return the lines that are no events as soon as there are so many."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.stderr) >= count, TIMEOUT), self.stderr
            return [*self.stderr]

    def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                with self._news:
                    try:
                        self.events.append(json.loads(line))
                    except ValueError:
                        self.stderr.append(line.decode(errors="replace").rstrip())
                    self._news.notify_all()

    # Clients

    def connect(self, service: str, source: str = "127.0.0.1") -> socket.socket:
        """Connect to a service from a source address."""
        host, port = self.address(service)
        return socket.create_connection((host, port), TIMEOUT, source_address=(source, 0) if source else None)

    def talk(self, service: str, data: bytes = b"", source: str = "127.0.0.1") -> bytes:
        """Connect, send, shut down, and return all that comes back."""
        with self.connect(service, source) as sock:
            return exchange(sock, data)

    # The end

    def processes_left(self) -> list[int]:
        """Return the processes of the daemon that exist, by their parents and groups."""
        return processes.descendants(self.pid)

    def kill(self) -> None:
        """End everything that is left, however."""
        assert self._process is not None
        for pid in [*self.processes_left(), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


GONE = {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN}
"""What the kernel says of a peer that has reset the connection; which one depends on the moment."""


def exchange(sock: socket.socket, data: bytes = b"") -> bytes:
    """Send, shut down, and return all that comes back.

    What has arrived before a reset is returned too: a peer that closes without reading what was sent
    resets the connection, even though it has answered. Raises ConnectionResetError if nothing has.
    """
    pieces: list[bytes] = []
    whole = [_unless_gone(_send, sock, data), _unless_gone(_receive, sock, pieces)]
    if not all(whole) and not pieces:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return b"".join(pieces)


def _unless_gone(step: Callable[..., None], *arguments: object) -> bool:
    """Return whether the peer did not reset the connection before the step was done."""
    try:
        step(*arguments)
    except OSError as problem:
        if problem.errno not in GONE:
            raise
        return False
    return True


def _send(sock: socket.socket, data: bytes) -> None:
    if data:  # sending nothing fails, too, where the peer has answered and gone
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def _receive(sock: socket.socket, pieces: list[bytes]) -> None:
    while piece := sock.recv(65536):
        pieces.append(piece)


def receive_all(sock: socket.socket) -> bytes:
    """Return everything until the other end has closed."""
    pieces: list[bytes] = []
    _receive(sock, pieces)
    return b"".join(pieces)


def wait_gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(pidfd) as _file:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(TIMEOUT * 1000), f"process {pid} is still there"


@contextlib.contextmanager
def running(folder: Path, config: Mapping[str, Any], **start: Any) -> Iterator[Daemon]:
    """Run a daemon for a test; at the end its counts must match, and stopping must leave nothing behind."""
    daemon = Daemon(folder, config)
    daemon.start(**start)
    try:
        yield daemon
        assert_counts_match(daemon.status())
        assert daemon.differences() == []
        left = {pid: processes.began(pid) for pid in daemon.processes_left()}
        assert daemon.stop() == 0, daemon.stderr
        assert [pid for pid, began in left.items() if began and processes.began(pid) == began] == []
        assert daemon.stderr == []
    finally:
        daemon.kill()


def assert_counts_match(status: Mapping[str, Any]) -> None:
    """Assert that accepted = served + refused + failed + live, in every service and in all."""
    for item in status["services"]:
        refused, failed = sum(item["refused"].values()), sum(item["failed"].values())
        assert item["accepted"] == item["served"] + refused + failed + item["live"], item
    assert sum(item["live"] for item in status["services"]) == status["totals"]["live"]
