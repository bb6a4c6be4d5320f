"""Token buckets: how often something may happen, for one and for many clients.

Each bucket is one number, the time at which it will be full again (the generic cell rate
algorithm, ITU-T I.371). Times are monotonic seconds, passed in by the caller.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from math import inf
from typing import Any

from ucspid.plan import Rate
from ucspid.policy import validate

SLACK = 0.001
"""By how much of a token a bucket may fall short: more than the rounding of float times."""
_NEVER = -inf
"""One object for all buckets: each -inf that is calculated is another."""
SLOTS = 32
"""Into how many steps TokenBuckets divides the time in which an empty bucket fills up."""


class TokenBucket:
    """One bucket, full at first: at most burst tokens at once, and count in each period."""

    __slots__ = ("_full_at", "_interval", "_slack", "_tolerance")

    def __init__(self, rate: Rate) -> None:
        """Make a full bucket."""
        self._interval = rate.seconds / rate.count
        self._tolerance = (rate.burst - 1) * self._interval
        self._slack = SLACK * self._interval
        self._full_at = _NEVER

    def wait(self, now: float) -> float:
        """Return the seconds until a token is there; 0.0 if one is."""
        missing = self._full_at - now - self._tolerance
        return missing if missing > self._slack else 0.0

    def take(self, now: float) -> bool:
        """Take a token if one is there, and return whether it was."""
        if self.wait(now) > 0.0:
            return False
        self._full_at = max(self._full_at, now) + self._interval
        return True

    def to_state(self) -> float | None:
        """Return what from_state() takes: the time at which it will be full, None if it always was."""
        return None if self._full_at == _NEVER else self._full_at

    def from_state(self, state: Any, now: float) -> None:
        """Go on as the bucket of this rate that to_state() was asked of.

        Raises ValueError for what no such bucket can have said by now, and changes nothing then.
        """
        latest = now + self._tolerance + self._interval + 2 * self._slack
        self._full_at = _NEVER if state is None else validate.number(state, 0.0, latest)


class TokenBuckets:
    """A bucket for each key, in bounded memory: of at most capacity keys anything is known.

    An unknown key has a full bucket, so forgetting a bucket that has refilled loses nothing:
    each token taken drops up to two of those. When all are in use and a new key comes, the
    bucket that will be full first is forgotten (to within a 32nd of the time in which an
    empty bucket fills up). Every call costs the same on average, however many keys there are.

    What that guarantees: up to capacity keys, each gets exactly its rate. Addresses used once
    push out one another, or clients that are nearly full anyway, and not a client that has
    used up its tokens. Who takes turns with more than capacity addresses, each within the time
    that its bucket needs to refill, is hardly held back by this rate: the limits of the whole
    service, and those on concurrent connections, must do it.
    """

    def __init__(self, rate: Rate, capacity: int) -> None:
        """Make full buckets for all keys."""
        self._interval = rate.seconds / rate.count
        self._tolerance = (rate.burst - 1 + SLACK) * self._interval
        self._capacity = capacity
        self._full_at: dict[Hashable, float] = {}
        self._width = rate.burst * self._interval / SLOTS
        self._slots: dict[int, set[Hashable]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        """Return the number of keys of which something is known."""
        return len(self._full_at)

    def ready(self, key: Hashable, now: float) -> bool:
        """Return whether key could take a token."""
        return self._full_at.get(key, now) - now <= self._tolerance

    def take(self, key: Hashable, now: float) -> bool:
        """Take one of key's tokens if one is there, and return whether it was."""
        if not self.ready(key, now):
            return False
        self._drop_refilled(now)
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._slots[int(full_at // self._width)].remove(key)
        elif len(self._full_at) >= self._capacity:
            self._drop_fullest()
        self._insert(key, self._interval + (now if full_at is None else max(full_at, now)))
        return True

    def to_state(self, now: float) -> list[tuple[Hashable, float]]:
        """Return what from_state() takes: the keys whose buckets are not full, and when they will be."""
        return [(key, full_at) for key, full_at in self._full_at.items() if full_at > now]

    def from_state(self, state: dict[Hashable, Any], now: float) -> None:
        """Go on as the buckets of this rate that to_state() was asked of, from nothing known.

        Raises ValueError for what no such buckets can have said by now, and changes nothing then.
        """
        latest = now + self._tolerance + self._interval * (1 + SLACK)
        if len(state) > self._capacity:
            raise ValueError(f"{len(state)} buckets, at most {self._capacity} are allowed")
        for key, full_at in [(key, validate.number(state[key], 0.0, latest)) for key in state]:
            self._insert(key, full_at)

    def _insert(self, key: Hashable, full_at: float) -> None:
        self._full_at[key] = full_at
        number = int(full_at // self._width)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            heappush(self._order, number)
        slot.add(key)

    def _drop_refilled(self, now: float) -> None:
        current = int(now // self._width)
        for _ in range(2):
            if self._fullest(current) < current:
                self._drop_fullest()

    def _fullest(self, default: int) -> int:
        """Return the number of the first slot that is not empty; forget the empty ones before it."""
        order = self._order
        while order:
            if self._slots[order[0]]:
                return order[0]
            del self._slots[heappop(order)]
        return default

    def _drop_fullest(self) -> None:
        del self._full_at[self._slots[self._fullest(0)].pop()]
