"""A launcher at work: receives accepted sockets, starts programs on them, reaps, reports.

One thread, no signal handlers, nothing read from the network. The loop can name a service
and a connection's variables, never a program; only the master can say what a service runs.
"""

import contextlib
import errno
import os
import select
from collections.abc import Callable

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, close_all
from ucspid.ipc.session_table import Table
from ucspid.launcher.programs import Program
from ucspid.linux import process_group
from ucspid.linux.lending import Lending
from ucspid.linux.prctl import read_signals

IN_FLIGHT = 2
"""Starts that a launcher takes before it has answered one: the one it is at, and the next.

More wait in the kernel's backlog, in order, for whichever launcher is free first, and not behind
one that is suspended for long. It is also how many clients a launcher that hangs holds up."""

_REPORTS_IN_A_PACKET = 256
_NO_TAG = bytes(wire.TAG_SIZE)
_READ_AND_WRITE = select.POLLIN | select.POLLOUT
_START = bytes([wire.START])

Handler = Callable[[bytes, list[int]], None]
"""Takes a message and the descriptors that came with it."""


class Launcher:
    """The state of one launcher process."""

    def __init__(self, master: Channel, loop: Channel, table: Table, signalfd: int, lending: Lending) -> None:
        """Serve the master and the loop over their channels; signalfd says SIGCHLD, limit is for programs."""
        self._master = master
        self._loop = loop
        self._table = table
        self._signalfd = signalfd
        self._lending = lending
        self._programs: dict[int, Program] = {}
        self._running: dict[int, int] = {}
        self._orphans: set[int] = set()
        self._ended: list[int] = []
        self._reports: list[bytes] = []
        self._leaving = False
        self._loop_gone = False
        self._masterless = False
        self._awaits_room = False
        self._poll = select.poll()
        self._handlers: dict[Channel, dict[int, Handler]] = {
            master: {
                wire.SetProgram.KIND: self._set_program,
                wire.AllowNames.KIND: self._allow,
                wire.ForbidNames.KIND: self._forbid,
                wire.RemovePrograms.KIND: self._remove,
                wire.OrphanExit.KIND: self._orphan_exited,
            },
            loop: {
                wire.START: self._start,
                wire.SIGNAL: self._signal,
                wire.LIST: self._list,
                wire.LEAVE: self._leave,
            },
        }

    def take_over(self, orphans: set[int]) -> None:
        """Take over the sessions of a predecessor: orphans are its programs that still run.

        A session that was being started when it died has no process noted; if one orphan is
        in nobody's slot, that is it (programs lead a process group, so the master can tell
        them from strays).
        """
        unclaimed = orphans - {self._table.read(slot)[1] for slot in self._table.taken()}
        for slot in list(self._table.taken()):
            process = self._table.read(slot)[1]
            if process == 0 and unclaimed:
                process = unclaimed.pop()
                self._table.started(slot, process)
                self._report(wire.STARTED, slot)
            if process in orphans:
                self._running[process] = slot
                self._orphans.add(process)
            elif process == 0:
                self._report(wire.FAILED, slot, errno.EOWNERDEAD)
                self._ended.append(slot)
            else:
                self._end(slot, wire.STATUS_UNKNOWN, (0, 0, 0))

    def run(self) -> None:
        """Serve until told to leave and the last program has ended, or nobody is left to serve.

        Raises WireError for what neither the master nor the loop sends. The programs are not
        harmed by it: they go on, and the launcher's successor takes them over.
        """
        for descriptor in (self._master.fileno(), self._loop.fileno(), self._signalfd):
            self._poll.register(descriptor, select.POLLIN)
        self._reports.insert(0, _report(wire.HELLO, wire.VERSION, os.getpid(), IN_FLIGHT))
        self._flush()
        while not self._leaving or self._running or self._loop.backed_up:
            for descriptor, events in self._poll.poll():
                if descriptor == self._signalfd:
                    self._reap()
                    continue
                if events & select.POLLOUT:
                    self._flush()
                if descriptor == self._master.fileno():
                    self._hear_master_out()
                elif events & ~select.POLLOUT:
                    self._hear_loop()
            if self._reports:
                self._flush()

    def hear_master(self, packet: bytes, descriptors: list[int]) -> None:
        """Take a packet of the master's, which was received already. Raises WireError."""
        self._take(self._master, packet, descriptors)

    def _hear_master_out(self) -> None:
        """Take all messages of the master.

        What the loop asks may rest on it: both were there when poll(2) returned, which names the
        master first, as it was registered first.
        """
        while not self._masterless and (received := self._master.receive()) is not None:
            self.hear_master(*received)

    def _hear_loop(self) -> None:
        received = self._loop.receive()
        if received is not None:
            packet, descriptors = received
            if descriptors and packet[:1] != _START:
                close_all(descriptors)
                raise WireError("descriptors with a message that takes none")
            self._take(self._loop, packet, descriptors)

    def _take(self, channel: Channel, packet: bytes, descriptors: list[int]) -> None:
        if packet:
            handler = self._handlers[channel].get(packet[0])
            if handler is None:
                raise WireError(f"a message of kind {packet[0]} from one that may not send it")
            handler(packet, descriptors)
            return
        self._poll.unregister(channel.fileno())
        if channel is self._loop:
            self._leaving = True
            self._loop_gone = True
        else:
            self._master_gone()

    # What the loop asks

    def _start(self, packet: bytes, descriptors: list[int]) -> None:
        _kind, service, connection, tag = wire.unpack(wire.START_HEAD, packet, exact=False)
        slot = None
        try:
            slot = self._table.claim(connection, service, tag)
            variables = packet[wire.START_HEAD.size :]
            process = self._programs[service].start(descriptors[0], variables, self._lending)
        except (OSError, OverflowError, LookupError, ValueError, WireError) as problem:
            reason = problem.errno if isinstance(problem, OSError) else errno.EINVAL
            self._reports.append(_report(wire.FAILED, reason or 0, 0, service, connection, tag=tag))
            if slot is not None:
                self._ended.append(slot)
        else:
            self._table.started(slot, process)
            self._running[process] = slot
            self._reports.append(_report(wire.STARTED, 0, process, service, connection, tag=tag))
        finally:
            close_all(descriptors)

    def _signal(self, packet: bytes, _descriptors: list[int]) -> None:
        _kind, number, process, connection = wire.unpack(wire.SIGNAL_HEAD, packet)
        slot = self._running.get(process)
        if slot is None or self._table.read(slot)[0] != connection:
            return
        if process in self._orphans:
            self._master.send(wire.SignalOrphan(number, process).pack())
            return
        process_group.send_signal(process, number)

    def _list(self, packet: bytes, _descriptors: list[int]) -> None:
        _kind, token = wire.unpack(wire.LIST_HEAD, packet)
        for slot in self._running.values():
            self._report(wire.RUNNING, slot)
        self._reports.append(_report(wire.LISTED, 0, os.getpid(), IN_FLIGHT, token))

    def _leave(self, _packet: bytes, _descriptors: list[int]) -> None:
        self._leaving = True

    # What the master says

    def _set_program(self, packet: bytes, descriptors: list[int]) -> None:
        """Take a service's program, or another one for a service that has one."""
        message = wire.SetProgram.unpack(packet)
        program = Program(message, descriptors)
        before = self._programs.get(message.service)
        if before is not None:
            program.allow(before.allowed)
            before.close()
        self._programs[message.service] = program

    def _allow(self, packet: bytes, _descriptors: list[int]) -> None:
        message = wire.AllowNames.unpack(packet)
        self._program(message.service).allow(message.names)

    def _forbid(self, packet: bytes, _descriptors: list[int]) -> None:
        message = wire.ForbidNames.unpack(packet)
        self._program(message.service).forbid(message.names)

    def _remove(self, packet: bytes, _descriptors: list[int]) -> None:
        for service in wire.RemovePrograms.unpack(packet).services:
            self._program(service).close()
            del self._programs[service]

    def _program(self, service: int) -> Program:
        try:
            return self._programs[service]
        except KeyError:
            raise WireError(f"service {service} has no program here") from None

    def _orphan_exited(self, packet: bytes, _descriptors: list[int]) -> None:
        ended = wire.OrphanExit.unpack(packet)
        slot = self._running.pop(ended.process, None)
        if slot is not None:
            self._orphans.discard(ended.process)
            self._end(slot, ended.status, (ended.user, ended.system, ended.max_rss))

    def _master_gone(self) -> None:
        """Stop waiting for the orphans: no process will report their end."""
        self._masterless = True
        for process in self._orphans:
            self._end(self._running.pop(process), wire.STATUS_UNKNOWN, (0, 0, 0))
        self._orphans.clear()

    # Programs that ended

    def _reap(self) -> None:
        """Report the programs that have ended; a child that a program has made is not one (CLONE_PARENT)."""
        read_signals(self._signalfd)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                process, status, usage = ended
                slot = self._running.pop(process, None)
                if slot is not None:
                    used = (int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss)
                    self._end(slot, status, used)

    def _end(self, slot: int, status: int, used: tuple[int, int, int]) -> None:
        self._report(wire.EXITED, slot, status, used)
        self._ended.append(slot)

    # Reports

    def _report(self, kind: int, slot: int, status: int = 0, used: tuple[int, int, int] = (0, 0, 0)) -> None:
        connection, process, service, tag = self._table.read(slot)
        self._reports.append(wire.REPORT.pack(kind, status, process, service, connection, *used, tag))

    def _flush(self) -> None:
        """Send the reports; a slot is cleared only when its end was sent, so that no crash hides it."""
        for start in range(0, len(self._reports), _REPORTS_IN_A_PACKET):
            self._loop.send(b"".join(self._reports[start : start + _REPORTS_IN_A_PACKET]))
        self._reports.clear()
        if self._loop.backed_up or self._awaits_room:
            self._loop.flush()
            self._await_room()
        if not self._loop.backed_up:
            for slot in self._ended:
                self._table.release(slot)
            self._ended.clear()

    def _await_room(self) -> None:
        """Have poll(2) say when the loop reads on, for as long as reports wait for that."""
        self._awaits_room = self._loop.backed_up
        if not self._loop_gone:
            self._poll.modify(self._loop, _READ_AND_WRITE if self._awaits_room else select.POLLIN)


def _report(
    kind: int, status: int, process: int = 0, service: int = 0, connection: int = 0, *, tag: bytes = _NO_TAG
) -> bytes:
    return wire.REPORT.pack(kind, status, process, service, connection, 0, 0, 0, tag)
