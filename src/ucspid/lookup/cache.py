"""What the resolver has answered, kept for a while, and whether it answers at all.

Pure policies: times are monotonic seconds, passed in by the caller, who asks and waits.
"""

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MIN_SECONDS, MAX_SECONDS = 1.0, 3600.0
"""Seconds that an answer is kept at least and at most, whatever its time to live is."""
NEGATIVE = 60.0
"""Seconds for which it is remembered that there is no answer."""
FAILED = 5.0
"""Seconds for which it is remembered that there was no answer."""
TEST_AGAIN = 10.0
"""Seconds between the tests of a resolver that does not answer."""


def lifetime(ttl: float) -> float:
    """Return the seconds for which an answer with this time to live is kept."""
    return min(max(ttl, MIN_SECONDS), MAX_SECONDS)


class Cache(Generic[K, V]):
    """Answers that are not too old; when it is full, the least recently used one goes."""

    def __init__(self, capacity: int) -> None:
        """Begin empty; at most capacity answers are kept."""
        self._capacity = capacity
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many answers are kept, old ones that nobody has asked for since included."""
        return len(self._kept)

    def get(self, key: K, now: float) -> V | None:
        """Return what was kept for key, None if that is nothing or too old."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if now >= kept[1]:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def put(self, key: K, value: V, seconds: float, now: float) -> None:
        """Keep value for key from now on for some seconds."""
        self._kept[key] = value, now + seconds
        self._kept.move_to_end(key)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)


class Breaker:
    """Decides whether the resolver is dead, so that nobody waits for a dead one.

    A question without an answer proves nothing: it may have been about a client's own zone,
    whose servers are slow on purpose. It is a reason to test the resolver with a question of
    our own. If that is not answered either, nor anything else in the meantime, the resolver is
    dead: it is asked nothing more but the test, and that only now and then, and only while
    there is something to ask. Any answer proves it alive.
    """

    def __init__(self, test_again: float = TEST_AGAIN) -> None:
        """Begin with a resolver that is believed to be alive; a dead one is tested after so many seconds."""
        self.dead = False
        self._test_again = test_again
        self._silent = False
        self._testing = False
        self._next_test = -inf

    def answered(self) -> None:
        """Note an answer of any kind: the resolver is alive."""
        self.dead = self._silent = False
        self._next_test = -inf

    def timed_out(self) -> None:
        """Note that a question has had no answer."""
        self._silent = True

    def test_is_due(self, now: float) -> bool:
        """Return whether to test the resolver now; if so, the caller does it."""
        if self._testing or not self._silent or now < self._next_test:
            return False
        self._testing = True
        return True

    def test_ended(self, now: float, *, answered: bool) -> None:
        """Note how a test has ended."""
        self._testing = False
        if answered:
            self.answered()
        elif self._silent:
            self.dead = True
            self._next_test = now + self._test_again
