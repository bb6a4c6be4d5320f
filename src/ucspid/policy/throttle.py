"""Slowing a service whose program cannot be started, without shutting it.

A pure policy: times are monotonic seconds, passed in by the caller, who acts and logs.
"""

from math import inf
from typing import Any

from ucspid.plan import Throttling
from ucspid.policy import validate

GRACE = 1.0
"""Seconds that a program must run to count as started, where nobody has seen it end."""

_NEVER = -inf
"""One object for all services: each -inf that is calculated is another."""

MAX_FAILURES = 1000
"""Failures that are counted; the file allows no more before a service is slowed."""


class Throttle:
    """Spaces a service's starts while they keep failing.

    Only what no client can bring about counts: the system could not start the program. What a
    program makes of its client, its exit status or a crash, is no reason to make others wait. After
    so many failed starts in a row as the settings say, one start is tried at each interval, so the
    service goes on accepting. The first program that starts ends it; so does a reload.
    """

    __slots__ = ("_next", "_settings", "_since", "_started", "failures")

    def __init__(self, settings: Throttling | None) -> None:
        """Start without a failure; None never slows."""
        self.failures = 0
        """Failed starts in a row: where there are none, there is nothing to be asked or noted."""
        self._settings = settings
        self._since = inf
        self._next = _NEVER
        self._started = inf

    def change(self, settings: Throttling | None) -> None:
        """Go on under new settings, as after a success: whoever reloads may have mended the program."""
        self._settings = settings
        self._clear()

    @property
    def interval(self) -> float:
        """Seconds between starts while they are spaced."""
        return 0.0 if self._settings is None else self._settings.interval

    @property
    def throttled(self) -> bool:
        """Whether starts are spaced."""
        return self._settings is not None and self.failures >= self._settings.failures

    def wait(self, now: float) -> float:
        """Return the seconds until the next start may be tried, 0.0 if it may now."""
        if not self.throttled or self._over(now):
            return 0.0
        return max(0.0, self._next - now)

    def starting(self, now: float) -> bool:
        """Note that a start is tried. Return True if that ends the throttling: a program runs by now."""
        if not self.throttled:
            return False
        if self._over(now):
            self._clear()
            return True
        assert self._settings is not None
        self._next = now + self._settings.interval
        return False

    def started(self, now: float) -> None:
        """Note, after failures, that a program was started: a success once it has run for GRACE seconds."""
        self._started = min(self._started, now)

    def failed(self, now: float) -> bool:
        """Count a start that the system refused. Return True if the service is slowed from now on."""
        if self._settings is None:
            return False
        was_throttled = self.throttled
        self.failures = min(self.failures + 1, MAX_FAILURES)
        self._since = min(self._since, now)
        self._started = inf
        if not self.throttled:
            return False
        if not was_throttled:
            self._next = now + self._settings.interval
        return not was_throttled

    def ended(self, handed: float) -> bool:
        """Take note that a program has ended that was handed to a launcher at that time: it was started.

        Return True if that ends the throttling. One that was handed over before the first failure
        proves nothing.
        """
        if handed < self._since:
            return False
        was_throttled = self.throttled
        self._clear()
        return was_throttled

    def to_state(self) -> list[Any]:
        """Return what from_state() takes, in values of JSON."""
        return [self.failures, _finite(self._since), _finite(self._next), _finite(self._started)]

    def from_state(self, state: Any, now: float) -> None:
        """Go on as the throttle that to_state() was asked of.

        Raises ValueError for what none can have said by now, and changes nothing then.
        """
        failures, since, following, started = validate.row(state, 4)
        taken = (
            validate.whole(failures, 0, MAX_FAILURES),
            inf if since is None else validate.number(since, 0.0, now),
            _NEVER if following is None else validate.number(following, 0.0, now + self.interval),
            inf if started is None else validate.number(started, 0.0, now),
        )
        self.failures, self._since, self._next, self._started = taken

    def _over(self, now: float) -> bool:
        return now - self._started >= GRACE

    def _clear(self) -> None:
        self.failures = 0
        self._since = inf
        self._next = _NEVER
        self._started = inf


def _finite(value: float) -> float | None:
    return value if -inf < value < inf else None
