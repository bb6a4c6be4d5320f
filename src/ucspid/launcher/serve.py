"""A launcher at work: receives accepted sockets, starts programs on them, reaps, reports.

One thread, no signal handlers, nothing read from the network. The loop can name a service
and a connection's variables, never a program; only the master can say what a service runs.
"""

import os
import select
from collections.abc import Callable

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, close_all
from ucspid.ipc.session_table import Table
from ucspid.launcher.programs import Programs
from ucspid.launcher.reports import Reports
from ucspid.launcher.sessions import RunningPrograms
from ucspid.linux.prctl import read_signals

IN_FLIGHT = 2
"""Starts that a launcher takes before it has answered one: the one it is at, and the next.

More wait in the kernel's backlog, in order, for whichever launcher is free first, and not behind
one that is suspended for long. It is also how many clients a launcher that hangs holds up."""

_READ_AND_WRITE = select.POLLIN | select.POLLOUT

Handler = Callable[[bytes, list[int]], None]
"""Takes a message and the descriptors that came with it."""


class Chore:
    """Something that a launcher does, as often as it is due, when nothing has come for a moment."""

    due = False

    def quiet(self) -> float:
        """Return for how many seconds nothing must have come."""
        raise NotImplementedError

    def do(self) -> None:
        """Do it; it is no longer due."""
        raise NotImplementedError

    def end(self) -> None:
        """Undo it: it will not be needed any more."""
        raise NotImplementedError


class Launcher:
    """The state of one launcher process."""

    def __init__(
        self, master: Channel, loop: Channel, table: Table, signalfd: int, programs: Programs
    ) -> None:
        """Serve the master and the loop over their channels; signalfd says SIGCHLD."""
        self.programs = programs
        self.reports = Reports(loop, table)
        self._table = table
        self.sessions = sessions = RunningPrograms(master, table, programs, self.reports)
        self._master = master
        self._loop = loop
        self._sources: dict[int, Callable[[], object]] = {signalfd: self._reap}
        self._signalfd = signalfd
        self._draining = False
        self._loop_gone = False
        self._masterless = False
        self._awaits_room = False
        self._poll = select.poll()
        self._own: tuple[int, ...] = ()
        self._chore: Chore | None = None
        self._handlers: dict[Channel, dict[int, Handler]] = {
            master: {
                wire.SetProgram.KIND: programs.set,
                wire.AllowNames.KIND: programs.allow,
                wire.ForbidNames.KIND: programs.forbid,
                wire.RemovePrograms.KIND: programs.remove,
                wire.OrphanExit.KIND: sessions.orphan_exited,
            },
            loop: {
                wire.Start.KIND: sessions.start,
                wire.Signal.KIND: sessions.signal,
                wire.ListSessions.KIND: self._list,
                wire.Drain.KIND: self._drain,
            },
        }

    def run(self) -> None:
        """Serve until Drain was received and the last program has ended, or loop and master are gone.

        Raises WireError for what neither the master nor the loop sends. The programs are not
        harmed by it: they go on, and the launcher's successor takes them over.
        """
        self._own = (self._master.fileno(), self._loop.fileno(), *self._sources)
        for descriptor in self._own:
            self._poll.register(descriptor, select.POLLIN)
        self.reports.add_first(wire.Report(wire.HELLO, wire.VERSION, os.getpid(), IN_FLIGHT).pack())
        self.flush()
        while not self._draining or self.sessions.running or self._loop.backed_up:
            for descriptor, events in self._events():
                source = self._sources.get(descriptor)
                if source is not None:
                    source()
                    continue
                if events & select.POLLOUT:
                    self.flush()
                if descriptor == self._master.fileno():
                    self._hear_master_out()
                elif events & ~select.POLLOUT:
                    self.hear_loop()
            if self.reports.waiting:
                self.flush()

    def _events(self) -> "list[tuple[int, int]]":
        """Wait for events; do the chore if none come for a moment."""
        chore = self._chore
        if chore is not None and chore.due and not self._draining:
            comes = select.select(self._own, (), (), chore.quiet())[0]
            if not comes:
                chore.do()
        return self._poll.poll()

    def when_quiet(self, chore: Chore) -> None:
        """Have something done when nothing else is to be done; before run()."""
        self._chore = chore

    def listen(self, descriptor: int, readable: Callable[[], object]) -> None:
        """Have something called when a further descriptor is readable; before run()."""
        self._sources[descriptor] = readable

    def abandon(self) -> None:
        """Close all that is the launcher's, in a fork of it that does not return to it."""
        for descriptor in self._own:
            os.close(descriptor)
        self._table.close()
        for program in self.programs.by_service.values():
            if program.stderr is not None:
                os.close(program.stderr)

    def _reap(self) -> None:
        read_signals(self._signalfd)
        self.sessions.reap()

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

    def hear_loop(self) -> None:
        """Take a packet of the loop's, if there is one. Raises WireError."""
        received = self._loop.receive()
        if received is not None:
            packet, descriptors = received
            if descriptors and packet[0] != wire.Start.KIND:
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
            self._begin_draining()
            self._loop_gone = True
        else:
            self._masterless = True
            self.sessions.forget_orphans()

    def _list(self, packet: bytes, _descriptors: list[int]) -> None:
        token = wire.ListSessions.unpack(packet).token
        self.sessions.report_all()
        self.reports.add(wire.Report(wire.LISTED, 0, os.getpid(), IN_FLIGHT, token).pack())

    def _drain(self, packet: bytes, _descriptors: list[int]) -> None:
        wire.Drain.unpack(packet)
        self._begin_draining()

    def _begin_draining(self) -> None:
        self._draining = True
        if self._chore is not None:
            self._chore.end()

    def flush(self) -> None:
        """Send the reports; as long as some wait for the loop to read, poll(2) says when it does."""
        self.reports.flush()
        if self._loop.backed_up or self._awaits_room:
            self._awaits_room = self._loop.backed_up
            if not self._loop_gone:
                self._poll.modify(self._loop, _READ_AND_WRITE if self._awaits_room else select.POLLIN)
