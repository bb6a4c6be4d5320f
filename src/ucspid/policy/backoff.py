"""When to try again what failed: restarting a process, accept(2).

A pure policy: times are monotonic seconds, passed in by the caller, who acts and logs.
"""

from math import inf

_NEVER = -inf
"""One object for all: each -inf that is calculated is another."""


class Backoff:
    """Growing delays between the restarts of a process that keeps ending."""

    __slots__ = ("_calm", "_delay", "_failures", "_first", "_longest", "_max_failures", "_restart")

    def __init__(self, first: float, longest: float, calm: float, max_failures: int = 0) -> None:
        """Take the first and the longest delay, and how long a process must live to be forgiven.

        The first max_failures failures have the first delay before it begins to double.
        """
        self._first = first
        self._longest = longest
        self._calm = calm
        self._max_failures = max_failures
        self._failures = 0
        self._delay = first
        self._restart = _NEVER

    def failed(self, now: float) -> float:
        """Return the seconds to wait before the restart: twice as many as before, up to the longest.

        A process that lived for calm seconds after its restart was due begins with the first
        delay again.
        """
        if now - self._restart >= self._calm:
            self._delay = self._first
            self._failures = 0
        delay = self._delay
        self._failures += 1
        if self._failures > self._max_failures:
            self._delay = min(2 * delay, self._longest)
        self._restart = now + delay
        return delay
