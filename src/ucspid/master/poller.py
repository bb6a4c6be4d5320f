"""What the master waits on: descriptors and times. No threads, no asyncio, so that it stays small."""

import heapq
import itertools
import select
import time
from collections.abc import Callable

Callback = Callable[[], None]


class Timer:
    """Something to do at a time, unless cancelled before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        """Hold what to do."""
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.callback = None


class Poller:
    """Calls back when a descriptor is readable (or writable, if asked) and when a time has come."""

    def __init__(self) -> None:
        """Wait on nothing yet."""
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, descriptor: int, callback: Callback, *, write: bool = False) -> None:
        """Call back when the descriptor can be read, or has ended, or, if write, can be written."""
        events = select.EPOLLIN | (select.EPOLLOUT if write else 0)
        if descriptor in self._callbacks:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor; call before it is closed."""
        self._epoll.unregister(descriptor)
        del self._callbacks[descriptor]

    def call_in(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, after some seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def run_once(self) -> None:
        """Wait for something and do it."""
        for descriptor, _events in self._epoll.poll(self._wait()):
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()

    def _wait(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
