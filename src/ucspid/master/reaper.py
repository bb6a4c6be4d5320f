"""Reaps the master's children and passes each exit to whoever has to know it."""

from ucspid.ipc import session_table
from ucspid.master.changeover import Changeover
from ucspid.master.children import Exit, reap_one
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.internal_errors import InternalErrors
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.parts import Parts


class Reaper:
    """Reaps processes of the daemon, programs whose launcher has died, and strangers."""

    def __init__(self, parts: Parts, changeover: Changeover, errors: InternalErrors) -> None:
        """Use the parts that have started children."""
        self._children = parts.children
        self._loop = parts.loop
        self._held = parts.held
        self._changeover = changeover
        self._errors = errors

    def reap(self) -> None:
        """Reap all children that have exited, and pass their exits on."""
        exits = []
        while (exit_ := reap_one()) is not None:
            exits.append(exit_)
        self.take(exits)

    def take(self, exits: list[Exit]) -> None:
        """Pass exits on: first of the daemon's own processes, so that orphans have a launcher by then.

        An exit that raises something does not affect the others.
        """
        ended = {exit_.pid for exit_ in exits} - self._own()
        others = []
        for exit_ in exits:
            with self._errors.contained():
                if not self._own_exited(exit_, ended):
                    others.append(exit_)
        for exit_ in others:
            with self._errors.contained():
                any(profile.orphan_exited(exit_) for profile in self._held.all_profiles())

    def launchers(self) -> list[tuple[ProfileLaunchers, HeldLauncher]]:
        """Return all launchers, those of a plan that is not in force yet, too."""
        preparation = self._changeover.preparation
        return [*self._held.all_launchers(), *([] if preparation is None else preparation.launchers())]

    def _own(self) -> set[int]:
        """Return the processes of the daemon, which are not programs."""
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
                    self._held.forget_drained()
                return True
        return False

    def orphans(self, dead: HeldLauncher, ended: set[int]) -> set[int]:
        """Return the programs of a launcher that has just died: see Children.orphans()."""
        others, named = {*self._loop.pids, *self._children.expected}, set[int]()
        for _profile, launcher in self.launchers():
            others.add(launcher.pid)
            if launcher is not dead:
                others |= launcher.orphans
                named |= session_table.processes(launcher.memory)
        return self._children.orphans(dead.pid, session_table.processes(dead.memory), ended, named) - others
