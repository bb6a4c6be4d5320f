"""Programs as asyncio subprocesses, started by the launchers.

A LauncherClient is the loop's end of one launcher process. A Process is one running program, an
asyncio.SubprocessTransport. The loop itself never forks and has no children. Launchers answer in order;
so nothing is missed or doubled when the loop restarts: see roll_call.
"""

import asyncio
import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.roll_call import Answered, RollCall, differences

STUCK_AFTER = 2.0
"""Seconds that a launcher may take for a start. Then it is given no more until it answers."""

OVERDUE_AFTER = 2 * STUCK_AFTER
"""Seconds after which it is to be replaced, so that what waits behind the start goes on."""

_NO_EXTRA = cast("dict[str, Any]", MappingProxyType({}))
_RIGHTS, _RIGHTS_WITH_TLS = (struct.Struct(f"{count}i") for count in (wire.SOCKETS, wire.SOCKETS_WITH_TLS))
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_STOPPED = 0x7F
"""Low bits of a wait status that says no end."""


class Starting(Protocol):
    """What a Process reports to its protocol beyond asyncio.SubprocessProtocol."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say that the program runs."""

    def start_failed(self, reason: int) -> None:
        """Say that the program could not be started: an errno."""

    def process_exited(self) -> None:
        """Say that the program has ended."""


class Usage:
    """What a program used, as wait4(2) says: seconds of CPU, peak memory in KiB."""

    __slots__ = ("max_rss", "system", "user")

    def __init__(self, user: int, system: int, max_rss: int) -> None:
        """Take microseconds, as reports carry them."""
        self.user = user / 1e6
        self.system = system / 1e6
        self.max_rss = max_rss


