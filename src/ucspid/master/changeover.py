"""Carries out a start, reloads and upgrades, one after the other: transition.py has the phases."""

from collections.abc import Callable

from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.master import events, upgrade
from ucspid.master.acquired import Acquired
from ucspid.master.forecast import Forecast
from ucspid.master.job import Job
from ucspid.master.parts import Parts
from ucspid.master.poller import Timer
from ucspid.master.preparation import Preparation
from ucspid.master.reports import ChangeReports
from ucspid.master.text import first_lines, print_error
from ucspid.master.transition import Phase, Step, Transition
from ucspid.master.upgrade_state import MasterState
from ucspid.plan import Plan
from ucspid.policy.plan_changes import changes

TIMEOUTS = {Phase.PREPARING: 70.0, Phase.TAKING: 60.0, Phase.TRYING: 60.0}
"""Seconds that a phase may take: more than the sum of the time limits of all its steps."""


class Changeover:
    """The change under way, if any, and the ones requested after it."""

    def __init__(
        self,
        parts: Parts,
        before: MasterState | None,
        to_state: Callable[[], MasterState],
        end: Callable[[int], None],
    ) -> None:
        """Begin with nothing under way; before is the state of an earlier image of the master.

        to_state() returns that of this one, end() ends the daemon with an exit status.
        """
        self.reports = ChangeReports(parts, before)
        self._transition = Transition()
        self._clients = self.reports.clients
        self.forecast = Forecast(parts, self._clients)
        self._parts = parts
        self._to_state = to_state
        self._end = end
        self.preparation: Preparation | None = None
        """For a plan that is not in force yet."""
        self._renewed: set[int] = set()
        self._trial: Job | None = None
        self._timer: Timer | None = None

    @property
    def draining(self) -> bool:
        """Whether the daemon stops: nothing begins any more."""
        return self._transition.phase is Phase.DRAINING

    # Requests

    def reload(self, token: int = 0) -> None:
        """Read the file and put it in force as soon as no other change is under way.

        token is the client that waits for it. Raises WireError if too many wait.
        """
        self._clients.wait(self._clients.for_next_reload, token)
        self._transition.reload_wanted = True
        self._go_on()

    def upgrade(self, token: int = 0) -> None:
        """Execute the installed code as soon as no other change is under way; see reload()."""
        self._clients.wait(self._clients.for_upgrade, token)
        self._transition.upgrade_wanted = True
        self._go_on()

    def renew(self, profile: int) -> None:
        """Import a profile's program again when no other change is under way, unless a reload has done so."""
        self._renewed.add(profile)
        self._go_on()

    def _go_on(self) -> None:
        """Begin what was requested, if it can begin now."""
        self._renewed &= {profile.number for profile in self._parts.held.profiles.values()}
        self._transition.renewal_wanted = bool(self._renewed)
        if self.draining:
            self.reports.stopping()
        if (step := self._transition.due()) in (Step.PREPARE, Step.RENEW):
            self._prepare(step)
        elif step is Step.TRY:
            self._try()

    def stop(self) -> None:
        """Cancel the change under way, and begin no other."""
        self._cancel()
        self.forecast.cancel()
        self._take(Step.STOP)
        self.reports.stopping()

    def _cancel(self) -> None:
        if self.preparation is not None:
            self.preparation.cancel()
            self.preparation = None
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None

    def _take(self, step: Step) -> None:
        """Enter the next phase, have the loop know it, and start its timer."""
        before = self._transition.phase
        self._transition.take(step)
        phase = self._transition.phase
        if phase is before:
            return
        if self._timer is not None:
            self._timer.cancel()
        call_in, timeout = self._parts.poller.call_in, TIMEOUTS.get(phase)
        self._timer = None if timeout is None else call_in(timeout, self._too_long)
        self.reports.entered(phase)

    def _too_long(self) -> None:
        """End a phase that has taken too long."""
        phase = self._transition.phase
        self._cancel()
        problem = ResourceError(f"{phase.value}: not done within {TIMEOUTS[phase]:g} s")
        if phase is Phase.TAKING:
            self.overdue(f"no event loop serves the new plan within {TIMEOUTS[phase]:g} s")
        elif phase is Phase.TRYING:
            self._tried(problem)
        else:
            self._failed(problem)

    def _ended(self) -> None:
        """Report that the daemon is ready again, and begin what was requested meanwhile."""
        if not self.draining:
            assert self._parts.held.plan is not None
            self._parts.readiness.ready(len(self._parts.held.plan.services))
        self._go_on()

    # A plan

    def _prepare(self, step: Step) -> None:
        """Read the file; or, for a renewal, import what has changed again under the plan in force."""
        self._take(step)
        parts = self._parts
        renewed, self._renewed = self._renewed if step is Step.RENEW else None, set()
        self.reports.begin(renewed)
        try:
            self.preparation = Preparation(parts, self._prepared, renewed)
        except ResourceError as problem:
            self._failed(problem)

    def _prepared(self, result: tuple[Plan, Acquired] | UcspidError) -> None:
        self.preparation = None
        if isinstance(result, UcspidError):
            self._failed(result)
        else:
            self._put_in_force(*result)

    def _failed(self, problem: UcspidError) -> None:
        """Keep the previous plan; if there is none, end the daemon."""
        self._take(Step.FAILED)
        if self._parts.held.plan is None:
            print_error(problem)
            self._end(EXIT_USAGE if isinstance(problem, ConfigError) else EXIT_SYSTEM)
        else:
            self.reports.plan_failed(problem)
            self._ended()

    def _put_in_force(self, plan: Plan, acquired: Acquired) -> None:
        """Put a plan in force: nothing can fail from here on."""
        self._take(Step.PREPARED)
        self.reports.changes = first_lines(changes(self._parts.held.plan, plan))
        before = self._parts.held.plan
        for completed in acquired.completed:
            events.listener_completed(self._parts.log, completed)
        for unwanted in self._parts.settling.go_over(plan, acquired):
            events.passed_socket_closed(self._parts.log, unwanted)
        self._parts.tls.go_over(plan.tls, acquired)
        self._parts.certificates.follow(plan)
        another = before is not None and before.loop_settings != plan.loop_settings
        self._parts.loop.serve(by_another=another)

    def taken(self) -> None:
        """The loop serves the plan in force: release what only the previous plan needed."""
        if not self._transition.unserved:
            return
        awaited = self._transition.phase is Phase.TAKING
        self._take(Step.TAKEN)
        self._parts.held.release_old()
        self.reports.served(awaited=awaited)
        if awaited:
            self._ended()

    def overdue(self, reason: str) -> None:
        """Wait no longer for a loop that serves the plan in force, unless it is the first plan."""
        if self._transition.phase is Phase.TAKING and self._parts.loop.generation > 1:
            self._take(Step.OVERDUE)
            self.reports.overdue(reason)
            self._ended()

    def loop_hands_over(self) -> None:
        """Answer all waiting clients: the loop process that serves them is about to exit."""
        self.reports.loop_hands_over(in_force=self._transition.phase is Phase.TAKING)

    # An upgrade

    def _try(self) -> None:
        self._take(Step.TRY)
        parts = self._parts
        if parts.given is not None:
            reason = f"{parts.config} has no file that another version could read: restart it"
            self._tried(ResourceError(reason))
            return
        try:
            self._trial = upgrade.start_trial(self._to_state(), parts.children, parts.poller, self._tried)
        except ResourceError as problem:
            self._tried(problem)

    def _tried(self, problem: UcspidError | None) -> None:
        self._trial = None
        if problem is None:
            self._parts.web.stop()  # the next image would not know it
            problem = upgrade.execute(self._to_state())
        self._take(Step.FAILED)
        self.reports.trial_failed(problem)
        self._ended()
