"""Programs as asyncio subprocesses, started by the launchers.

A Launcher is the loop's end of one launcher process; a Pool is all launchers of one
privilege profile; a Process is one running program, an asyncio.SubprocessTransport. The loop
itself never forks and has no children. Launchers answer in order, which is what makes a
restart exact: after a LIST, what was sent before it and has no answer never started.
"""

import asyncio
import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Protocol, cast

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.roll_call import RollCall

IN_FLIGHT = 2
"""Starts that one launcher may have before it: the one it is at, and the next.

More wait in the kernel's backlog, in order, for whichever launcher is free first, and not behind
one that is suspended for long. It is also how many clients a launcher that hangs holds up."""

USUAL_LAUNCHERS = len(os.sched_getaffinity(0)) + 1
"""Of a profile, when starts queue up: one is suspended for each program that is being executed."""

STUCK_AFTER = 2.0
"""Seconds after which a launcher that has not answered a start is given no more."""

_NO_EXTRA = cast("dict[str, Any]", MappingProxyType({}))
_LISTS = 1 << 63
_RIGHTS = struct.Struct("i")
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Starting(Protocol):
    """What a Process tells its protocol beyond asyncio.SubprocessProtocol."""

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

    __slots__ = ("connection", "launcher", "pid", "protocol", "status", "usage")

    def __init__(self, launcher: "Launcher", connection: int, protocol: Starting) -> None:
        """Describe a start that the launcher was asked for."""
        super().__init__(_NO_EXTRA)
        self.launcher = launcher
        self.connection = connection
        self.protocol = protocol
        self.pid = 0
        self.status: int | None = None
        self.usage: Usage | None = None

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


class Before(Protocol):
    """Knows the sessions that earlier loops began."""

    def found(self, service: int, connection: int, tag: bytes) -> Starting:
        """Return the protocol of a session that was running before this loop began.

        Its connection_made() follows.
        """

    def counted_out(self, connection: int) -> bool:
        """Say whether a session has ended, and was counted out."""