class Process(asyncio.SubprocessTransport):
    """One program on one connection, from the moment its socket went to a launcher."""

    __slots__ = ("connection", "launcher", "pid", "protocol", "status", "used")

    def __init__(self, launcher: "LauncherClient", connection: int, protocol: Starting) -> None:
        """Describe a start that the launcher was asked for."""
        super().__init__(_NO_EXTRA)
        self.launcher = launcher
        self.connection = connection
        self.protocol = protocol
        """Its protocol. One that has ended has none, so that both are freed at once."""
        self.pid = 0
        self.status: int | None = None
        self.used: tuple[int, int, int] | None = None

    @property
    def usage(self) -> Usage | None:
        """What the program used, or None while it runs or if unknown."""
        return None if self.used is None else Usage(*self.used)

    def get_pid(self) -> int:
        """Return the process id; 0 while it is being started."""
        return self.pid

    def get_returncode(self) -> int | None:
        """Return the exit status, a negative signal number, or None while it runs or if unknown."""
        if self.status is None or self.status == wire.STATUS_UNKNOWN:
            return None
        return os.waitstatus_to_exitcode(self.status)

    def send_signal(self, signal: int) -> None:
        """Signal the program and all of its process group, if it still runs."""
        self.launcher.signal(self, signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def get_pipe_transport(self, fd: int) -> None:
        """Return None: the client's socket is the program's, not ours."""

    def is_closing(self) -> bool:
        """Return whether the program has ended."""
        return self.status is not None

    def close(self) -> None:
        """Kill the program if it runs."""
        if self.status is None:
            self.kill()


class EarlierSessions(Protocol):
    """Knows the sessions that earlier loops began."""

    def found(self, service: int, connection: int, tag: bytes) -> Starting:
        """Return the protocol of a session that was running before this loop began.

        Its connection_made() follows.
        """

    def counted_out(self, connection: int) -> bool:
        """Say whether a session has ended, and was counted out."""


class Processes:
    """The programs of one launcher: starts in flight, programs that run, and what reports do to them."""

    def __init__(self, launcher: "LauncherClient", earlier: EarlierSessions) -> None:
        """Start with none; earlier knows the sessions of earlier loops."""
        self.in_flight: dict[int, Process] = {}
        self.running: dict[int, Process] = {}
        self.complete = False
        """Whether all that runs is known: until then reports may be about sessions of an earlier loop."""
        self.oldest_since = 0.0
        """When what is now the oldest start in flight became that, on the monotonic clock."""
        self._launcher = launcher
        self._earlier = earlier

    def ask(self, connection: int, protocol: Starting) -> None:
        """Take note of a start that was sent."""
        if not self.in_flight:
            self.oldest_since = time.monotonic()
        self.in_flight[connection] = Process(self._launcher, connection, protocol)

    def _answered(self, connection: int) -> Process | None:
        """Take a start that has its answer out of those in flight."""
        was_oldest = connection == next(iter(self.in_flight), 0)
        process = self.in_flight.pop(connection, None)
        if was_oldest:
            self._launcher.stuck = self._launcher.overdue = False
            if self.in_flight:
                self.oldest_since = time.monotonic()
        return process

    def started(self, pid: int, service: int, connection: int, tag: bytes) -> None:
        """Take a program that runs."""
        if connection in self.running:
            raise WireError(f"connection {connection:x} was started twice")
        process = self._answered(connection)
        if process is None:
            if self.complete:
                raise WireError(f"connection {connection:x} was started, but no start was requested")
            process = self._found(service, connection, tag)
        process.pid = pid
        self.running[connection] = process
        process.protocol.connection_made(process)

    def failed(self, reason: int, service: int, connection: int, tag: bytes) -> None:
        """Take a start that failed, even one that was reported as started: execve(2) failed later."""
        process = self.running.pop(connection, None) or self._answered(connection)
        if process is None:
            if self.complete or self._earlier.counted_out(connection):
                return
            process = self._found(service, connection, tag)
        process.status = wire.STATUS_UNKNOWN
        process.protocol.start_failed(reason)
        del process.protocol

    def exited(
        self, status: int, pid: int, service: int, connection: int, used: tuple[int, int, int], tag: bytes
    ) -> None:
        """Take a program's end; before all that runs is known, also of one that nobody here has met.

        It ended when there was no loop. Afterwards, or if it was counted out, it is one
        whose end a launcher has reported twice, because it died before it had noted that it had.
        """
        if status & _STOPPED == _STOPPED and status != wire.STATUS_UNKNOWN:
            raise WireError(f"{status:#x} is not the wait status of a program that has ended")
        if connection not in self.running:
            known = connection in self.in_flight
            if not known and (self.complete or self._earlier.counted_out(connection)):
                return
            self.started(pid, service, connection, tag)
        process = self.running.pop(connection)
        process.used = used
        _end(process, status)

    def listed(self, pid: int, service: int, connection: int, tag: bytes) -> None:
        """Take a program that is listed: started, if a launcher died before it could say so."""
        if connection in self.in_flight or (not self.complete and connection not in self.running):
            self.started(pid, service, connection, tag)

    def settle(self, before: Collection[int], heard: Mapping[int, int]) -> None:
        """End what the answer to a question shows to be no more: see roll_call."""
        for connection in self.in_flight.keys() & before:
            self.failed(errno.EOWNERDEAD, 0, connection, b"")
        for connection in self.running.keys() - heard.keys():
            _end(self.running.pop(connection), wire.STATUS_UNKNOWN)
        self.complete = True

    def _found(self, service: int, connection: int, tag: bytes) -> Process:
        return Process(self._launcher, connection, self._earlier.found(service, connection, tag))


def _end(process: Process, status: int) -> None:
    process.status = status
    process.protocol.process_exited()
    del process.protocol


class LauncherClient:
    """The loop's end of one launcher."""

    def __init__(
        self, number: int, sock: socket.socket, earlier: EarlierSessions, changed: Callable[[], None]
    ) -> None:
        """Use sock; earlier knows earlier sessions; changed() is called when there is room again."""
        self.number = number
        self.pid = 0
        self.max_in_flight = 0
        """Starts that it takes before it has answered one: it says so."""
        self.stuck = False
        self.overdue = False
        self.draining = False
        self._processes = Processes(self, earlier)
        self.in_flight = self._processes.in_flight
        self.running = self._processes.running
        self._channel = Channel(sock)
        self._changed = changed
        self._roll_call = RollCall()
        self._audit: asyncio.Future[list[str]] | None = None
        self._ask(self._processes.settle)

    def fileno(self) -> int:
        """Return the descriptor, to poll on."""
        return self._channel.fileno()

    @property
    def synced(self) -> bool:
        """Whether it has said what runs there."""
        return self._processes.complete

    @property
    def usable(self) -> bool:
        """Whether it may be given a start now."""
        room = len(self.in_flight) < self.max_in_flight
        return room and not self.stuck and not self.draining and self._processes.complete

    def start(
        self, connection: int, head: bytes, client: int, protocol: Starting, others: tuple[int, ...] = ()
    ) -> bool:
        """Send a START, the client's socket and others (see wire.CONTROL); return whether the kernel took it.

        The caller keeps its copies of the sockets if not, and closes them if it did.
        """
        if self._channel.backed_up:
            return False
        rights = _RIGHTS_WITH_TLS.pack(client, *others) if others else _RIGHTS.pack(client)
        try:
            self._channel.sock.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _SEND)
        except OSError as problem:
            if problem.errno in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                return False
            raise
        self._processes.ask(connection, protocol)
        return True

    def signal(self, process: Process, number: int) -> None:
        """Pass a signal on."""
        if process.pid and process.status is None:
            self._channel.send(wire.Signal.head(number, process.pid, process.connection))

    def drain(self) -> None:
        """Let the launcher end with its last program; it gets no more starts."""
        if not self.draining:
            self.draining = True
            self._channel.send(wire.Drain().pack())

    def call_roll(self) -> asyncio.Future[list[str]]:
        """Ask what runs, and change nothing; the answer is how that differs from what is known here.

        Whoever asks meanwhile gets the same answer, so that one question at most waits for a launcher
        that reads none.
        """
        if self._audit is None or self._audit.done():
            answer = self._audit = asyncio.get_running_loop().create_future()

            def compare(before: Collection[int], heard: Mapping[int, int]) -> None:
                answer.set_result(differences(heard, self.running, self.in_flight.keys() & before))

            self._ask(compare)
        return asyncio.shield(self._audit)

    def receive(self) -> bool:
        """Take the reports that wait; return whether there is still a launcher at the other end.

        Raises WireError for what no launcher sends.
        """
        packet = self._channel.receive_packet()
        self._channel.flush()
        if packet is None:
            return True
        if not packet:
            return False
        if len(packet) % wire.Report.SIZE:
            raise WireError(f"a packet of {len(packet)} bytes")
        processes = self._processes
        for kind, status, pid, service, connection, user, system, max_rss, tag in wire.Report.rows(packet):
            if kind == wire.STARTED:  # these two first: each session has them
                processes.started(pid, service, connection, tag)
            elif kind == wire.EXITED:
                processes.exited(status, pid, service, connection, (user, system, max_rss), tag)
            elif kind == wire.FAILED:
                processes.failed(status, service, connection, tag)
            else:
                self._take(kind, status, pid, service, connection, tag)
        self._changed()
        return True

    def lost(self) -> None:
        """End everything that was here: the launcher is gone and none takes its place."""
        self._processes.settle(set(self.in_flight), {})
        self._roll_call.end()

    def close(self) -> None:
        """Close the channel."""
        self._channel.sock.close()

    # Whether it answers

    def judge(self, now: float, held_up: float = 0.0) -> None:
        """See whether the launcher is stuck, or overdue, at a monotonic time.

        That is how long the oldest start has been the oldest: what waits behind others has its time
        when they are answered. held_up is for how many seconds up to now the loop itself did not run, and
        so could not hear an answer.
        """
        processes = self._processes
        processes.oldest_since = min(now, processes.oldest_since + held_up)
        waited = now - processes.oldest_since if self.in_flight else 0.0
        self.stuck = waited >= STUCK_AFTER
        self.overdue = waited >= OVERDUE_AFTER

    @property
    def judged_next(self) -> float | None:
        """When judge() can find something else, if no start is answered: a monotonic time, or None."""
        if self.overdue or not self.in_flight:
            return None
        return self._processes.oldest_since + (OVERDUE_AFTER if self.stuck else STUCK_AFTER)

    # What it says of itself

    def _take(self, kind: int, status: int, pid: int, service: int, connection: int, tag: bytes) -> None:
        if kind == wire.RUNNING:
            self._roll_call.heard(connection, pid)
            self._processes.listed(pid, service, connection, tag)
        elif kind == wire.LISTED:
            self._introduced(pid, service)
            self._roll_call.listed(connection)
        elif kind == wire.HELLO:
            self._hello(status, pid, service)
        else:
            raise WireError(f"a report of kind {kind}")

    def _introduced(self, pid: int, max_in_flight: int) -> None:
        if pid <= 1 or not 0 < max_in_flight <= wire.MAX_IN_FLIGHT:
            raise WireError(f"it is process {pid} and takes {max_in_flight} starts at once")
        self.pid = pid
        self.max_in_flight = max_in_flight

    def _hello(self, version: int, pid: int, max_in_flight: int) -> None:
        """Take up with another process; its answer settles what a death may have left undecided."""
        if version != wire.VERSION:
            raise WireError(f"version {version} of the messages")
        self._introduced(pid, max_in_flight)
        self._processes.oldest_since = time.monotonic()
        self.stuck = self.overdue = False
        self._roll_call.restart()
        self._ask(self._processes.settle)
        if self.draining:
            self._channel.send(wire.Drain().pack())

    def _ask(self, answered: Answered) -> None:
        self._channel.send(self._roll_call.ask(self.in_flight, answered))
