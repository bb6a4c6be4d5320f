"""Prepares a plan, as a transaction: reads the file, or takes the plan in force, and acquires what is new.

If anything fails, what was acquired is released, and the error says what failed and where.
"""

from collections.abc import Callable, Collection
from functools import partial

from ucspid.errors import ConfigError, ResourceError, UcspidError
from ucspid.ipc.orders import TakeStage
from ucspid.master import reader
from ucspid.master.acquired import Acquired
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.parts import Parts
from ucspid.master.poller import Timer
from ucspid.plan import Plan

LAUNCHER_TIMEOUT = 15.0
"""Seconds that new launchers may take to be ready."""

IMPORT_TIMEOUT = 30.0
"""The same, if there are programs to import."""

STARTING = "starting launchers"
IMPORTING = "starting launchers, importing programs"
"""Stages that control clients are shown while they wait."""

PreparationDone = Callable[[tuple[Plan, Acquired] | UcspidError], None]


class Preparation:
    """One attempt; done() gets the plan and what was acquired for it, or the error."""

    def __init__(self, parts: Parts, done: PreparationDone, renewed: Collection[int] | None = None) -> None:
        """Begin by reading the file, unless the plan is given. Raises ResourceError.

        If renewed is given, the plan is the one in force, and the programs of profiles with these numbers are
        imported again.
        """
        self._held = held = parts.held
        self._poller = poller = parts.poller
        self._start = parts.starter.start
        self._tls = parts.tls
        self._send = parts.loop.send
        self._done = done
        self._plan: Plan | None = None
        self._acquired = Acquired()
        self._over = False
        self._timer: Timer | None = None
        self._renewed = renewed
        source = (parts.given or parts.config) if renewed is None else held.plan
        if isinstance(source, str):
            self._cancel_reading = reader.ConfigReading(source, parts.children, poller, self._read).cancel
        else:
            assert source is not None
            self._cancel_reading = poller.call_in(0.0, partial(self._take, source)).cancel

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

    def launcher_refused(self, profile: ProfileLaunchers, reason: str, *, program: bool) -> bool:
        """Fail if it is one of the new launchers; return whether it was."""
        if self._over or profile not in self._acquired.profiles.values():
            return False
        if program:
            self._fail(ConfigError(f"{profile.names}: {reason}".splitlines()))
        else:
            self._fail(ResourceError(f"{profile.names}: privileges cannot be taken: {reason}"))
        return True

    def tls_refused(self, reason: str) -> bool:
        """Fail if the plan has certificates that a TLS process is to use; return whether it has."""
        if self._over or not self._acquired.tls:
            return False
        self._fail(ResourceError(f"tls: the certificates cannot be used: {reason}"))
        return True

    def cancel(self) -> None:
        """Release everything; done() is not called."""
        self._cancel_reading()
        self._release()

    def _read(self, result: tuple[Plan, int] | UcspidError) -> None:
        if isinstance(result, UcspidError):
            self._fail(result)
        else:
            plan, self._acquired.material = result
            self._take(plan)

    def _take(self, plan: Plan) -> None:
        self._plan = plan
        imports = any(service.preloaded is not None for service in plan.services)
        seconds = IMPORT_TIMEOUT if imports else LAUNCHER_TIMEOUT
        self._send(TakeStage(stage=IMPORTING if imports else STARTING))
        self._timer = self._poller.call_in(seconds, partial(self._too_late, seconds))
        try:
            self._held.acquire(plan, self._acquired, self._start, self._renewed)
            if self._renewed is None:
                self._tls.acquire(plan.tls, self._acquired)
        except ResourceError as problem:
            self._fail(problem)
        else:
            self.launcher_ready()

    def _too_late(self, seconds: float) -> None:
        late = [profile.names for profile in self._acquired.profiles.values() if not profile.ready]
        which = "".join(f"{names}: " for names in late)
        self._fail(ResourceError(f"{which}a launcher was not ready within {seconds:.0f} s"))

    def _fail(self, problem: UcspidError) -> None:
        if not self._over:
            self._release()
            self._done(problem)

    def _release(self) -> None:
        self._end()
        if self._plan is not None:
            self._tls.release(self._acquired)
            self._acquired.release()

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
