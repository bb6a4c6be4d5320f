"""Prepares a plan, as a transaction: reads the file, and acquires all that is new.

If anything fails, what was acquired is released, and the error says what failed and where.
"""

from collections.abc import Callable
from functools import partial

from ucspid.errors import ResourceError, UcspidError
from ucspid.master import reader
from ucspid.master.acquired import Acquired, StartProfile
from ucspid.master.children import Children
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.holdings import Holdings
from ucspid.master.job import Job
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.poller import Poller, Timer
from ucspid.plan import Plan

LAUNCHER_TIMEOUT = 15.0
"""Seconds that new launchers may take to be ready."""

PreparationDone = Callable[[tuple[Plan, Acquired] | UcspidError], None]


class Preparation:
    """One attempt; done() gets the plan and what was acquired for it, or the error."""

    def __init__(
        self,
        source: str | Plan,
        held: Holdings,
        children: Children,
        poller: Poller,
        start: StartProfile,
        done: PreparationDone,
    ) -> None:
        """Begin by reading the file; or with a plan that needs none. Raises ResourceError."""
        self._held = held
        self._poller = poller
        self._start = start
        self._done = done
        self._plan: Plan | None = None
        self._acquired = Acquired()
        self._over = False
        self._timer: Timer | None = None
        self._reader: Job | None = None
        if isinstance(source, Plan):
            self._timer = poller.call_in(0.0, partial(self._read, source))
        else:
            self._reader = reader.read(source, children, poller, self._read)

    def launchers(self) -> list[tuple[ProfileLaunchers, HeldLauncher]]:
        """Return the launchers that were started for the new plan."""
        return [
            (profile, launcher)
            for profile in self._acquired.profiles.values()
            for launcher in profile.launchers.values()
        ]

    def launcher_ready(self) -> None:
        """Go on when all new launchers are ready."""
        if self._plan is not None and not self._over and self._acquired.ready:
            self._end()
            self._done((self._plan, self._acquired))

    def launcher_refused(self, profile: ProfileLaunchers, reason: str) -> bool:
        """Fail if it is one of the new launchers; return whether it was."""
        if self._over or profile not in self._acquired.profiles.values():
            return False
        self._fail(ResourceError(f"{profile.names}: privileges cannot be taken: {reason}"))
        return True

    def cancel(self) -> None:
        """Release everything; done() is not called."""
        if self._reader is not None:
            self._reader.cancel()
        self._release()

    def _read(self, result: Plan | UcspidError) -> None:
        if self._over:
            return
        if isinstance(result, UcspidError):
            self._fail(result)
            return
        self._plan = result
        self._timer = self._poller.call_in(LAUNCHER_TIMEOUT, self._too_late)
        try:
            self._held.acquire(result, self._acquired, self._start)
        except ResourceError as problem:
            self._fail(problem)
        else:
            self.launcher_ready()

    def _too_late(self) -> None:
        self._fail(ResourceError(f"a launcher was not ready within {LAUNCHER_TIMEOUT:.0f} s"))

    def _fail(self, problem: UcspidError) -> None:
        if not self._over:
            self._release()
            self._done(problem)

    def _release(self) -> None:
        self._end()
        if self._plan is not None:
            self._acquired.release()

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
