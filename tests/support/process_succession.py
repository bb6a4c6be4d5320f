"""A launcher process that can be killed at any call of libc's, a loop's end, and the test as their master."""

import contextlib
import ctypes
import itertools
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from unittest import mock

from processes import children, lives
from succession import SERVICE, Loop, slots
from ucspid.admission.connection import Connection
from ucspid.ipc import messages as wire
from ucspid.ipc import session_table
from ucspid.ipc.channel import Channel, pair
from ucspid.linux import prctl, process_group, procfs
from ucspid.master import roles
from ucspid.master.children import Children, reap_one
from ucspid.plan import LauncherKind
from ucspid.profile import Profile

PATIENCE = 60.0
"""Seconds within which everything must have settled."""

GLANCE = 20
"""Milliseconds after which the test looks at the processes again, if nothing was said meanwhile."""

CALLS = ("recvmsg", "send", "wait4", "close", "clone", "fork")
"""Of libc's, at which a launcher can be killed."""

PRELOADED = """\
import os
os.write(1, b"%d\\n" % os.getpid())
while data := os.read(0, 4096):
    os.write(1, data)
"""
"""In Python what _PROGRAM does."""

_libc = ctypes.CDLL(None)
_PR_SET_CHILD_SUBREAPER = 36
_PROGRAM = ("/bin/sh", "-c", "echo $$; exec cat")


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Have this process adopt the programs of a launcher that dies, as the master does."""
    prctl.become_subreaper()
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class ProcessLoop(Loop):
    """The loop's end, for programs that are real."""

    def started(self, session: Connection, pid: int) -> None:
        assert pid > 0
        assert session.number in self.world.handed


