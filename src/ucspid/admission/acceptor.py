"""Whether a service's connections may come in, and whether those that are in may start.

Decided from the state, at any time.

reevaluate() starts whoever waits in the service's queue, as far as slots and launchers go, and
accepts as long as another connection could begin. For what cannot be now it arranges to be
called again: by a timer, by its turn for a daemon's slot or a launcher, or because the service
calls it whenever a slot is released. While nothing can be accepted the listeners are out of the
event loop: clients wait in the kernel's backlog, and nobody wakes up for them. The reason is for
people; nothing depends on it.
"""

import asyncio
import errno
import math
import os
import time
from collections.abc import Callable
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from ucspid.admission.connection import Connection
from ucspid.admission.fullness import Fullness
from ucspid.admission.listener import Listener, Reserve
from ucspid.admission.listening import Listening
from ucspid.admission.obstacles import NEVER, Block, Hold, Obstacles, Obstructed
from ucspid.admission.turns import NOWHERE, Places, Turns
from ucspid.limits import Limits
from ucspid.observe import events
from ucspid.policy.backoff import Backoff

BATCH = 16
"""Connections accepted at one wake-up before others get their turn."""

_CLIENT_LEFT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ETIMEDOUT})
"""Errors of accept(2) for a connection that ended, or was forbidden, before it was accepted."""

_FULL = frozenset({Hold.FULL, Hold.DAEMON_FULL})

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class Serving(Obstructed, Protocol):
    """What an acceptor asks of its service, and does to it."""

    pool_turns: Turns

    @property
    def name(self) -> str:
        """The service's name."""

    def arrived(self, descriptor: int, ip: str, port: int, listener: Listener) -> None:
        """Take an accepted connection."""

    def wait_for_rules(self) -> None:
        """Reevaluate when the rules file has been read."""

    def start(self, connection: Connection) -> None:
        """Begin the session of a connection that has a session's slot."""

    def refuse_full(self, connection: Connection) -> None:
        """Refuse an admitted connection: there is no slot."""

    def dropped(self, remote: str, reason: str) -> None:
        """Count a connection that was accepted only to be closed."""


