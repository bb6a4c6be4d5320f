"""When the master forgets what only an earlier plan had: the loop says so, or time has passed."""

from functools import partial

from ucspid.master.acquired import Acquired
from ucspid.master.holdings import Holdings
from ucspid.master.log_pipes import LogPipe
from ucspid.master.poller import Poller, Timer
from ucspid.plan import Plan

SETTLE_TIMEOUT = 120.0
"""Seconds after which nothing is kept for connections that met an earlier plan: twice what a lookup may take.

A loop that was taken over might never say that there are none.
"""


class Settling:
    """Waits for the connections that met an earlier plan than the one in force."""

    def __init__(self, held: Holdings, poller: Poller) -> None:
        """Wait if there is a plan in force: an earlier image of the master may have waited."""
        self._held = held
        self._poller = poller
        self._timer: Timer | None = None
        self._watch(held.pipes.ended)
        if held.plan is not None:
            self._begin()

    def go_over(self, plan: Plan, acquired: Acquired) -> list[str]:
        """Put a plan in force, as Holdings.go_over() does."""
        unwanted = self._held.go_over(plan, acquired)
        self._begin()
        return unwanted

    def _begin(self) -> None:
        self._cancel()
        self._timer = self._poller.call_in(SETTLE_TIMEOUT, self.settled)

    def settled(self) -> None:
        """Forget what only earlier plans had: no connection that met one is on its way any more."""
        self._cancel()
        self._watch(self._held.settle())
        for process in self._held.tls.draining.values():
            process.drain()

    def _watch(self, ended: list[LogPipe]) -> None:
        """Close each pipe when the last program that writes into it has ended."""
        for pipe in ended:
            self._poller.watch(pipe.reading, partial(self._hung_up, pipe), read=False)

    def _hung_up(self, pipe: LogPipe) -> None:
        self._poller.forget(pipe.reading)
        self._held.pipes.close(pipe)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
