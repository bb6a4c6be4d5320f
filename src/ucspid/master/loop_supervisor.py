"""The event loop as the master keeps it: started, told the plan, started again, replaced in good order.

What it says has a fixed layout and is not trusted, since the loop is what meets the network.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from ucspid.errors import ResourceError, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, seqpacket
from ucspid.linux.memfd import sealed_memory
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import Exit, Launcher, ProfileLaunchers
from ucspid.master.loop_process import LoopProcess
from ucspid.master.poller import Poller, Timer
from ucspid.master.upgrade_state import ChannelState, LoopState
from ucspid.policy.backoff import Backoff
from ucspid.policy.exit_status import exit_code, how_ended, in_words

MAX_HELD_EVENTS = 1000
"""Events of the master that wait while there is no loop to log them."""

MAX_UNHEARD = 1000
"""Orders, beyond one for each thing that a process has been told of, that may wait for it to read them."""

MAX_FALSE_STARTS = 5
"""Deaths of the loop before it has ever taken a plan, after which the daemon gives up."""

READY_TIMEOUT = 15.0
"""Seconds that a successor may take to be ready, while the loop of before goes on."""

LEAVE_TIMEOUT = 6.0
"""Seconds that a loop may take to leave: 2 for clients on their way in, 2 for its log, and some to spare."""

HANDOVER_SIZE = 16 << 20
"""Bytes that a loop may hand over to the next; a page costs nothing until it is written."""


EXIT_TIMEOUT = 5.0
"""Seconds that a loop may live on after it has closed its channel."""


class Owner(Protocol):
    """What the loop's notes mean to the master."""

    def loop_note(self, kind: int, number: int, token: int) -> None:
        """Take a note of the loop's: see wire.messages. Raises WireError for what no loop asks."""

    def loop_lost(self, reason: str) -> None:
        """The loop cannot be had."""

    def loop_died(self) -> None:
        """The loop has died; whoever it has served is gone."""

    def loop_leaves(self) -> None:
        """The loop is about to be told to leave: whoever it serves must be answered now."""

    def loop_not_replaced(self, reason: str) -> None:
        """No successor of the loop can be had for now; the one of before goes on."""


