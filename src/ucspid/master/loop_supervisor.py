"""The event loop as the master keeps it: started, sent the plan, started again, replaced in good order."""

import time
from collections.abc import Callable
from typing import Protocol

from ucspid.errors import ResourceError, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.channel import Channel, seqpacket
from ucspid.linux.fd_limit import why
from ucspid.master import events
from ucspid.master.children import Children, Exit
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.loop_orders import LoopOrders
from ucspid.master.loop_process import LoopProcess
from ucspid.master.poller import Poller
from ucspid.master.succession import MAX_FALSE_STARTS, Succession
from ucspid.master.upgrade_state import ChannelState, LoopState
from ucspid.policy.backoff import Backoff
from ucspid.policy.exit_status import exit_code, in_words

TAKEN_TIMEOUT = 30.0
"""Seconds that a process may take until it serves a plan that it was sent."""


class LoopObserver(Protocol):
    """What the loop's notes and deaths mean to the master."""

    def loop_note(self, kind: int, number: int, token: int) -> None:
        """Take a note of the process in place, see ipc.messages. Raises WireError for what no loop sends."""

    def loop_gone(self) -> None:
        """Take note that the process in place has ended, and with it its control clients."""

    def loop_hands_over(self) -> None:
        """Answer the waiting clients: the current process is about to exit."""

    def loop_not_replaced(self, reason: str) -> None:
        """Note that no successor can be started for now; the current process goes on."""

    def loop_lost(self, reason: str) -> None:
        """End: no process of the loop can be started."""


