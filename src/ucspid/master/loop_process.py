"""One process of the event loop, as the master speaks with it: orders out, notes in.

Notes have a fixed layout, and are not trusted: the loop is what meets the network. Whatever goes
wrong with a process has it killed, and another one takes its place.
"""

import contextlib
import os
import signal
from typing import Any, Protocol

from ucspid.errors import ResourceError, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.orders import LogEvent, Order
from ucspid.linux.fd_limit import why
from ucspid.master import events, roles
from ucspid.master.event_log import EventLog
from ucspid.master.poller import Poller, Timer

MAX_UNREAD = 1000
"""Orders that may wait for a process to read them, beyond one for each descriptor that it was sent."""

EXIT_TIMEOUT = 5.0
"""Seconds that a process may live on after it has closed its channel."""


class ProcessObserver(Protocol):
    """Who has started a process of the loop."""

    def note(self, process: "LoopProcess", kind: int, number: int, token: int) -> None:
        """Take a note, see ipc.messages. Raises WireError for one that no loop sends."""

    def room(self, process: "LoopProcess") -> None:
        """Send more, as the process reads on."""


class LoopProcess:
    """One process of the event loop, and its channel."""

    def __init__(
        self, pid: int, channel: Channel, poller: Poller, log: EventLog, observer: ProcessObserver
    ) -> None:
        """Listen to a process that has been sent nothing yet."""
        self.pid = pid
        self.channel = channel
        self.ready = False
        """Whether it has imported everything, and only waits to be sent the plan."""
        self.outdated = False
        """Whether it was started by an earlier image of the master: its code is not ours."""
        self.killed = False
        self._poller = poller
        self._log = log
        self._observer = observer
        self._listening = True
        self._unread_descriptors = 0
        """Descriptors that it was sent since it had last read everything."""
        self._deadline: Timer | None = None
        self._watch()

    @classmethod
    def start(cls, poller: Poller, log: EventLog, observer: ProcessObserver) -> "LoopProcess":
        """Start one. Raises ResourceError."""
        try:
            ours, theirs = pair()
        except OSError as problem:
            raise ResourceError(f"cannot start the event loop: {why(problem)}") from None
        with theirs:
            try:
                return cls(roles.start_loop(theirs.fileno()), Channel(ours), poller, log, observer)
            except OSError as problem:
                ours.close()
                raise ResourceError(f"cannot start the event loop: {why(problem)}") from None

    def due(self, seconds: float, what: str) -> None:
        """Kill it unless in_time() is called within some seconds; what says what it did not do then."""
        self.in_time()
        reason = f"{what} within {seconds:g} s"
        self._deadline = self._poller.call_in(seconds, lambda: self.give_up(reason))

    def in_time(self) -> None:
        """Cancel due(): it has done it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def busy(self) -> bool:
        """Whether it has something to do in a time of its own: see due()."""
        return self._deadline is not None

    def kill(self) -> None:
        """Kill it; it has not been reaped yet."""
        self.killed = True
        if self.pid:  # kill(2): 0 would be our own process group
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Forget a process that has ended; of what it said last, only what it has logged matters."""
        with contextlib.suppress(WireError, OSError):
            while packet := self.channel.receive_packet():
                if wire.Note.unpack(packet).kind == wire.NOTE_LOGGED:
                    self._log.logged()
        self.in_time()
        self._stop_listening()
        self.channel.close()

    def send(self, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        """Give it an order, which waits if the process is slow to read.

        One that cannot be sent something, since the system has no memory or descriptors for it, or that
        does not read, is killed: another is sent everything.
        """
        try:
            self.channel.send(orders.pack(order), descriptors)
        except OSError as problem:
            self.give_up(f"it cannot be sent what it needs: {why(problem)}")
        else:
            self._unread_descriptors += len(descriptors)
            if not self.channel.backed_up:
                self._unread_descriptors = 0
            elif self.channel.backlog > MAX_UNREAD + self._unread_descriptors:
                self.give_up("it does not read what it is sent")
        self._watch()

    def log(self, event: dict[str, Any]) -> bool:
        """Have an event logged, if it reads what it is sent; return whether it does."""
        if self.killed or self.channel.backed_up:
            return False
        self.send(LogEvent(**event))
        return not self.killed

    def give_up(self, reason: str) -> None:
        """Kill it, log why, and read nothing more from it."""
        if not self.killed:
            self.kill()
            self._stop_listening()
            events.loop_broken(self._log, reason)

    def _watch(self) -> None:
        if self._listening:
            self._poller.watch(self.channel.fileno(), self._receive, write=self.channel.backed_up)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._poller.forget(self.channel.fileno())

    def _receive(self) -> None:
        self.channel.flush()
        try:
            packet = self.channel.receive_packet()
            if packet:
                self._note(packet)
            elif packet == b"":
                self._stop_listening()  # it is about to exit, or it was taken over
                self._poller.call_in(EXIT_TIMEOUT, self._check_gone)
        except WireError as problem:
            self.give_up(str(problem))
        if self._listening:
            self._observer.room(self)
        self._watch()

    def _note(self, packet: bytes) -> None:
        note = wire.Note.unpack(packet)
        if note.kind == wire.NOTE_LOGGED:
            self._log.logged()
            return
        if note.kind == wire.NOTE_READY:
            if note.number != wire.VERSION:
                raise WireError(f"it speaks version {note.number}")
            self.ready = True
        self._observer.note(self, note.kind, note.number, note.token)

    def _check_gone(self) -> None:
        if self.channel.fileno() >= 0:
            self.kill()