class ProcessWorld:
    """The master of one launcher, which is a real process, and its loops."""

    def __init__(self, kind: LauncherKind, preload: str, script: str = "", *, small_buffers: bool) -> None:
        """Start them; preload is the library that kills, script a program in Python that is imported once."""
        self.loop_end, self.own_end = pair()
        if small_buffers:
            for end in (self.loop_end, self.own_end):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.memory = os.memfd_create("table")
        os.ftruncate(self.memory, session_table.SIZE)
        self.handed: dict[int, socket.socket] = {}
        self.reported: set[int] = set()
        self.missing = False
        self.loop: ProcessLoop | None = None
        self._kind = kind
        self._preload = preload
        self._script = script
        self._connections = itertools.count(1)
        self._children = Children()
        self._orphans: set[int] = set()
        self._late: list[bytes] = []
        self._said: dict[int, bytes] = {}
        self._pid = 0
        self._master: Channel | None = None
        self.start_launcher()
        self.start_loop()

    # The loop

    def start_loop(self) -> None:
        if self.loop is None:
            self.loop = ProcessLoop(self)  # type: ignore[arg-type]

    def stop_loop(self) -> None:
        if self.loop is not None:
            self.loop.die()
            self.loop = None

    def connect(self, count: int) -> None:
        for connection in itertools.islice(self._connections, count):
            if self.loop is not None and self.loop.launcher.usable:
                self.loop.connect(connection)

    def hang_up(self, place: int) -> None:
        """End one of the clients that have not ended yet."""
        waiting = [client for client in self.handed.values() if client.fileno() >= 0]
        if waiting:
            with contextlib.suppress(OSError):
                waiting[place % len(waiting)].shutdown(socket.SHUT_WR)

    def send_signal(self, place: int, number: int) -> None:
        """Have the loop signal one of the programs that it knows."""
        running = [] if self.loop is None else [*self.loop.launcher.running.values()]
        if running:
            running[place % len(running)].send_signal(number)

    # The launcher

    def start_launcher(self, dies_at: str = "") -> None:
        if self._pid:
            return
        ours, theirs = pair()
        deadly = (f"LD_PRELOAD={self._preload}", f"DIES_AT={dies_at}")
        command = [*([] if self._script else deadly), *roles.LAUNCHERS[self._kind]]
        with theirs, mock.patch.dict(roles.LAUNCHERS, {self._kind: ["/usr/bin/env", *command]}):
            self._pid = roles.start_launcher(self._kind, theirs.fileno(), self.own_end.fileno(), self.memory)
        self._master = Channel(ours)
        if self._script:
            self._master.send(self._set_python((*deadly, "DIES_AFTER=send")))
            self._master.send(wire.Preload(False, False, self._script, None, ()).pack())
        else:
            self._master.send(self._set_program())
        orphans = self._orphans | {wire.OrphanExit.unpack(packet).process for packet in self._late}
        for some in wire.chunks_of_numbers(orphans):
            self._master.send(wire.Orphans(some).pack())
        self._master.send(wire.TakePrivileges(wire.VERSION, 100, "launcher", Profile()).pack())
        for packet in self._late:
            self._master.send(packet)
        self._late.clear()

    def kill_launcher(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)

    def set_missing(self, missing: bool) -> None:
        """Have the service's program, unless it is imported, be one that is not there, or be there again."""
        if self._script:
            return
        self.missing = missing
        if self._master is not None:
            self._master.send(self._set_program())

    def _set_program(self) -> bytes:
        executable = "/does/not/exist" if self.missing else _PROGRAM[0]
        arguments = tuple(item.encode() for item in _PROGRAM)
        return wire.SetProgram(SERVICE, wire.STDERR_KEPT, executable, arguments, (), ()).pack()

    def _set_python(self, environment: tuple[str, ...]) -> bytes:
        """Return the order for the script, whose interpreter is the launcher that can be killed."""
        arguments, variables = (self._script.encode(),), tuple(item.encode() for item in environment)
        return wire.SetProgram(SERVICE, wire.STDERR_KEPT, sys.executable, arguments, variables, ()).pack()

    # What the master and the loop do all the time

    def turn(self) -> None:
        """Wait a little for something, and take what is there."""
        poll = select.poll()
        if self._master is not None:
            poll.register(self._master.fileno(), select.POLLIN)
        if self.loop is not None:
            poll.register(self.loop.launcher.fileno(), select.POLLIN)
        poll.poll(GLANCE)
        if self.loop is not None:
            assert self.loop.launcher.receive()
        self._hear_launcher()
        self._reap()

    def _hear_launcher(self) -> None:
        while self._master is not None and (packet := self._master.receive_packet()):
            if packet[0] == wire.SignalOrphan.KIND:
                wanted = wire.SignalOrphan.unpack(packet)
                if wanted.process in self._orphans:
                    process_group.send_signal(wanted.process, wanted.number)
            else:
                assert packet == wire.Ready(wire.VERSION).pack()

    def _reap(self) -> None:
        exits = []
        while (exit_ := reap_one()) is not None:
            exits.append(exit_)
        for exit_ in exits:
            if exit_.pid == self._pid:
                assert exit_.status == signal.SIGKILL
                self._launcher_died({other.pid for other in exits} - {self._pid})
        for exit_ in exits:
            if exit_.pid in self._orphans:
                self._orphans.discard(exit_.pid)
                packet = wire.OrphanExit(exit_.pid, exit_.status, 1, 2, 3).pack()
                if self._master is None:
                    self._late.append(packet)
                else:
                    self._master.send(packet)

    def _launcher_died(self, ended: set[int]) -> None:
        assert self._master is not None
        own = session_table.processes(self.memory)
        self._orphans |= self._children.orphans(self._pid, own, ended, set())
        self._master.close()
        self._master = None
        self._pid = 0

    # What is to be true in the end

    def settle(self, *, ended: bool = False) -> None:
        """Wait until loop, table and kernel agree, with nothing running if all clients have ended.

        Raises AssertionError if they do not come to that.
        """
        deadline = time.monotonic() + PATIENCE
        while (problem := self._difference()) or (ended and slots(self.memory)):
            assert time.monotonic() < deadline, problem
            if not self._pid:
                self.start_launcher()
            if self.loop is None:
                self.start_loop()
            self.turn()
        self._see_clients()

    def _difference(self) -> str:
        if self.loop is None or not self._pid or self._late:
            return "somebody is missing"
        launcher = self.loop.launcher
        running = {connection: process.pid for connection, process in launcher.running.items()}
        programs = (pid for pid in children(self._pid) if procfs.group(pid) != self._pid)
        alive = {pid for pid in (*programs, *self._orphans) if lives(pid)}
        live = {session.number for session in self.loop.live}
        if not launcher.usable or launcher.in_flight or running.keys() != live:
            return f"the loop does not know what runs: {launcher.in_flight}, {live}, {running}"
        if slots(self.memory) != running or set(running.values()) != alive:
            return f"loop {running}, table {slots(self.memory)}, kernel {alive}"
        return ""

    def _see_clients(self) -> None:
        """See that each client that has a program has its own, and that nobody holds the others."""
        assert self.loop is not None
        running = self.loop.launcher.running
        for connection, client in self.handed.items():
            if client.fileno() < 0:
                continue
            client.settimeout(PATIENCE)
            said = self._said.get(connection, b"")
            if connection in running:
                while not said.endswith(b"\n") and (more := client.recv(100)):
                    said += more
                assert said == b"%d\n" % running[connection].pid or _ends(running[connection].pid)
                self._said[connection] = said
            else:
                while client.recv(100):
                    pass
                client.close()

    def close(self) -> None:
        for connection in list(self.handed):
            with contextlib.suppress(OSError):
                self.handed[connection].shutdown(socket.SHUT_WR)
        try:
            self.settle(ended=True)
        finally:
            self.kill_launcher()
            if self._pid:
                os.waitpid(self._pid, 0)
            if self._master is not None:
                self._master.close()
            if self.loop is not None:
                self.loop.die()
            for sock in (self.loop_end, self.own_end, *self.handed.values()):
                sock.close()
            os.close(self.memory)
            os.close(self._children._list)


def _ends(pid: int) -> bool:
    """Wait for the end of a process; return whether it comes."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ended = bool(poll.poll(PATIENCE * 1000))
    os.close(descriptor)
    return ended
