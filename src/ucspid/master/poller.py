"""What the master waits on: descriptors and times. No threads, no asyncio, so that it stays small.

Whatever a callback raises goes to one function and no further: nothing that happens to a child, a
packet or a timer ends the master.
"""

import heapq
import itertools
import select
import time
from collections.abc import Callable

Callback = Callable[[], object]

PAUSE = 1.0
"""Seconds for which a descriptor is not watched after its callback failed."""


MAX_SLEEP = 86400.0
"""Seconds after which it looks at what it waits for: epoll_wait(2) takes less than 25 days."""


class Timer:
    """Something to do at a time, unless cancelled before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        """Hold what to do."""
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.callback = None


class _Watch:
    """A watched descriptor. Its number may soon belong to another file, for which this is not."""

    __slots__ = ("callback", "events", "paused")

    def __init__(self, callback: Callback, events: int) -> None:
        self.callback = callback
        self.events = events
        self.paused = False


def _reraise(problem: Exception) -> None:
    raise problem


class Poller:
    """Calls back when a descriptor is readable (or writable, if asked) and when a time has come."""

    def __init__(self, failed: Callable[[Exception], None] = _reraise) -> None:
        """Wait on nothing yet. failed() takes what a callback raises."""
        self._epoll = select.epoll()
        self._failed = failed
        self._watches: dict[int, _Watch] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, descriptor: int, callback: Callback, *, read: bool = True, write: bool = False) -> None:
        """Call back when the descriptor has ended, or can be read or written, as far as that is asked for."""
        events = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        watch = self._watches.get(descriptor)
        if watch is None:
            self._epoll.register(descriptor, events)
            self._watches[descriptor] = _Watch(callback, events)
            return
        if watch.events != events and not watch.paused:
            self._epoll.modify(descriptor, events)
        watch.callback, watch.events = callback, events

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor; call before it is closed."""
        if not self._watches.pop(descriptor).paused:
            self._epoll.unregister(descriptor)

    def call_in(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, after some seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    @property
    def idle(self) -> bool:
        """Whether there is no time at which something is to be done."""
        return self._wait() is None

    def run_once(self) -> None:
        """Wait for something and do it."""
        reported = self._epoll.poll(self._wait())
        for descriptor, watch in [(number, self._watches.get(number)) for number, _events in reported]:
            # A callback may forget another descriptor, whose number may be in use again by now.
            if watch is not None and self._watches.get(descriptor) is watch:
                try:
                    watch.callback()
                except Exception as problem:  # noqa: BLE001 - the master goes on
                    self._pause(descriptor, watch)
                    self._failed(problem)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                try:
                    timer.callback()
                except Exception as problem:  # noqa: BLE001 - the master goes on
                    self._failed(problem)

    def _pause(self, descriptor: int, watch: _Watch) -> None:
        if self._watches.get(descriptor) is watch:
            self._epoll.unregister(descriptor)
            watch.paused = True
            self.call_in(PAUSE, lambda: self._resume(descriptor, watch))

    def _resume(self, descriptor: int, watch: _Watch) -> None:
        if self._watches.get(descriptor) is watch:
            self._epoll.register(descriptor, watch.events)
            watch.paused = False

    def _wait(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return min(max(0.0, self._timers[0][0] - time.monotonic()), MAX_SLEEP)
