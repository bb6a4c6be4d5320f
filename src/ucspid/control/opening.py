"""How a new loop starts: it accepts once all launchers have reported what they run."""

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from ucspid.control.launchers import Launchers
from ucspid.control.services import Services
from ucspid.observe import events
from ucspid.recovery.takeover import Takeover
from ucspid.spawn import STUCK_AFTER

GIVE_UP_AFTER = 5 * STUCK_AFTER
"""Seconds after which a new loop accepts although a launcher has not reported what it runs.

That launcher could not even be killed: its program's disk hangs. Its sessions are not in the counts.
"""


class Opening:
    """From the first plan until the first accept."""

    def __init__(
        self, services: Services, launchers: Launchers, takeover: Takeover, log: FilteringBoundLogger
    ) -> None:
        """Wait for the first plan."""
        self.known = asyncio.Event()
        """Set when all sessions of an earlier loop are counted."""
        self._services = services
        self._launchers = launchers
        self._takeover = takeover
        self._log = log
        self._begun = False
        self._first: Callable[[], None] | None = None

    @property
    def begun(self) -> bool:
        """Whether the first plan is complete."""
        return self._begun

    def begin(self) -> None:
        """Accept as soon as all launchers have reported what they run: the first plan is complete."""
        self._begun = True
        self.heard()
        if not self._takeover.balanced:
            loop = asyncio.get_running_loop()
            loop.call_later(STUCK_AFTER, self._replace_silent)
            loop.call_later(GIVE_UP_AFTER, self._open)

    def first(self, action: Callable[[], None]) -> None:
        """Act as soon as all sessions are counted, and before anything is accepted."""
        self._first = action

    def heard(self) -> None:
        """Note that a launcher has reported: perhaps it was the last one."""
        if not self._takeover.balanced and self._begun and self._launchers.synced:
            self._takeover.balance(self._services.all_sessions())
            self._open()

    def _replace_silent(self) -> None:
        if not self.known.is_set():
            self._launchers.replace_silent()

    def _open(self) -> None:
        if self.known.is_set():
            return
        self.known.set()
        events.loop_started(self._log, self._services.live)
        self._services.forget_retired()
        for sessions in self._services.all_sessions():
            sessions.all_found()
        if self._first is not None:
            self._first()
        self._launchers.open()