class Acceptor:
    """The listeners of a service, and the connections that wait for a slot or a launcher."""

    def __init__(
        self, service: Serving, daemon: Limits, turns: Turns, reserve: Reserve, log: FilteringBoundLogger
    ) -> None:
        """Begin closed; turns are those of services waiting for a slot of the daemon."""
        self.held: Hold | None = Hold.CLOSED
        self.queue: list[Connection] = []
        """Admitted connections in their order; each holds a slot of its client, and none of a session.

        It is short, and empty for most services: an empty deque takes ten times the memory."""
        self._service = service
        self._daemon = daemon
        self._daemon_turns = turns
        self._reserve = reserve
        self._log = log
        self._listening = Listening(self._readable)
        self._obstacles = Obstacles(service, self._listening)
        self._places = Places(self)
        self._fullness = Fullness(log)
        self._timer: asyncio.TimerHandle | None = None
        self._backoff = Backoff(0.1, 5.0, 10.0)
        self._busy = False
        self._asked_again = False

    def serve(self, listeners: list[Listener]) -> None:
        """Accept on these listeners from now on, and on no others."""
        self._listening.change(listeners)
        self.held = Hold.CLOSED
        self._obstacles.accept_after = NEVER
        self.reevaluate()

    @property
    def listeners(self) -> list[Listener]:
        """The listeners of the service."""
        return self._listening.listeners

    @property
    def clients_waiting(self) -> int:
        """How many clients wait: in the kernel's backlogs, and admitted ones for a slot or a launcher."""
        return len(self.queue) + sum(listener.backlog for listener in self.listeners)

    @property
    def paused(self) -> bool:
        """Whether an operator wants nothing to be accepted; queued connections still start."""
        return self._obstacles.paused

    def pause(self, *, paused: bool) -> None:
        """Accept nothing from now on, or accept again."""
        self._obstacles.paused = paused
        self._work(self._accept_in_turn)

    def enqueue(self, connection: Connection) -> None:
        """Have an admitted connection started in its turn; at once, where nothing stands in the way."""
        self.queue.append(connection)
        if self._busy:
            self._start_queued()
        else:
            self.reevaluate()
        service = self._service
        if service.settings.on_full == "refuse" and service.limits.full and connection in self.queue:
            self.queue.remove(connection)
            service.refuse_full(connection)

    def empty(self) -> list[Connection]:
        """Return the connections of the queue, which is empty then: they are the caller's to refuse."""
        waiting, self.queue = self.queue, []
        return waiting

    def reevaluate(self) -> None:
        """Start and accept what may be now; arrange to be called for the rest. May be called at any time."""
        if self.held is None and not self.queue:
            return  # the listeners are in the event loop, which says when there is something to do
        self._work(self._accept_in_turn)

    def waits_in_vain(self) -> Hold | None:
        """Return the hold of a service that waits though nothing stands in its way: None, but for a bug."""
        now = time.monotonic()
        queued = bool(self.queue) and self._obstacles.to_start(now) is None
        accepting = self.held is not None and self._obstacles.to_accept(now) is None
        return self.held or Hold.LAUNCHERS if queued or accepting else None

    def _readable(self, listener: Listener) -> None:
        """Accept on a listener at which a client waits."""
        if self.queue:
            self._work(lambda: self._accept(listener))
            return
        self._busy = True
        try:
            block = self._accept(listener)
            if block is not None or self.queue:
                self._settle(block)
        finally:
            self._busy = False
        if self._asked_again:
            self._come_back()

    def _work(self, accept: Callable[[], Block | None]) -> None:
        """Start who waits, accept, and wait for what is lacking.

        What is called from here may call reevaluate(): that comes when this is done.
        """
        if self._busy:
            self._asked_again = True
            return
        self._busy = True
        try:
            self._start_queued()
            self._settle(accept())
        finally:
            self._busy = False
        if self._asked_again:
            self._come_back()

    def _come_back(self) -> None:
        self._asked_again = False
        asyncio.get_running_loop().call_soon(self.reevaluate)

    def _start_queued(self) -> None:
        """Begin the sessions of connections that only wait to start, as far as they may."""
        while self.queue and self._obstacles.to_start(time.monotonic()) is None:
            connection = self.queue.pop(0)
            assert connection.slot is not None
            self._service.limits.begin(connection.slot)
            self._service.start(connection)

    def _accept_in_turn(self) -> Block | None:
        for listener in self._listening.in_turn():
            block = self._accept(listener)
            if block is not None:
                return block
        return self._obstacles.to_accept(time.monotonic())

    def _accept(self, listener: Listener) -> Block | None:
        """Accept what waits, a batch at most; return what stands in the way of more."""
        for _ in range(BATCH):
            block = self._obstacles.to_accept(time.monotonic())
            if block is not None:
                return block
            try:
                descriptor, (ip, port) = listener.accept()
            except BlockingIOError:
                return None
            except OSError as problem:
                if problem.errno in _CLIENT_LEFT:
                    continue
                return self._cannot_accept(listener, problem)
            self._service.arrived(descriptor, ip, port, listener)
            if not listener.waited_for:
                return self._obstacles.to_accept(time.monotonic()) if self.queue else None
        return None

    def _cannot_accept(self, listener: Listener, problem: OSError) -> Block:
        now = time.monotonic()
        reason = os.strerror(problem.errno or 0)
        if problem.errno in _NO_DESCRIPTORS:
            client = self._reserve.send_one_away(listener)
            if client is not None:
                self._service.dropped(client, reason)
        pause = self._backoff.failed(now)
        self._obstacles.accept_after = now + pause
        events.accept_failed(self._log, self._service.name, listener.text, reason, pause)
        return Block(Hold.ACCEPT, pause)

    def _settle(self, accepting: Block | None) -> None:
        """Open or close the listeners; wait for what stands in the way of accepting, and of the queue."""
        starting = self._obstacles.to_start(time.monotonic()) if self.queue else None
        self.held = None if accepting is None else accepting.hold
        if self.held in _FULL and self._limit(self.held):  # with a limit of 0, that is what is wanted
            self._fullness.fills(self._service.name, self.held, self._limit(self.held))
        elif self._fullness.now:
            self._fullness.empties()
        if self.held is Hold.RULES:
            self._service.wait_for_rules()
        if accepting is None:
            self._listening.open()
        else:
            self._listening.close()
        blocks = [block for block in (accepting, starting) if block is not None]
        holds = {block.hold for block in blocks}
        turns = NOWHERE
        if Hold.DAEMON_FULL in holds:
            turns |= {self._daemon_turns}
        if Hold.LAUNCHERS in holds:
            turns |= {self._service.pool_turns}
        self._places.change(turns)
        self._set_timer(min((block.seconds for block in blocks), default=math.inf))

    def _limit(self, hold: Hold) -> int:
        return self._service.limits.max_connections if hold is Hold.FULL else self._daemon.max_connections

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds < math.inf:
            # uvloop counts milliseconds: less than half of one would be no time at all, and spin.
            pause = math.ceil(seconds * 1000) / 1000
            self._timer = asyncio.get_running_loop().call_later(pause, self.reevaluate)
