"""When a preloaded program that has changed is imported again: when nothing more changes for a moment."""

import time
from collections.abc import Callable
from functools import partial

from ucspid.master.poller import Poller

QUIET = 0.3
"""Seconds without a further change."""

MAX_WAIT = 3.0
"""Seconds after which it is imported all the same."""


class Renewals:
    """Waits, for each profile by its number. A launcher is not trusted: it may report changes without end."""

    def __init__(self, poller: Poller, renew: Callable[[int], None]) -> None:
        """Call renew() with the number of the profile."""
        self._poller = poller
        self._renew = renew
        self._changed: dict[int, tuple[float, float]] = {}
        """When the first and the last change of those was that are waited for."""

    def want(self, profile: int) -> None:
        """Renew a profile's program soon."""
        now = time.monotonic()
        first = self._changed.get(profile, (None,))[0]
        self._changed[profile] = now if first is None else first, now
        if first is None:
            self._poller.call_in(QUIET, partial(self._look, profile))

    def _look(self, profile: int) -> None:
        first, last = self._changed[profile]
        now = time.monotonic()
        wait = min(last + QUIET, first + MAX_WAIT) - now
        if wait > 0.0:
            self._poller.call_in(wait, partial(self._look, profile))
        else:
            del self._changed[profile]
            self._renew(profile)
