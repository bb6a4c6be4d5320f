"""Threads for work that may wait for a disk, for ever perhaps: a bounded number, which no stop waits for."""

import asyncio
import collections
import contextlib
import errno
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """At most so many threads at once, each for one piece of work; what is more waits for its turn.

    The event loop's own executor is not used: the process would wait for its threads at the end,
    and a few that hang would be all that there are.
    """

    def __init__(self, maximum: int) -> None:
        """Begin without a thread."""
        self._maximum = maximum
        self._busy = 0
        self._waiting: collections.deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = collections.deque()

    def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do the work in a thread; the future gets what it returns or raises.

        OSError is raised in the future if the system has no thread for it.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        self._go_on()
        return future

    def _go_on(self) -> None:
        while self._waiting and self._busy < self._maximum:
            work, future = self._waiting.popleft()
            arguments = (asyncio.get_running_loop(), work, future)
            try:
                threading.Thread(target=self._run, args=arguments, daemon=True).start()
            except RuntimeError as problem:
                _settle(future, OSError(errno.EAGAIN, str(problem)), None)
            else:
                self._busy += 1

    def _run(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any], future: asyncio.Future[Any]
    ) -> None:
        """Work. Runs in the thread."""
        try:
            settle = partial(_settle, future, None, work())
        except BaseException as problem:  # noqa: BLE001 - whoever waits for the future gets it
            settle = partial(_settle, future, problem, None)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._ended, settle)

    def _ended(self, settle: Callable[[], None]) -> None:
        self._busy -= 1
        settle()
        self._go_on()


def _settle(future: asyncio.Future[Any], problem: BaseException | None, result: Any) -> None:
    """Set a future to the result of its work, unless it was cancelled."""
    if future.done():
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)
