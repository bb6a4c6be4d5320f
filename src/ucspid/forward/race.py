"""When attempts to connect begin, and when it is too late (RFC 8305): a pure policy, times are arguments."""

ATTEMPT_DELAY = 0.25
"""Seconds that an attempt is given before the next address is tried beside it."""


class Race:
    """Attempts to connect, of which the first that succeeds wins."""

    def __init__(self, now: float, timeout: float) -> None:
        """Begin; all attempts together have timeout seconds."""
        self.running = 0
        self._deadline = now + timeout
        self._next = now

    def is_due(self, now: float) -> bool:
        """Whether the next address is to be tried now, if there is one."""
        return not self.is_over(now) and (not self.running or now >= self._next)

    def is_over(self, now: float) -> bool:
        """Whether the time is up."""
        return now >= self._deadline

    def begun(self, now: float) -> None:
        """Take note of an attempt."""
        self.running += 1
        self._next = now + ATTEMPT_DELAY

    def failed(self, now: float) -> None:
        """Take note that an attempt has failed: the next address is tried at once."""
        self.running -= 1
        self._next = now

    def held_up(self, seconds: float) -> None:
        """Take note of time that went into a look-up: it is not that of attempts."""
        self._deadline += seconds

    def patience(self, now: float, *, more: bool) -> float:
        """Return for how many seconds there is nothing to do but wait; more is whether addresses are left."""
        until = min(self._next, self._deadline) if more else self._deadline
        return max(0.0, until - now)