class LoopLink:
    """The master's side of the loop, through all the processes that it has been."""

    def __init__(self, config: str, held: Holdings, poller: Poller, owner: Owner) -> None:
        """Begin without a process."""
        self.generation = 0
        self.taken = False
        self.draining = False
        self._at_once = False
        self._config = config
        self._held = held
        self._poller = poller
        self._owner = owner
        self._began = time.monotonic()
        self._process: LoopProcess | None = None
        self._successor: LoopProcess | None = None
        self._replacing = False
        """Whether a successor is wanted, also while there is none for the moment."""
        self._leave_timer: Timer | None = None
        """Runs while the process leaves."""
        self._handover: int | None = None
        self._events: list[dict[str, Any]] = []
        self._backoff = Backoff(0.001, 5.0, 10.0, max_failures=20)
        self._false_starts = 0

    def to_state(self) -> LoopState:
        """Return what from_state() takes: for the next image of the master."""
        process = self._process
        return LoopState(
            pid=0 if process is None else process.pid,
            channel=None if process is None else ChannelState.of(process.channel),
            introduced=[] if process is None else list(process.introduced),
            generation=self.generation,
            began=self._began,
        )

    def from_state(self, state: LoopState) -> None:
        """Take up the loop that an earlier image of the master had."""
        self.taken = True
        self.generation = state.generation
        self._began = state.began
        if state.channel is None:
            self._restart()
            return
        channel = Channel(seqpacket(state.channel.descriptor), state.channel.packets())
        self._process = LoopProcess(state.pid, channel)
        self._process.told_first = self._process.outdated = True
        self._process.introduced.update(state.introduced)
        self._watch(self._process)

    @property
    def outdated(self) -> bool:
        """Whether the loop was started by an earlier image of the master: its code is not ours."""
        return self._process is not None and self._process.outdated

    # Its processes

    @property
    def pids(self) -> set[int]:
        """Return the processes: none, one, or a loop and its successor."""
        return {process.pid for process in (self._process, self._successor) if process is not None}

    def start(self) -> None:
        """Start a process, and tell it everything if there is a plan. Raises ResourceError."""
        self._process = LoopProcess.start()
        self._replacing = False
        self._watch(self._process)
        if self._held.plan is not None:
            self.tell_plan()

    def exited(self, exit_: Exit) -> bool:
        """Take a child's exit; return whether it was a process of the loop's."""
        for process in (self._process, self._successor):
            if process is not None and process.pid == exit_.pid:
                if not process.hung_up:
                    self._poller.forget(process.channel.fileno())
                process.channel.close()
                if process is self._successor:
                    self._successor_died(exit_)
                else:
                    self._died(exit_)
                return True
        return False

    def _died(self, exit_: Exit) -> None:
        """Have another process take over; what this one knew is told to it."""
        self._process = None
        self._owner.loop_died()
        left = self._leave_timer is not None
        if self._leave_timer is not None:
            self._leave_timer.cancel()
            self._leave_timer = None
        if self._successor is not None and self._replacing:
            if not left:
                self._log_death(exit_, 0.0)
            self._process, self._successor = self._successor, None
            self._replacing = False
            self.tell_plan()
            return
        if left:
            self._restart()
            return
        if self.draining and exit_.status == 0:
            for _profile, launcher in self._held.all_launchers():
                launcher.leave()
            return
        self._false_starts += not self.taken
        if self._false_starts >= MAX_FALSE_STARTS:
            self._owner.loop_lost(f"the event loop does not start: {in_words(exit_code(exit_.status))}")
            return
        pause = self._backoff.failed(time.monotonic())
        self._log_death(exit_, pause)
        self._poller.call_in(pause, self._restart)

    def _log_death(self, exit_: Exit, pause: float) -> None:
        how = how_ended(exit_code(exit_.status))
        self.log("error", "process_died", role="loop", pid=exit_.pid, **how, restart_in=pause)

    def _restart(self) -> None:
        try:
            self.start()
        except ResourceError as problem:
            self._not_started(problem, self._restart)

    def _not_started(self, problem: ResourceError, again: Any) -> None:
        pause = self._backoff.failed(time.monotonic())
        self.log("error", "process_not_started", role="loop", reason=str(problem), restart_in=pause)
        self._poller.call_in(pause, again)

    # Its succession

    def replace(self) -> None:
        """Have another process in its place, which takes over as soon as it is ready.

        Until then this one goes on under the plan that it knows.
        """
        if self._process is not None:
            self._replacing = True
            self._false_starts = 0
            self._prepare()

    def _prepare(self) -> None:
        if not self._replacing or self._successor is not None:
            return
        try:
            self._successor = successor = LoopProcess.start()
        except ResourceError as problem:
            self._not_started(problem, self._prepare)
            return
        self._watch(successor)
        self._poller.call_in(READY_TIMEOUT, partial(self._check_ready, successor))

    def _check_ready(self, successor: LoopProcess) -> None:
        if successor is self._successor and not successor.ready:
            successor.kill()

    def _successor_died(self, exit_: Exit) -> None:
        self._successor = None
        if not self._replacing:
            return
        pause = self._backoff.failed(time.monotonic())
        self._log_death(exit_, pause)
        self._false_starts += 1
        if self._false_starts == MAX_FALSE_STARTS:
            reason = f"the event loop does not start: {in_words(exit_code(exit_.status))}"
            self._owner.loop_not_replaced(reason)
        self._poller.call_in(pause, self._prepare)

    def _successor_ready(self) -> None:
        """Have the loop of before leave; what it hands over is for the successor."""
        if self._process is None or self._leave_timer is not None:
            return
        self._owner.loop_leaves()
        self._let_go_of_handover()
        try:
            self._handover = sealed_memory("ucspid-handover", HANDOVER_SIZE)
        except OSError:
            self._handover = None  # rates begin anew then
        self.tell("leave", () if self._handover is None else (self._handover,))
        self._leave_timer = self._poller.call_in(LEAVE_TIMEOUT, self.kill)

    def _let_go_of_handover(self) -> None:
        if self._handover is not None:
            os.close(self._handover)
            self._handover = None

    def _tell_handover(self) -> None:
        """Pass on what the loop of before has left, which the next reads once, and checks."""
        if self._handover is not None:
            self.tell("handover", (self._handover,))
            self._let_go_of_handover()

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()

    # What it is told

    def tell_plan(self) -> None:
        """Tell the plan in force, with the descriptors that the process does not have yet."""
        process = self._process
        if process is None:
            return
        with self._telling(process):
            if not process.told_first:
                process.tell_first(self._held, self._config, self._began)
                self._tell_events()
                self._tell_handover()
            process.tell_plan(self._held, self.generation)
        if self.draining:
            self.drain(at_once=self._at_once)

    def tell_launcher(self, profile: ProfileLaunchers, launcher: Launcher) -> None:
        """Tell of a launcher, unless another process is about to be told everything."""
        if self._process is not None and self._process.told_first and not self._replacing:
            with self._telling(self._process):
                self._process.tell_launcher(profile, launcher)

    def launcher_gone(self, number: int) -> None:
        """Tell that a launcher has left."""
        self.tell("launcher_gone", number=number)

    def drain(self, *, at_once: bool) -> None:
        """Have it accept nothing more, and let or make its sessions end."""
        self.draining = True
        self._at_once = at_once
        if self._replacing and self._leave_timer is None:
            self._replacing = False
            if self._successor is not None:
                self._successor.kill()
        self.tell("drain", at_once=at_once)

    def reloaded(self, token: int, **answer: Any) -> None:
        """Answer a reload that a control client asked for."""
        self.tell("reloaded", token=token, **answer)

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Have an event logged; it waits while there is no loop, or one that does not listen."""
        self._events.append({"level": level, "event": event, "fields": fields})
        if len(self._events) > MAX_HELD_EVENTS:
            del self._events[0]
        self._tell_events()

    def _tell_events(self) -> None:
        process = self._process
        if process is None or not process.told_first or process.killed or self._leave_timer is not None:
            return
        told = 0
        try:
            while told < len(self._events) and not process.channel.backed_up:
                process.tell("log", **self._events[told])
                told += 1
        except OSError:  # of memory, say: those that are left wait for another process
            process.kill()
        del self._events[:told]
        self._watch(process)

    def tell(self, order: str, descriptors: tuple[int, ...] = (), **fields: Any) -> None:
        """Give an order to a process that has been told the first ones."""
        if self._process is not None and self._process.told_first:
            with self._telling(self._process):
                self._process.tell(order, descriptors, **fields)

    @contextlib.contextmanager
    def _telling(self, process: LoopProcess) -> Iterator[None]:
        """Kill a process that cannot be told all of what it should know: another is told everything.

        The system may have no descriptors or memory for it; or the process does not listen.
        """
        try:
            yield
        except OSError as problem:
            self._give_up(process)
            reason = f"the event loop cannot be told what is new: {problem.strerror}"
            self.log("error", "process_not_started", role="loop", reason=reason)
        if process.unheard > MAX_UNHEARD:
            self._give_up(process)
        self._watch(process)

    # What it says

    def _watch(self, process: LoopProcess) -> None:
        channel = process.channel
        if not process.hung_up:
            self._poller.watch(channel.fileno(), partial(self._hear, process), write=channel.backed_up)

    def _hear(self, process: LoopProcess) -> None:
        process.channel.flush()
        if process is self._process:
            self._tell_events()
        try:
            packet = process.channel.receive_packet()
            if packet:
                self._take(process, packet)
            elif packet == b"":
                self._hang_up(process)
        except WireError as problem:
            self._give_up(process)
            self.log("error", "loop_broken", reason=str(problem))
        if process in (self._process, self._successor):
            self._watch(process)

    def _hang_up(self, process: LoopProcess) -> None:
        """Listen no more to a loop that has closed its channel: it is about to exit, or it is subverted."""
        self._stop_listening(process)
        self._poller.call_in(EXIT_TIMEOUT, partial(self._check_gone, process))

    def _give_up(self, process: LoopProcess) -> None:
        """Kill a process, and hear nothing more of it until it has ended."""
        process.kill()
        self._stop_listening(process)

    def _stop_listening(self, process: LoopProcess) -> None:
        if not process.hung_up:
            process.hung_up = True
            self._poller.forget(process.channel.fileno())

    def _check_gone(self, process: LoopProcess) -> None:
        if process in (self._process, self._successor):
            process.kill()

    def _take(self, process: LoopProcess, packet: bytes) -> None:
        kind, number, token = wire.unpack(wire.NOTE_HEAD, packet)
        if kind == wire.NOTE_READY:
            if number != wire.VERSION:
                raise WireError(f"it speaks version {number}")
            process.ready = True
            if process is self._successor and self._replacing:
                self._successor_ready()
        elif process is self._process:
            if kind == wire.NOTE_TAKEN:
                self.taken = True
            self._owner.loop_note(kind, number, token)
