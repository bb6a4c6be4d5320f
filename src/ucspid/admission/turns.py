"""Services that wait for the same thing, a slot of the daemon or a launcher, and get it in turn."""

import collections
from collections.abc import Callable
from typing import Protocol


class Waiting(Protocol):
    """One that waits."""

    def reevaluate(self) -> None:
        """Go on as far as that can be now; wait again for what is still lacking."""


class Turns:
    """A queue for one resource."""

    def __init__(self, available: Callable[[], bool]) -> None:
        """Serve the queue, while the resource is available."""
        self.waiting: collections.OrderedDict[Waiting, None] = collections.OrderedDict()
        """The waiters, in order."""
        self._available = available

    def wait(self, item: Waiting) -> None:
        """Put one at the end; one that waits already keeps its place."""
        self.waiting[item] = None

    def remove(self, item: Waiting) -> None:
        """Take one out that does not need it any more."""
        self.waiting.pop(item, None)

    def go_on(self) -> None:
        """Serve those that have waited longest."""
        for _ in range(len(self.waiting)):
            if not self.waiting or not self._available():
                return
            item, _ = self.waiting.popitem(last=False)
            item.reevaluate()


NOWHERE: frozenset[Turns] = frozenset()
"""For those that wait in no turns: one that is empty takes as much memory as one with four."""


class Places:
    """Where one waits: in which turns, and for how long."""

    __slots__ = ("_item", "_turns")

    def __init__(self, item: Waiting) -> None:
        """Wait nowhere."""
        self._item = item
        self._turns = NOWHERE

    def change(self, wanted: frozenset[Turns]) -> None:
        """Wait in these turns and in no others; where it waits already it keeps its place."""
        for turns in self._turns - wanted:
            turns.remove(self._item)
        for turns in wanted:
            turns.wait(self._item)
        self._turns = wanted
