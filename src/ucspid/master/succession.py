"""Replaces one loop process by another without a gap: the next is ready before the first exits."""

import os
import time
from collections.abc import Callable

from ucspid.errors import ResourceError
from ucspid.ipc import orders
from ucspid.linux.memfd import sealed_memory
from ucspid.master import events
from ucspid.master.children import Exit
from ucspid.master.event_log import EventLog
from ucspid.master.loop_orders import LoopOrders
from ucspid.master.poller import Poller, Timer
from ucspid.policy.backoff import Backoff
from ucspid.policy.exit_status import exit_code, in_words
from ucspid.records import dataclass

MAX_FALSE_STARTS = 5
"""Deaths of processes that never served, after which waiting clients get an error."""

READY_TIMEOUT = 15.0
"""Seconds that a successor may take to be ready, while the current process goes on."""

HANDOVER_TIMEOUT = 6.0
"""Seconds that a process may take to exit: 2 for clients on their way in, 2 for its log, some to spare."""

HANDOVER_SIZE = 16 << 20
"""Bytes that a process may hand over to the next; a page costs nothing until it is written."""


@dataclass(frozen=True, slots=True)
class HandingOver:
    """A process that is handing over: its deadline, and the memory for the state of the next."""

    timer: Timer
    handover: int | None


class Succession:
    """The successor of the process in place, if one is wanted."""

    def __init__(
        self,
        start: Callable[[], LoopOrders],
        poller: Poller,
        log: EventLog,
        backoff: Backoff,
        failed: Callable[[str], None],
    ) -> None:
        """Want none. start() raises ResourceError; failed() is called when successors keep dying."""
        self.successor: LoopOrders | None = None
        self._start = start
        self._poller = poller
        self._log = log
        self._backoff = backoff
        self._failed = failed
        self._false_starts = 0
        self._handing_over: HandingOver | None = None
        self._handover: int | None = None
        self.wanted = False
        """Whether there is to be a successor, also while there is none for the moment."""

    @property
    def handing_over(self) -> bool:
        """Whether the process in place is handing over."""
        return self._handing_over is not None

    def begin(self) -> None:
        """Have a successor, which takes over as soon as it is ready."""
        self.wanted = True
        self._false_starts = 0
        self._prepare()

    def cancel(self) -> None:
        """Cancel the successor, unless the current process is already handing over."""
        if self.wanted and self._handing_over is None:
            self.wanted = False
            if self.successor is not None:
                self.successor.process.kill()

    def _prepare(self) -> None:
        if not self.wanted or self.successor is not None:
            return
        try:
            self.successor = self._start()
        except ResourceError as problem:
            pause = self._backoff.failed(time.monotonic())
            events.loop_not_started(self._log, str(problem), pause)
            self._poller.call_in(pause, self._prepare)
        else:
            self.successor.process.due(READY_TIMEOUT, "it was not ready")

    def exited(self, exit_: Exit) -> None:
        """Take the exit of the successor, which has never served."""
        assert self.successor is not None
        self.successor.process.close()
        self.successor = None
        if not self.wanted:
            return
        pause = self._backoff.failed(time.monotonic())
        events.loop_died(self._log, exit_.pid, exit_.status, pause)
        self._false_starts += 1
        if self._false_starts == MAX_FALSE_STARTS:
            self._failed(f"the event loop does not start: {in_words(exit_code(exit_.status))}")
        self._poller.call_in(pause, self._prepare)

    def replace(self, before: LoopOrders) -> None:
        """Request the current process to hand over: its successor is ready."""
        assert self.successor is not None
        self.successor.process.in_time()
        self._forget_handover()
        try:
            memory = sealed_memory("ucspid-handover", HANDOVER_SIZE)
        except OSError:
            memory = None  # rates begin anew then
        before.process.send(orders.HandOver(), () if memory is None else (memory,))
        self._handing_over = HandingOver(self._poller.call_in(HANDOVER_TIMEOUT, before.process.kill), memory)

    def predecessor_ended(self) -> tuple[LoopOrders | None, bool]:
        """Return the successor, if there is one, and whether the process in place had handed over to it."""
        handing_over, self._handing_over = self._handing_over, None
        if handing_over is not None:
            handing_over.timer.cancel()
            self._handover = handing_over.handover
        successor = None
        if self.wanted:
            successor, self.successor = self.successor, None
            self.wanted = False  # whatever is in place next is new
        return successor, handing_over is not None

    def send_handover(self, process: LoopOrders) -> None:
        """Pass on what the previous process has written. The next reads it once, and checks it."""
        if self._handover is not None:
            process.process.send(orders.TakeHandover(), (self._handover,))
            self._forget_handover()

    def _forget_handover(self) -> None:
        if self._handover is not None:
            os.close(self._handover)
            self._handover = None
