"""The master: starts the other processes of the daemon, holds what must outlive them, reloads, stops.

It runs with the privileges that it was started with, so it reads nothing that the network
has a hand in: not the clients' sockets, and of the loop's words only fixed layouts. It has no
threads and no asyncio; signals arrive as data.
"""

import contextlib
import itertools
import os
import signal

from ucspid import __version__
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError, ResourceError, UcspidError, WireError
from ucspid.ipc import messages as wire
from ucspid.linux import prctl
from ucspid.master.children import Children, kill_descendants
from ucspid.master.fdstore import Passed
from ucspid.master.holdings import Acquired, Holdings
from ucspid.master.internal_errors import InternalErrors
from ucspid.master.launchers import Launcher, ProfileLaunchers
from ucspid.master.loop_supervisor import LoopLink
from ucspid.master.notify import notify, reloading
from ucspid.master.poller import Poller, Timer
from ucspid.master.programs import Program
from ucspid.master.reaper import Reaper
from ucspid.master.reload import Reload
from ucspid.master.rule_variables import RuleVariables
from ucspid.master.settling import Settling
from ucspid.master.truncate import beginning, say, short
from ucspid.master.upgrade import Upgrade
from ucspid.master.upgrade_state import STATE, ProfileState, State
from ucspid.plan import Plan
from ucspid.policy.plan_changes import changes
from ucspid.profile import Profile

