"""What the master is doing: a start, a reload, an upgrade or a stop, as phases and what leads on from each.

Pure. The first start is a reload with nothing in force; an upgrade is a trial, and then, in the next
image of the master, a reload. A renewal puts the plan in force once more, with new launchers for preloaded
programs that have changed; a reload does that, too. What is wanted meanwhile begins when nothing else is
under way, and several requests for the same are one.
"""

from enum import Enum


class Phase(Enum):
    """What is under way."""

    IDLE = "idle"
    PREPARING = "preparing"
    TAKING = "taking"
    TRYING = "trying"
    DRAINING = "draining"


class Step(Enum):
    """What leads from one phase to the next."""

    PREPARE = "a reader starts"
    RENEW = "changed programs are imported"
    PREPARED = "the plan is in force"
    TAKEN = "the loop serves it"
    OVERDUE = "the loop does not serve it in time"
    TRY = "a trial starts"
    FAILED = "what is under way fails"
    STOP = "the daemon is to stop"


NEXT: dict[tuple[Phase, Step], Phase] = {
    (Phase.IDLE, Step.PREPARE): Phase.PREPARING,
    (Phase.IDLE, Step.RENEW): Phase.PREPARING,
    (Phase.IDLE, Step.TRY): Phase.TRYING,
    (Phase.PREPARING, Step.PREPARED): Phase.TAKING,
    (Phase.PREPARING, Step.FAILED): Phase.IDLE,
    (Phase.TAKING, Step.TAKEN): Phase.IDLE,
    (Phase.TAKING, Step.OVERDUE): Phase.IDLE,
    (Phase.TRYING, Step.FAILED): Phase.IDLE,
    # A plan that was overdue is taken in the end, whatever is under way then.
    **{(phase, Step.TAKEN): phase for phase in Phase if phase is not Phase.TAKING},
    **{(phase, Step.STOP): Phase.DRAINING for phase in Phase},
}
"""The next phase, by phase and step; any other pair is a bug."""


class Transition:
    """The current phase, and what was requested meanwhile."""

    def __init__(self) -> None:
        """Begin with nothing under way."""
        self.phase = Phase.IDLE
        self.reload_wanted = False
        self.upgrade_wanted = False
        self.renewal_wanted = False
        self.unserved = False
        """Whether no loop has served the plan in force yet."""

    def take(self, step: Step) -> None:
        """Go on to the next phase. Raises KeyError where the step cannot come in this one."""
        self.phase = NEXT[self.phase, step]
        if step is Step.PREPARE:
            self.reload_wanted = self.renewal_wanted = False
        elif step is Step.RENEW:
            self.renewal_wanted = False
        elif step is Step.TRY:
            self.upgrade_wanted = False
        elif step in (Step.PREPARED, Step.TAKEN):
            self.unserved = step is Step.PREPARED

    def due(self) -> Step | None:
        """Return the step that begins what was requested, if it can begin now."""
        if self.phase is not Phase.IDLE:
            return None
        if self.upgrade_wanted:
            return Step.TRY
        if self.reload_wanted:
            return Step.PREPARE
        return Step.RENEW if self.renewal_wanted else None
