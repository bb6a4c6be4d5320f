"""Reports the result of a start, a reload or an upgrade to the log, to control clients and to systemd."""

from collections.abc import Collection

from ucspid import __version__
from ucspid.errors import ResourceError, UcspidError
from ucspid.ipc.orders import TakeStage
from ucspid.master import events
from ucspid.master.control_clients import ControlClients
from ucspid.master.parts import Parts
from ucspid.master.transition import Phase
from ucspid.master.upgrade_state import MasterState

STAGES = {
    Phase.PREPARING: "reading the file",
    Phase.TAKING: "the event loop takes up the plan",
    Phase.TRYING: "trying the version that is installed",
}
"""What control clients are shown while they wait; Preparation goes on to further ones."""

STOPPING = ResourceError("the daemon stops")
REPLACED = ResourceError("another process of the event loop takes over: see the log for the result")


class ChangeReports:
    """Reports on the change that is under way."""

    def __init__(self, parts: Parts, before: MasterState | None) -> None:
        """Report on the rest of an upgrade, if there is the state of an earlier image of the master."""
        self.clients = ControlClients(parts.loop.send)
        self.changes: list[str] = []
        """What the plan in force has changed."""
        self.renewed: list[str] = []
        """The services whose programs are imported again, if nothing else is done."""
        self._parts = parts
        self._upgraded_from: str | None = None
        """The version of the image before, until a loop of this one's serves."""
        if before is not None:
            self._upgraded_from = before.version
            self.clients.for_next_reload = before.reload_tokens
            self.clients.for_upgrade = before.upgrade_tokens

    def begin(self, renewed: Collection[int] | None) -> None:
        """Take note that a reload begins; or only a renewal of the programs of these profiles."""
        if renewed is None:
            self.clients.begin_reload()
            if self._parts.held.plan is not None:
                self._parts.readiness.reloading()
        profiles = self._parts.held.profiles.values()
        self.renewed = [profile.names for profile in profiles if profile.number in (renewed or ())]

    def entered(self, phase: Phase) -> None:
        """Have the loop know what control clients wait for; a stop has answered them."""
        if phase is not Phase.DRAINING:
            self._parts.loop.send(TakeStage(stage=STAGES.get(phase)))

    def plan_failed(self, problem: UcspidError) -> None:
        """Report that the previous plan stays in force."""
        if self.renewed:
            events.programs_not_renewed(self._parts.log, self.renewed, problem)
        elif self._upgraded_from is None:
            events.reload_failed(self._parts.log, problem)
            self._parts.readiness.failed(problem)
        self._upgrade_failed(problem)
        self.clients.fail(self.clients.for_reload, problem)

    def overdue(self, reason: str) -> None:
        """Report that the plan is in force, but no loop serves it yet."""
        if self._upgraded_from is None:
            events.reload_overdue(self._parts.log, reason)
        self._upgrade_failed(ResourceError(reason))
        self.clients.fail(self.clients.for_reload, ResourceError(reason))

    def served(self, *, awaited: bool) -> None:
        """Report that the loop serves the plan in force; awaited unless that was overdue."""
        log = self._parts.log
        if self._upgraded_from is not None:
            events.upgraded(log, self._upgraded_from, self.changes)
            self._upgraded_from = None
        elif self.renewed:
            events.programs_renewed(log, self.renewed)
        elif self._parts.loop.generation > 1:
            events.reloaded(log, self.changes)
        else:
            events.started(log, self.changes)
            if earlier := self._parts.leftovers.find():
                events.earlier_processes(log, len(earlier))
        self._parts.readiness.serving()
        self._parts.web.serve()
        if self._parts.held.plan is not None:
            self._parts.watchdog.watch(self._parts.held.plan.watchdog)
        if awaited:
            self.clients.succeed(self.clients.for_reload, {"changes": self.changes})

    def loop_hands_over(self, *, in_force: bool) -> None:
        """Answer all waiting clients: the loop process that serves them is about to exit.

        in_force says that the plan that they wait for is in force, and only waits for the other.
        """
        if in_force:
            self.clients.succeed(self.clients.for_reload, {"changes": self.changes})
        if in_force and self._upgraded_from is not None:
            self.clients.succeed(
                self.clients.for_upgrade,
                {
                    "before": self._upgraded_from,
                    "version": __version__,
                    "generation": self._parts.loop.generation,
                    "changes": self.changes,
                },
            )
        self.clients.fail_all(REPLACED)

    def trial_failed(self, problem: UcspidError) -> None:
        """Report that the installed code is not used."""
        self._parts.web.serve()
        events.upgrade_failed(self._parts.log, problem)
        self.clients.fail(self.clients.for_upgrade, problem)

    def stopping(self) -> None:
        """Report that all changes are cancelled: the daemon stops."""
        self._parts.web.stop()
        self._upgrade_failed(STOPPING)
        self.clients.fail_all(STOPPING)

    def _upgrade_failed(self, problem: UcspidError) -> None:
        """Report that loop and launchers of the version before go on, until another change succeeds."""
        if self._upgraded_from is not None:
            events.upgrade_failed(self._parts.log, problem, self._upgraded_from)
            self._upgraded_from = None
            self.clients.fail(self.clients.for_upgrade, problem)
