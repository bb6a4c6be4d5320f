"""When a service is full, and when it has room again: two events, however often that changes.

At its limit a service is full and has room many times a second. It counts as full from the first
time on until there has been room for a while.
"""

import asyncio
import time

from structlog.typing import FilteringBoundLogger

from ucspid.observe import events

ROOM_FOR = 10.0
"""Seconds without being full after which a service has room again."""


class Fullness:
    """Says so of one service. What it is told costs an assignment, but for the first time."""

    __slots__ = ("_last", "_log", "_since", "now")

    def __init__(self, log: FilteringBoundLogger) -> None:
        """Begin with room."""
        self.now = False
        """Whether the service is full at this moment."""
        self._log = log
        self._since: float | None = None
        self._last = 0.0

    def fills(self, service: str, hold: str, max_connections: int) -> None:
        """Take note that nothing more is accepted: for want of a slot of the service, or of the daemon."""
        self.now = True
        if self._since is None:
            self._since = time.monotonic()
            events.service_full(self._log, service, hold, max_connections)
            self._look_later(service, ROOM_FOR)

    def empties(self) -> None:
        """Take note that there is room."""
        self.now = False
        self._last = time.monotonic()

    def _look_later(self, service: str, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look, service)

    def _look(self, service: str) -> None:
        """Say that there is room if there has been some for long enough."""
        assert self._since is not None
        now = time.monotonic()
        wait = ROOM_FOR if self.now else self._last + ROOM_FOR - now
        if wait > 0:
            self._look_later(service, wait)
            return
        events.service_has_room(self._log, service, round(self._last - self._since, 3))
        self._since = None