SIGNALS: set[int] = {signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
STOPPING = ResourceError("the daemon stops")
MAX_TOKENS = 100
"""Control clients who may wait for the same; the loop has 16 at a time."""

LAST_RESORT = 10.0
"""Seconds beyond all timeouts of services after which a stop kills what is left."""


class Master:
    """The daemon as a whole."""

    def __init__(
        self, config: str, ready_fd: int | None, signalfd: int, nofile: int, state: State | None = None
    ) -> None:
        """Hold nothing yet, or what an earlier image of this process did, if its state is given.

        nofile is the soft limit of descriptors that the daemon was started with.
        """
        self._config = config
        self._ready_fd = ready_fd
        self._signalfd = signalfd
        self._nofile = nofile
        errors = InternalErrors(self._went_wrong)
        self._poller = Poller(errors.caught)
        self._children = Children()
        self._before = state
        if state is None:
            self._held = Holdings(passed=Passed.from_environment())
        else:
            self._held = Holdings.from_state(state.holdings, self._take_over)
        self._loop = LoopLink(config, self._held, self._poller, self)
        self._settling = Settling(self._held, self._poller)
        self._reload: Reload | None = None
        self._reaper = Reaper(self._children, self._loop, self._held, self._new_launchers, errors)
        self._tokens: list[int] = []
        self._again: list[int] | None = None
        self._answer: tuple[list[int], list[str]] | None = None
        self._launcher_numbers = itertools.count(1 if state is None else state.next_launcher)
        self._profile_numbers = itertools.count(1 if state is None else state.next_profile)
        self._upgrade = Upgrade(self, config, self._children, self._poller, self._reload_ended)
        self._variables = RuleVariables(self._held, self._loop, self._children, self._poller)
        self._upgraded = None if state is None else (state.version, state.upgrade_tokens)
        """From which version, and the control clients who wait for it, until the new loop serves."""
        self._stop_timer: Timer | None = None
        self.exit: int | None = None
        """The exit status, when it is time to end."""

    def run(self) -> int:
        """Start, work, stop; return the exit status."""
        self.begin()
        while self.exit is None:
            self._poller.run_once()
        self._held.close()
        return self.exit

    def begin(self) -> None:
        """Start the event loop, or take up the one of before, and read the file."""
        self._poller.watch(self._signalfd, self._signals)
        try:
            if self._before is None:
                self._loop.start()
            else:
                self._loop.from_state(self._before.loop)
        except ResourceError as problem:
            say(problem)
            self.exit = EXIT_SYSTEM
            return
        self._begin_reload([] if self._before is None else self._before.reload_tokens)

    # The next image of this process, and the one before

    def to_state(self, upgrade_tokens: list[int]) -> State:
        """Return everything that the next image of this process is to know."""
        return State(
            state=STATE,
            wire=wire.VERSION,
            version=__version__,
            config=self._config,
            nofile=self._nofile,
            next_launcher=next(self._launcher_numbers),
            next_profile=next(self._profile_numbers),
            upgrade_tokens=upgrade_tokens,
            reload_tokens=self._again or [],
            loop=self._loop.to_state(),
            holdings=self._held.to_state(),
        )

    def _take_over(self, state: ProfileState) -> tuple[Profile, ProfileLaunchers]:
        return ProfileLaunchers.from_state(state, self._nofile, self._poller, self)

    def _begin_upgrade(self, tokens: list[int]) -> None:
        """Become the code that is installed, after a reload that is under way."""
        if self._loop.draining:
            self.tell_tokens(tokens, STOPPING)
        else:
            self._upgrade.want(tokens)
            self._go_on()

    def _go_on(self) -> None:
        """Begin what had to wait."""
        if self._busy or self._held.plan is None:
            return
        if self._upgrade.wanted:
            self._upgrade.begin()
        elif self._again is not None:
            tokens, self._again = self._again, None
            self._begin_reload(tokens)

    @property
    def _busy(self) -> bool:
        return self._reload is not None or self._answer is not None or self._upgrade.trying

    def _upgrade_failed(self, problem: UcspidError) -> None:
        """Say that the code of before goes on serving, until a reload or another upgrade succeeds."""
        if self._upgraded is not None:
            before, tokens = self._upgraded
            self._upgraded = None
            self.log("error", "upgrade_failed", version=__version__, before=before, reason=short(problem))
            self.tell_tokens(tokens, problem)

    # Signals and children

    def _signals(self) -> None:
        for number in prctl.read_signals(self._signalfd):
            self.signalled(number)

    def signalled(self, number: int) -> None:
        """Do what a signal asks for."""
        if number == signal.SIGCHLD:
            self._reaper.reap()
            if self._loop.draining:
                self._finish_if_done()
        elif number == signal.SIGHUP:
            self._begin_reload([])
        elif number == signal.SIGUSR2:
            self._begin_upgrade([])
        else:
            self._stop()

    def _new_launchers(self) -> list[tuple[ProfileLaunchers, Launcher]]:
        return [] if self._reload is None else self._reload.new_launchers()

    # What launchers and the loop tell

    def launcher_ready(self, profile: ProfileLaunchers, launcher: Launcher) -> None:
        """Tell the loop of the launcher, or go on with the reload that waits for it."""
        if profile in self._held.all_profiles():
            self._loop.tell_launcher(profile, launcher)
        elif self._reload is not None:
            self._reload.launcher_ready()

    def launcher_refused(self, profile: ProfileLaunchers, reason: str) -> None:
        """Fail the reload that waits for the launcher; one that served before is tried again."""
        if self._reload is None or not self._reload.launcher_refused(profile, reason):
            self.log("error", "launcher_refused", services=profile.names, reason=reason)

    def loop_note(self, kind: int, number: int, token: int) -> None:
        """Take a note of the loop's, which is not trusted. Raises WireError for what no loop asks."""
        if kind in (wire.NOTE_TAKEN, wire.NOTE_SETTLED):
            if number == self._loop.generation:
                (self._plan_taken if kind == wire.NOTE_TAKEN else self._settling.settled)()
        elif kind == wire.NOTE_MORE:
            self._more_launchers(number)
        elif kind == wire.NOTE_BROKEN:
            self._held.kill_launcher(number)
        elif kind == wire.NOTE_RELOAD:
            self._begin_reload(self._clients(token, self._again or []))
        elif kind == wire.NOTE_UPGRADE:
            self._begin_upgrade(self._clients(token, self._upgrade.tokens))
        elif kind == wire.NOTE_VARIABLES:
            self._variables.want(number)
        else:
            raise WireError(f"it sent a note of kind {kind}")

    def _clients(self, token: int, waiting: list[int]) -> list[int]:
        """Return the token of a client that waits; none for 0. Raises WireError where too many wait."""
        if token and len(waiting) >= MAX_TOKENS:
            raise WireError(f"more than {MAX_TOKENS} of its clients wait for the same")
        return [token] if token else []

    def loop_died(self) -> None:
        """Forget the control clients who wait: they were this loop's."""
        self._tokens = []
        self._again = None if self._again is None else []
        self._answer = None if self._answer is None else ([], self._answer[1])
        self._upgraded = None if self._upgraded is None else (self._upgraded[0], [])
        self._upgrade.forget_clients()

    def loop_leaves(self) -> None:
        """Answer those who wait: they are this loop's clients, the next one does not know them."""
        if self._answer is not None:
            self._answer_clients()
        if self._upgraded is not None:
            before, tokens = self._upgraded
            self._upgraded = before, []
            result = {"before": before, "version": __version__, "generation": self._loop.generation}
            changes = [] if self._answer is None else self._answer[1]
            for token in tokens:
                self._loop.reloaded(token, ok=True, result=result | {"changes": changes})

    def loop_not_replaced(self, reason: str) -> None:
        """Answer those who wait that it takes longer: the plan is in force as soon as a loop can be had."""
        if self._answer is not None:
            tokens, lines = self._answer
            self._answer = [], lines
            self.tell_tokens(tokens, ResourceError(reason))
            self._upgrade_failed(ResourceError(reason))

    def loop_lost(self, reason: str) -> None:
        """End: there is no loop to be had."""
        say(reason)
        self._kill_everything(EXIT_SYSTEM)

    def log(self, level: str, event: str, **fields: object) -> None:
        """Have the loop log an event."""
        self._loop.log(level, event, **fields)

    def _more_launchers(self, number: int) -> None:
        for profile in self._held.all_profiles():
            if profile.number == number and profile.may_grow:
                try:
                    profile.add(next(self._launcher_numbers))
                except ResourceError as problem:
                    self.log("error", "process_not_started", role="launcher", reason=str(problem))

    # Reload

    def _begin_reload(self, tokens: list[int]) -> None:
        """Read the file again and go over to it; one that comes during another follows it."""
        if self._loop.draining:
            self.tell_tokens(tokens, STOPPING)
        elif self._busy:
            self._again = (self._again or []) + tokens
        else:
            if self._held.plan is not None:
                reloading()
            self._tokens = tokens
            try:
                self._reload = Reload(
                    self._config, self._held, self._children, self._poller, self._start_profile, self._read
                )
            except ResourceError as problem:
                self._read(problem)

    def _start_profile(self, profile: Profile, programs: list[Program], names: str) -> ProfileLaunchers:
        number = next(self._profile_numbers)
        launchers = ProfileLaunchers(number, profile, self._nofile, self._poller, self)
        launchers.set_programs(programs, names)
        launchers.add(next(self._launcher_numbers))
        return launchers

    def _read(self, result: tuple[Plan, Acquired] | UcspidError) -> None:
        self._reload = None
        if not isinstance(result, UcspidError):
            self._go_over(*result)
        elif self._held.plan is None:
            say(result)
            self._kill_everything(EXIT_USAGE if isinstance(result, ConfigError) else EXIT_SYSTEM)
        else:
            if self._upgraded is None:
                self.log("error", "reload_failed", reason=short(result))
            self._upgrade_failed(result)
            self.tell_tokens(self._tokens, result)
            self._reload_ended()

    def _go_over(self, plan: Plan, acquired: Acquired) -> None:
        """Nothing can fail from here on: the new plan is in force."""
        self._answer = self._tokens, beginning(changes(self._held.plan, plan))
        before = self._settling.go_over(plan, acquired)
        self._loop.generation += 1
        if self._loop.outdated or (before is not None and before.loop_settings != plan.loop_settings):
            self._loop.replace()
        else:
            self._loop.tell_plan()

    def _answer_clients(self) -> None:
        assert self._answer is not None
        tokens, lines = self._answer
        self._answer = [], lines
        for token in tokens:
            self._loop.reloaded(token, ok=True, result={"changes": lines})

    def _plan_taken(self) -> None:
        """The loop serves the new plan: let go of what only the old one had."""
        if self._answer is None:
            return
        self._held.release_old()
        _tokens, lines = self._answer
        if self._upgraded is not None:
            before, _tokens = self._upgraded
            self._upgraded = None
            self.log("info", "upgraded", before=before, version=__version__, changes=lines)
        else:
            self.log("info", "reloaded" if self._loop.generation > 1 else "started", changes=lines)
        self._answer_clients()
        self._answer = None
        if self._ready_fd is not None:
            with contextlib.suppress(OSError):  # whoever waited for it is gone
                os.write(self._ready_fd, b"\n")
            os.close(self._ready_fd)
            self._ready_fd = None
        self._reload_ended()

    def _reload_ended(self) -> None:
        if not self._loop.draining:
            assert self._held.plan is not None
            notify("READY=1", f"STATUS={len(self._held.plan.services)} services")
        self._go_on()

    def tell_tokens(self, tokens: list[int], problem: UcspidError) -> None:
        """Tell control clients that what they wished for did not come about."""
        kind = "config" if isinstance(problem, ConfigError) else "system"
        for token in tokens:
            self._loop.reloaded(token, ok=False, kind=kind, error=short(problem))

    # The end

    def _stop(self) -> None:
        """Drain; told again, be quick about it."""
        self._cancel_reload()
        if self._held.plan is None:
            self._kill_everything(0)
            return
        first = not self._loop.draining
        self._held.close_listeners()
        self._loop.drain(at_once=not first)
        if not first:
            return
        notify("STOPPING=1")
        for profile in self._held.all_profiles():
            profile.leaving = True
        patience = self._held.longest + LAST_RESORT
        self._stop_timer = self._poller.call_in(patience, lambda: self._kill_everything(0))

    def _cancel_reload(self) -> None:
        """Let go of what was acquired for a plan that will not be."""
        self._variables.cancel()
        if self._reload is not None:
            self._reload.cancel()
            self._reload = None
            self.tell_tokens(self._tokens, STOPPING)
        self.tell_tokens(self._again or [], STOPPING)
        self._again = None
        self._upgrade.cancel(STOPPING)
        self._upgrade_failed(STOPPING)

    def _finish_if_done(self) -> None:
        if not self._loop.pids and not self._reaper.launchers():
            self.exit = 0

    def _went_wrong(self, trace: str) -> None:
        """Log a bug of the master's; end where nothing serves yet."""
        if self._held.plan is None:
            say(trace)
            self._kill_everything(EXIT_SYSTEM)
        else:
            self.log("error", "internal_error", doing="the work of the master", exception=trace)

    def _kill_everything(self, status: int) -> None:
        """End without ceremony: nothing runs that is worth waiting for, or it does not end."""
        kill_descendants()
        self.exit = status