class LoopSupervisor:
    """The master's side of the loop, through all the processes that it has been."""

    def __init__(
        self, config: str, held: Holdings, poller: Poller, log: EventLog, observer: LoopObserver,
        children: Children,
    ) -> None:  # fmt: skip
        """Begin without a process."""
        self.generation = 0
        """The number of the plan in force."""
        self.draining = False
        self.alone = False
        """Whether it was ordered to go on without the master."""
        self._at_once = False
        self._served = False
        """Whether a process has ever served a plan."""
        self._config = config
        self._held = held
        self._poller = poller
        self._log = log
        self._observer = observer
        self._children = children
        self._began = time.monotonic()
        self.current: LoopOrders | None = None
        self._backoff = Backoff(0.001, 5.0, 10.0, max_failures=20)
        self._false_starts = 0
        self.succession = Succession(
            self._start_process, poller, log, self._backoff, observer.loop_not_replaced
        )
        log.to(self._send_events)

    def to_state(self) -> LoopState:
        """Return what from_state() takes: for the next image of the master."""
        current = self.current
        return LoopState(
            pid=0 if current is None else current.process.pid,
            channel=None if current is None else ChannelState.of(current.process.channel),
            introduced=[] if current is None else current.introduced(),
            generation=self.generation,
            began=self._began,
        )

    def from_state(self, state: LoopState) -> None:
        """Take up the loop that an earlier image of the master had."""
        self._served = True
        self.generation = state.generation
        self._began = state.began
        if state.channel is None:
            self._restart()
            return
        channel = Channel(seqpacket(state.channel.descriptor), state.channel.packets())
        current = self.current = LoopOrders(LoopProcess(state.pid, channel, self._poller, self._log, self))
        current.begun = current.process.outdated = True
        current.remember(state.introduced)

    @property
    def pids(self) -> set[int]:
        """The processes: none, one, or one and its successor."""
        both = (self.current, self.succession.successor)
        return {orders.process.pid for orders in both if orders is not None}

    def start(self) -> None:
        """Start a process, and send it everything if there is a plan. Raises ResourceError."""
        self.current = self._start_process()
        if self._held.plan is not None:
            self._send_plan()

    def _start_process(self) -> LoopOrders:
        return LoopOrders(LoopProcess.start(self._poller, self._log, self))

    def exited(self, exit_: Exit) -> bool:
        """Take a child's exit; return whether it was a process of the loop's."""
        successor = self.succession.successor
        if successor is not None and successor.process.pid == exit_.pid:
            self.succession.exited(exit_)
            return True
        if self.current is None or self.current.process.pid != exit_.pid:
            return False
        self.current.process.close()
        self.current = None
        self._log.lost()
        self._observer.loop_gone()
        self._follow(exit_)
        return True

    def _follow(self, exit_: Exit) -> None:
        """Have another process in place of one that has ended, and send it what that one knew."""
        successor, left = self.succession.predecessor_ended()
        if successor is not None:
            if not left:
                events.loop_died(self._log, exit_.pid, exit_.status, 0.0)
            self.current = successor
            self._send_plan()
        elif left:
            self._restart()
        elif self.draining and exit_.status == 0:
            for _profile, launcher in self._held.all_launchers():
                launcher.drain()
            for process in self._held.tls.all():
                process.drain()
        else:
            self._died(exit_)

    def _died(self, exit_: Exit) -> None:
        self._false_starts += not self._served
        if self._false_starts >= MAX_FALSE_STARTS:
            how = in_words(exit_code(exit_.status))
            self._observer.loop_lost(f"the event loop does not start: {how}")
            return
        pause = self._backoff.failed(time.monotonic())
        events.loop_died(self._log, exit_.pid, exit_.status, pause)
        self._poller.call_in(pause, self._restart)

    def _restart(self) -> None:
        try:
            self.start()
        except ResourceError as problem:
            pause = self._backoff.failed(time.monotonic())
            events.loop_not_started(self._log, str(problem), pause)
            self._poller.call_in(pause, self._restart)

    # What it is sent

    def serve(self, *, by_another: bool) -> None:
        """Have the plan in force served, by another process if the one in place cannot take it up.

        Until that is ready, the one in place goes on under the plan that it has.
        """
        self.generation += 1
        another = by_another or self.succession.wanted
        if self.current is not None and (another or self.current.process.outdated):
            self.succession.begin()
        else:
            self._send_plan()

    def _send_plan(self) -> None:
        """Send the plan in force, with the descriptors that the process does not have yet."""
        current = self.current
        if current is None:
            return
        if not current.begun:
            current.begin(self._held, self._config, self._began, self._children)
            self._send_events()
            self.succession.send_handover(current)
        try:
            current.send_plan(self._held, self.generation)
        except OSError as problem:
            current.process.give_up(f"it cannot be sent the plan: {why(problem)}")
        else:
            current.process.due(TAKEN_TIMEOUT, "it did not serve the plan")
        if self.draining:
            self.drain(at_once=self._at_once)

    def introduce(self, send: Callable[[LoopOrders], None]) -> None:
        """Have a channel sent by send(), unless another process is about to be sent everything."""
        if self.current is not None and self.current.begun and not self.succession.wanted:
            send(self.current)

    def launcher_gone(self, number: int) -> None:
        """Send the loop that a launcher has exited."""
        self.send(orders.RemoveLauncher(number=number))

    def drain(self, *, at_once: bool, alone: bool = False) -> None:
        """Have it accept nothing more, and let or make its sessions end; alone, if the master exits now."""
        self.draining = True
        self.alone = alone
        self._at_once = at_once
        self.succession.cancel()
        self.send(orders.Stop(at_once=at_once, alone=alone))

    def send(self, order: orders.Order, descriptors: tuple[int, ...] = ()) -> None:
        """Give an order to a process that has been sent the first ones."""
        if self.current is not None and self.current.begun:
            self.current.process.send(order, descriptors)

    def _send_events(self) -> None:
        if self.current is not None and self.current.begun and not self.succession.handing_over:
            self._log.send(self.current.process.log)

    # What its processes say

    def note(self, process: LoopProcess, kind: int, number: int, token: int) -> None:
        """Take a note of a process. Raises WireError for one that it never sends."""
        successor = self.succession.successor
        if successor is not None and process is successor.process:
            if kind != wire.NOTE_READY:
                raise WireError(f"it sent a note of kind {kind} before it was sent a plan")
            if self.succession.wanted and self.current is not None and not self.succession.handing_over:
                self._observer.loop_hands_over()
                self.succession.replace(self.current)
        elif kind != wire.NOTE_READY:
            if kind == wire.NOTE_TAKEN and number == self.generation:
                self._served = True
                process.in_time()
            self._observer.loop_note(kind, number, token)

    def room(self, process: LoopProcess) -> None:
        """Send events that wait, now that the process has read others."""
        if self.current is not None and process is self.current.process:
            self._send_events()
