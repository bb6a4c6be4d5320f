"""When to try again what failed: restarting a process, starting a service's program.

Pure policies: times are monotonic seconds, passed in by the caller, who acts and logs.
"""

from math import inf
from typing import Any

from ucspid.net.address import ClientKey, key_from, key_text
from ucspid.policy import validate

THRESHOLD = 5
"""How many failures in a row throttle a service."""
FIRST_PAUSE = 1.0
"""For how many seconds it pauses at first."""
LONGEST_PAUSE = 60.0
"""The longest pause, in seconds."""
GRACE = 1.0
"""Within how many seconds of its start a program must fail for its failure to count."""


class Backoff:
    """Growing delays between the restarts of a process that keeps ending."""

    def __init__(self, first: float, longest: float, calm: float, patience: int = 0) -> None:
        """Take the first and the longest delay, and how long a process must live to be forgiven.

        So many failures as patience says have the first delay before it begins to double.
        """
        self._first = first
        self._longest = longest
        self._calm = calm
        self._patience = patience
        self._failures = 0
        self._delay = first
        self._restart = -inf

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
        if self._failures > self._patience:
            self._delay = min(2 * delay, self._longest)
        self._restart = now + delay
        return delay


class Throttle:
    """Stops a service for a while when its program keeps failing at once.

    After a streak of THRESHOLD failures, without a program that did well in between, the
    service pauses. Then one connection is tried. If that fails too, the pause doubles; if it
    does well, the throttling is over. A program does well that ends otherwise than by failing
    within GRACE seconds, or that still runs after them.

    A program's failure counts once for each client in a streak, so that a client that has
    found how to crash its own session does not stop the service for others; it takes as many
    clients as the threshold, and nobody else served in the meantime. An error of the system in
    starting a program is no client's doing, and always counts.
    """

    def __init__(self) -> None:
        """Start without a failure."""
        self._clients: set[ClientKey] = set()
        self._failures = 0
        self._since = inf
        self._pause = 0.0
        self._until = -inf
        self._probe: float | None = None

    @property
    def throttled(self) -> bool:
        """Whether the service pauses, or has not yet done well since."""
        return self._pause > 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until a connection may go to the program, 0.0 if it may now.

        While one is being tried after a pause, that is until it will have lived through its
        grace; its end is a reason to ask again.
        """
        if self._pause == 0.0:
            return 0.0
        ready = self._until if self._probe is None else self._probe + GRACE
        return max(0.0, ready - now)

    def starting(self, now: float) -> bool:
        """Note that a connection goes to the program.

        Return True if with that the throttling is over, as the one that was tried before has
        lived through its grace.
        """
        if self._probe is not None and now - self._probe >= GRACE:
            self._reset()
            return True
        if self.throttled and self._probe is None and now >= self._until:
            self._probe = now
        return False

    def started_badly(self, client: ClientKey, now: float) -> float | None:
        """Count a program that failed within its grace. Return the seconds of a pause that is due."""
        if self.throttled:
            return self._probe_failed(now)
        if client in self._clients:
            return None
        self._clients.add(client)
        return self._count(now)

    def cannot_start(self, now: float) -> float | None:
        """Count a program that the system could not start. Return the seconds of a pause that is due."""
        if self.throttled:
            return self._probe_failed(now)
        return self._count(now)

    def ended_well(self, started: float) -> bool:
        """End the streak, or the throttling if the program was started after the pause.

        A program started before the first failure of the streak proves nothing, and is ignored.
        Return True if with that the throttling is over.
        """
        if started < self._since:
            return False
        was_throttled = self.throttled
        self._reset()
        return was_throttled

    def to_state(self) -> list[Any]:
        """Return what from_state() takes, in values of JSON."""
        return [
            self._failures,
            _finite(self._since),
            self._pause,
            _finite(self._until),
            self._probe,
            [key_text(client) for client in self._clients],
        ]

    def from_state(self, state: Any, now: float) -> None:
        """Go on as the throttle that to_state() was asked of.

        Raises ValueError for what none can have said by now, and changes nothing then.
        """
        failures, since, pause, until, probe, clients = validate.row(state, 6)
        latest = now + LONGEST_PAUSE
        taken = (
            validate.whole(failures, 0, THRESHOLD),
            inf if since is None else validate.number(since, 0.0, latest),
            validate.number(pause, 0.0, LONGEST_PAUSE),
            -inf if until is None else validate.number(until, 0.0, latest),
            None if probe is None else validate.number(probe, 0.0, now),
            {key_from(client) for client in validate.items(clients, THRESHOLD)},
        )
        self._failures, self._since, self._pause, self._until, self._probe, self._clients = taken

    def _reset(self) -> None:
        self._clients.clear()
        self._failures = 0
        self._since = inf
        self._pause = 0.0
        self._probe = None

    def _count(self, now: float) -> float | None:
        self._since = min(self._since, now)
        self._failures += 1
        if self._failures < THRESHOLD:
            return None
        return self._begin(FIRST_PAUSE, now)

    def _probe_failed(self, now: float) -> float | None:
        # Without a connection being tried, this is one that was under way when the pause began.
        if self._probe is None:
            return None
        return self._begin(min(2 * self._pause, LONGEST_PAUSE), now)

    def _begin(self, pause: float, now: float) -> float:
        self._pause = pause
        self._since = self._until = now + pause
        self._probe = None
        return pause


def _finite(value: float) -> float | None:
    return value if -inf < value < inf else None