class Launcher:
    """The loop's end of a launcher: starts in flight, programs running."""

    def __init__(self, number: int, sock: socket.socket, before: Before, changed: Callable[[], None]) -> None:
        """Speak over sock; before knows sessions of before; changed() is called when there is room again."""
        self.number = number
        self.pid = 0
        self.in_flight: dict[int, Process] = {}
        self.running: dict[int, Process] = {}
        self.synced = False
        self.stuck = False
        self.overdue = False
        self.leaving = False
        self._channel = Channel(sock)
        self._before = before
        self._changed = changed
        # Of a LIST. None is an earlier loop's, whose answer may come yet and must settle nothing here.
        self._token = _LISTS + time.monotonic_ns()
        self._unanswered: set[int] = set()
        self._listed: set[int] = set()
        self._oldest = 0
        self._handlers: dict[int, Callable[..., None]] = {
            wire.STARTED: self._started,
            wire.FAILED: self._failed,
            wire.EXITED: self._exited,
            wire.RUNNING: self._is_running,
            wire.LISTED: self._all_listed,
            wire.HELLO: self._hello,
        }
        self._roll_call = RollCall()
        self._list()

    def fileno(self) -> int:
        """Return the descriptor, to poll on."""
        return self._channel.fileno()

    @property
    def usable(self) -> bool:
        """Whether it may be given a start now."""
        return self.synced and not self.stuck and not self.leaving and len(self.in_flight) < IN_FLIGHT

    def start(self, connection: int, head: bytes, client: int, protocol: Starting) -> bool:
        """Send a START packet and the client's socket; return whether the kernel took it.

        The caller keeps its copy of the socket if not, and closes it if it did.
        """
        if self._channel.backed_up:
            return False
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _RIGHTS.pack(client))]
        try:
            self._channel.sock.sendmsg([head], rights, _SEND)
        except OSError as problem:
            if problem.errno in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                return False
            raise
        self.in_flight[connection] = Process(self, connection, protocol)
        return True

    def signal(self, process: Process, number: int) -> None:
        """Pass a signal on."""
        if process.pid and process.status is None:
            self._channel.send(wire.SIGNAL_HEAD.pack(wire.SIGNAL, number, process.pid, process.connection))

    def leave(self) -> None:
        """Let the launcher end with its last program; it gets no more starts."""
        if not self.leaving:
            self.leaving = True
            self._channel.send(bytes([wire.LEAVE]))

    def call_roll(self) -> asyncio.Future[list[str]]:
        """Ask what runs; the answer is how that differs from what is known here."""
        token, answer = self._roll_call.begin(self.in_flight)
        self._channel.send(wire.LIST_HEAD.pack(wire.LIST, token))
        return answer

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
        if len(packet) % wire.REPORT.size:
            raise WireError(f"launcher {self.number} sent a packet of {len(packet)} bytes")
        for kind, *report in wire.REPORT.iter_unpack(packet):
            handler = self._handlers.get(kind)
            if handler is None:
                raise WireError(f"launcher {self.number} sent a report of kind {kind}")
            handler(*report)
        self._changed()
        return True

    def lost(self) -> None:
        """End everything that was here: the launcher is gone and none takes its place."""
        self._roll_call.gone()
        self._unanswered = set(self.in_flight)
        self._listed = set()
        self._settle()

    def close(self) -> None:
        """Let go of the channel."""
        self._channel.sock.close()

    def notice_stuck(self) -> None:
        """Called at intervals of STUCK_AFTER: the same oldest start twice means that it is stuck.

        Three times mean that it is overdue: to be replaced, so that what waits behind it goes on.
        Not at once, since a loop that was stopped itself may only not have read the answers yet.
        """
        oldest = next(iter(self.in_flight), 0)
        self.overdue = self.stuck and oldest == self._oldest
        self.stuck = oldest != 0 and oldest == self._oldest
        self._oldest = oldest

    # Reports

    def _started(self, _status: int, pid: int, service: int, connection: int, *rest: Any) -> None:
        if connection in self.running:
            raise WireError(f"launcher {self.number} started connection {connection:x} twice")
        process = self.in_flight.pop(connection, None)
        if process is None and self.synced:
            raise WireError(
                f"launcher {self.number} started connection {connection:x}, which nobody asked for"
            )
        if process is None:
            process = self._meet(service, connection, rest[-1])
        self._oldest = 0
        self.stuck = False
        process.pid = pid
        self.running[connection] = process
        process.protocol.connection_made(process)

    def _failed(self, status: int, _pid: int, service: int, connection: int, *rest: Any) -> None:
        self._oldest = 0
        self.stuck = False
        process = self.in_flight.pop(connection, None)
        if process is None and not self.synced and not self._before.counted_out(connection):
            process = self._meet(service, connection, rest[-1])
        if process is not None:
            process.protocol.start_failed(status)

    def _exited(self, status: int, pid: int, service: int, connection: int, *rest: Any) -> None:
        """Take a program's end; before the first list is complete, also of one that nobody here has met.

        It ended when there was no loop to be told. Afterwards, or if it was counted out, it is one
        whose end a launcher has reported twice, because it died before it had noted that it had.
        """
        if status != wire.STATUS_UNKNOWN and not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            raise WireError(f"launcher {self.number} sent a wait status of {status:#x}")
        if connection not in self.running:
            known = connection in self.in_flight
            if not known and (self.synced or self._before.counted_out(connection)):
                return
            self._started(0, pid, service, connection, *rest)
        user, system, max_rss, _tag = rest
        self._end(self.running.pop(connection), status, Usage(user, system, max_rss))

    def _is_running(self, _status: int, pid: int, service: int, connection: int, *rest: Any) -> None:
        self._roll_call.heard(connection, pid)
        self._listed.add(connection)
        if connection not in self.running and not (self.synced and self._roll_call.under_way):
            self._started(0, pid, service, connection, *rest)

    def _all_listed(self, _status: int, pid: int, _service: int, token: int, *_rest: Any) -> None:
        self.pid = pid
        self._roll_call.listed(token, self.running, self.in_flight)
        if token == self._token:
            self._settle()

    def _hello(self, version: int, pid: int, *_rest: Any) -> None:
        if version != wire.VERSION:
            raise WireError(f"launcher {self.number} speaks version {version}")
        self.pid = pid
        self._oldest = 0
        self.stuck = False
        self._roll_call.forget()
        self._list()
        if self.leaving:
            self._channel.send(bytes([wire.LEAVE]))

    def _list(self) -> None:
        """Ask what runs; the answer settles what a death may have left open."""
        self._token += 1
        self._unanswered = set(self.in_flight)
        self._listed = set()
        self._channel.send(wire.LIST_HEAD.pack(wire.LIST, self._token))

    def _settle(self) -> None:
        for connection in self._unanswered & self.in_flight.keys():
            self.in_flight.pop(connection).protocol.start_failed(errno.EOWNERDEAD)
        for connection in self.running.keys() - self._listed:
            self._end(self.running.pop(connection), wire.STATUS_UNKNOWN, None)
        self._unanswered = set()
        self._listed = set()
        self.synced = True

    def _meet(self, service: int, connection: int, tag: bytes) -> Process:
        return Process(self, connection, self._before.found(service, connection, tag))

    def _end(self, process: Process, status: int, usage: Usage | None) -> None:
        process.status = status
        process.usage = usage
        process.protocol.process_exited()


class Pool:
    """The launchers of one privilege profile."""

    def __init__(self, more: Callable[[], None]) -> None:
        """Call more() when starts queue up; it asks the master, who has the last word."""
        self.launchers: dict[int, Launcher] = {}
        self.open = False
        """Whether starts are taken: not before all sessions of an earlier loop are known."""
        self._more = more
        self._asked = False

    @property
    def synced(self) -> bool:
        """Whether all launchers have said what runs there."""
        return all(launcher.synced for launcher in self.launchers.values())

    @property
    def busy(self) -> bool:
        """Whether a start is in flight."""
        return any(launcher.in_flight for launcher in self.launchers.values())

    def add(self, launcher: Launcher) -> None:
        """Take in a launcher."""
        self.launchers[launcher.number] = launcher
        self._asked = False

    def choose(self) -> Launcher | None:
        """Return the launcher with the fewest starts before it, or None if none can take one."""
        if not self.open:
            return None
        best: Launcher | None = None
        fewest = IN_FLIGHT
        for launcher in self.launchers.values():
            waiting = len(launcher.in_flight)
            if waiting < fewest and launcher.usable:
                best, fewest = launcher, waiting
        if fewest > 1 and not self._asked and len(self.launchers) < USUAL_LAUNCHERS:
            self._asked = True
            self._more()
        return best

    def notice_stuck(self) -> list[Launcher]:
        """Return the launchers that have become stuck since the last call, one interval ago."""
        before = {launcher for launcher in self.launchers.values() if launcher.stuck}
        for launcher in self.launchers.values():
            launcher.notice_stuck()
        stuck = [
            launcher for launcher in self.launchers.values() if launcher.stuck and launcher not in before
        ]
        if stuck:
            self._asked = True
            self._more()
        return stuck
