"""Starts launchers, and numbers them and their profiles: no number is used twice."""

import itertools

from ucspid.errors import ResourceError
from ucspid.master import events
from ucspid.master.event_log import EventLog
from ucspid.master.launchers import LauncherObserver, ProfileLaunchers
from ucspid.master.poller import Poller
from ucspid.master.programs import HeldProgram
from ucspid.master.upgrade_state import MasterState, ProfileState
from ucspid.plan import LauncherKey, LauncherKind


class LauncherStarter:
    """Starts the launchers of profiles."""

    def __init__(
        self,
        nofile: int,
        poller: Poller,
        log: EventLog,
        observer: LauncherObserver,
        state: MasterState | None,
    ) -> None:
        """Go on from the numbers of an earlier image of the master, if there is its state.

        nofile is the soft limit of descriptors that the daemon was started with, for programs.
        """
        self.nofile = nofile
        self._poller = poller
        self._log = log
        self._observer = observer
        self._launchers = itertools.count(1 if state is None else state.next_launcher)
        self._profiles = itertools.count(1 if state is None else state.next_profile)

    def next_numbers(self) -> tuple[int, int]:
        """Return the numbers of the next launcher and the next profile, for the next image of the master."""
        return next(self._launchers), next(self._profiles)

    def start(
        self, key: LauncherKey, programs: list[HeldProgram], names: str, kind: LauncherKind
    ) -> ProfileLaunchers:
        """Start the first launcher of a profile. Raises ResourceError."""
        number = next(self._profiles)
        launchers = ProfileLaunchers(number, key, self.nofile, self._poller, self._log, self._observer, kind)
        launchers.set_programs(programs, names)
        launchers.add(next(self._launchers))
        return launchers

    def take_over(self, state: ProfileState) -> ProfileLaunchers:
        """Return a profile and its launchers as an earlier image of the master had them."""
        return ProfileLaunchers.from_state(state, self.nofile, self._poller, self._log, self._observer)

    def add(self, profile: ProfileLaunchers) -> None:
        """Start a further launcher of a profile, if it may have one."""
        if profile.may_grow:
            try:
                profile.add(next(self._launchers))
            except ResourceError as problem:
                events.launcher_not_started(self._log, str(problem))
