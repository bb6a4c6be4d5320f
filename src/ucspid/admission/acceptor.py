"""A service's gate: whether another connection may come in now is decided before every accept.

If it may not, the service is held: its listeners leave the event loop and clients wait in the
kernel's backlog until what holds it is over. The one who ends it calls resume(), which tries
the listeners at once, so that at a limit a free slot costs one accept and no polling.
"""

import asyncio
import collections
import enum
import errno
import math
import os
import time
from collections.abc import Callable
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from ucspid.admission.listener import Listener, Reserve
from ucspid.limits import Limits, ServiceLimits
from ucspid.observe import events
from ucspid.policy.backoff import Backoff, Throttle
from ucspid.spawn import Pool

BATCH = 16
"""Connections accepted at one wake-up before others get their turn."""

_CLIENT_LEFT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ETIMEDOUT})
"""What accept(2) says of a connection that ended, or was forbidden, before it was accepted."""

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class Hold(enum.StrEnum):
    """Why a service accepts nothing now."""

    CLOSED = "closed"
    FULL = "full"
    DAEMON_FULL = "daemon_full"
    RATE = "rate"
    LAUNCHERS = "launchers"
    THROTTLED = "throttled"
    RULES = "rules"
    ACCEPT = "accept_failed"


class Turns:
    """Services that wait for the same thing, and go on in turn when it is there."""

    def __init__(self, reason: Hold, available: Callable[[], bool]) -> None:
        """Serve those held for this reason, while what they wait for is available."""
        self._reason = reason
        self._available = available
        self._gates: collections.OrderedDict[Gate, None] = collections.OrderedDict()

    def wait(self, gate: "Gate") -> None:
        """Put a gate at the end; one that waits already, as it may after a reload, keeps its place."""
        self._gates[gate] = None

    def go_on(self) -> None:
        """Resume the gates that have waited longest."""
        while self._gates and self._available():
            gate, _ = self._gates.popitem(last=False)
            gate.resume(self._reason)


class Serving(Protocol):
    """What a gate asks and tells of its service."""

    limits: ServiceLimits
    throttle: Throttle
    pool: Pool
    pool_turns: Turns

    @property
    def name(self) -> str:
        """The service's name."""

    def arrived(self, descriptor: int, ip: str, port: int, listener: Listener) -> None:
        """Take an accepted connection."""

    @property
    def fresh(self) -> bool:
        """Whether its rules may be used as they are."""

    def refresh(self) -> None:
        """Look whether the rules have changed, and resume the gate then."""

    def start_ready(self) -> None:
        """Begin sessions of connections that are in already and wait for a slot."""

    def dropped(self, remote: str, reason: str) -> None:
        """Count a connection that was accepted only to be closed."""


class Gate:
    """The listeners of a service, and whether they are open."""

    def __init__(
        self, service: Serving, daemon: Limits, turns: Turns, reserve: Reserve, log: FilteringBoundLogger
    ) -> None:
        """Begin closed; turns are those of services waiting for a slot of the daemon."""
        self.held: Hold | None = Hold.CLOSED
        self.listeners: list[Listener] = []
        self._service = service
        self._daemon = daemon
        self._turns = turns
        self._reserve = reserve
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._backoff = Backoff(0.1, 5.0, 10.0)

    def serve(self, listeners: list[Listener]) -> None:
        """Accept on these listeners from now on, and on no others."""
        for listener in self.listeners:
            self._disarm(listener)
        self.listeners = listeners
        self.held = Hold.CLOSED
        if listeners:
            self.resume(Hold.CLOSED)

    def resume(self, reason: Hold) -> None:
        """Open again if it was held for this reason."""
        if self.held is not reason:
            return
        self.held = None
        self._cancel_timer()
        self._service.start_ready()
        for _ in range(len(self.listeners)):
            self.listeners.append(self.listeners.pop(0))  # each is the first in its turn
            if not self._accept(self.listeners[-1]):
                return
        loop = asyncio.get_running_loop()
        for listener in self.listeners:
            if not listener.armed:
                listener.armed = True
                loop.add_reader(listener.sock, self._accept, listener)

    def check(self) -> None:
        """Hold the service now if another connection could not come in: it need not come to be so."""
        if self.held is None:
            self._must_wait()

    def _accept(self, listener: Listener) -> bool:
        """Accept what waits, a batch at most; return False if the service is held now."""
        for _ in range(BATCH):
            if self._must_wait():
                return False
            try:
                descriptor, (ip, port) = listener.accept()
            except BlockingIOError:
                return True
            except OSError as problem:
                if problem.errno in _CLIENT_LEFT:
                    continue
                self._cannot_accept(listener, problem)
                return False
            self._service.arrived(descriptor, ip, port, listener)
            if not listener.waited_for:
                return True
        return True

    def _must_wait(self) -> bool:
        """Hold the service if no connection may come in now."""
        service = self._service
        now = time.monotonic()
        pause = service.throttle.wait(now)
        room = service.limits.room(now)
        if pause > 0:
            self._hold(Hold.THROTTLED, pause)
        elif room == math.inf and self._daemon.full:
            self._hold(Hold.DAEMON_FULL)
            self._turns.wait(self)
        elif room == math.inf:
            self._hold(Hold.FULL)
        elif room > 0:
            self._hold(Hold.RATE, room)
        elif not service.fresh:
            self._hold(Hold.RULES)
            service.refresh()
        elif service.pool.choose() is None:
            self._hold(Hold.LAUNCHERS)
            service.pool_turns.wait(self)
        else:
            return False
        return True

    def _cannot_accept(self, listener: Listener, problem: OSError) -> None:
        reason = os.strerror(problem.errno or 0)
        if problem.errno in _NO_DESCRIPTORS:
            remote = self._reserve.send_one_away(listener.sock)
            if remote is not None:
                self._service.dropped(remote, reason)
        pause = self._backoff.failed(time.monotonic())
        events.accept_failed(self._log, self._service.name, listener.text, reason, pause)
        self._hold(Hold.ACCEPT, pause)

    def _hold(self, reason: Hold, seconds: float | None = None) -> None:
        self.held = reason
        for listener in self.listeners:
            self._disarm(listener)
        self._cancel_timer()
        if seconds is not None:
            # uvloop counts milliseconds: less than half of one would be no time at all, and spin.
            pause = math.ceil(seconds * 1000) / 1000
            self._timer = asyncio.get_running_loop().call_later(pause, self.resume, reason)

    def _disarm(self, listener: Listener) -> None:
        if listener.armed:
            listener.armed = False
            asyncio.get_running_loop().remove_reader(listener.sock)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
