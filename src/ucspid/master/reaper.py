"""The exits of the master's children: each goes to whom it belongs, whatever its status is."""

from collections.abc import Callable, Iterable

from ucspid.ipc import session_table
from ucspid.master.children import Children, reap_one
from ucspid.master.holdings import Holdings
from ucspid.master.internal_errors import InternalErrors
from ucspid.master.launchers import Exit, Launcher, ProfileLaunchers
from ucspid.master.loop_supervisor import LoopLink

NewLaunchers = Callable[[], Iterable[tuple[ProfileLaunchers, Launcher]]]
"""Returns the launchers of a plan that is not in force yet."""


class Reaper:
    """Takes the exits of processes of the daemon, of programs whose launcher has died, and of strangers."""

    def __init__(
        self,
        children: Children,
        loop: LoopLink,
        held: Holdings,
        new_launchers: NewLaunchers,
        errors: InternalErrors,
    ) -> None:
        """Know who has children."""
        self._children = children
        self._loop = loop
        self._held = held
        self._new_launchers = new_launchers
        self._errors = errors

    def reap(self) -> None:
        """Take all exits: the daemon's own processes first, so that orphans have a launcher when they end."""
        exits = []
        while (exit_ := reap_one()) is not None:
            exits.append(exit_)
        self.take(exits)

    def take(self, exits: list[Exit]) -> None:
        """Take exits that have been reaped; one that cannot be taken keeps no other from it."""
        ended = {exit_.pid for exit_ in exits} - self._own()
        others = []
        for exit_ in exits:
            with self._errors.contained():
                if not self._own_exited(exit_, ended):
                    others.append(exit_)
        for exit_ in others:
            with self._errors.contained():
                any(profile.orphan_exited(exit_) for profile in self._held.all_profiles())

    def launchers(self) -> list[tuple[ProfileLaunchers, Launcher]]:
        """Return all launchers, those of a plan that is not in force yet, too."""
        return [*self._held.all_launchers(), *self._new_launchers()]

    def _own(self) -> set[int]:
        """Return the processes that are no programs."""
        launchers = {launcher.pid for _profile, launcher in self.launchers()}
        return self._loop.pids | self._children.expected | launchers

    def _own_exited(self, exit_: Exit, ended: set[int]) -> bool:
        if self._loop.exited(exit_) or self._children.exited(exit_):
            return True
        for profile, launcher in self.launchers():
            if launcher.pid == exit_.pid:
                profile.died(launcher, exit_, self.orphans(launcher, ended))
                if launcher.number not in profile.launchers:
                    self._loop.launcher_gone(launcher.number)
                    self._held.forget_left()
                return True
        return False

    def orphans(self, dead: Launcher, ended: set[int]) -> set[int]:
        """Return the programs of a launcher that has just died: see Children.orphans()."""
        others, named = {*self._loop.pids, *self._children.expected}, set[int]()
        for _profile, launcher in self.launchers():
            others.add(launcher.pid)
            if launcher is not dead:
                others |= launcher.orphans
                named |= session_table.processes(launcher.memory)
        return self._children.orphans(dead.pid, session_table.processes(dead.memory), ended, named) - others
