"""Which refusals are logged one by one, and which only in a summary: a flood must not fill the log."""

import collections
from typing import Any

from ucspid.policy import validate

SINGLE = 5
"""Refusals of a service that are logged one by one in each window."""

WINDOW = 10.0
"""Seconds that a summary covers."""


class Refusals:
    """The refusals of one service in the current window."""

    __slots__ = ("_ends", "_logged", "_unreported")

    def __init__(self) -> None:
        """Begin with none."""
        self._ends = 0.0
        self._logged = 0
        self._unreported: collections.Counter[str] = collections.Counter()

    def note(self, reason: str, now: float) -> bool:
        """Count a refusal; return whether to log it by itself.

        When unreported becomes 1, have summary() called at the end of the window.
        """
        if now >= self._ends and not self._unreported:
            self._ends = now + WINDOW
            self._logged = 0
        if self._logged < SINGLE:
            self._logged += 1
            return True
        self._unreported[reason] += 1
        return False

    @property
    def unreported(self) -> int:
        """How many refusals wait for the summary."""
        return self._unreported.total()

    @property
    def ends(self) -> float:
        """When the window ends."""
        return self._ends

    def summary(self) -> dict[str, int]:
        """Return the refusals that were not logged, by reason, and forget them."""
        unreported = dict(self._unreported)
        self._unreported.clear()
        return unreported

    def to_state(self) -> list[float]:
        """Return what from_state() takes: the window. Call summary() first: its refusals are not in it."""
        return [self._ends, self._logged]

    def from_state(self, state: Any, now: float) -> None:
        """Go on in the window that to_state() was asked of.

        Raises ValueError for what it cannot have said by now, and changes nothing then.
        """
        ends, logged = validate.row(state, 2)
        window = validate.number(ends, 0.0, now + WINDOW), validate.whole(logged, 0, SINGLE)
        self._ends, self._logged = window
