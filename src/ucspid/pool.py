"""The launchers of one privilege profile: which of them gets a start, and when one more is wanted."""

import os
from collections.abc import Callable

from ucspid.spawn import LauncherClient

USUAL_LAUNCHERS = {"native": 1, "python": len(os.sched_getaffinity(0)) + 1}
"""Of a profile, when starts queue up, by kind. One in Python may be suspended for each program that is being
executed. The native one never is, and several of them are slower than one: more programs share the cores.
"""


class Pool:
    """The launchers of one privilege profile."""

    def __init__(self, more: Callable[[], None]) -> None:
        """Call more() when starts queue up; it asks the master, who has the last word."""
        self.launchers: dict[int, LauncherClient] = {}
        self.open = False
        """Whether starts are taken: not before all sessions of an earlier loop are known."""
        self._more = more
        self._asked = False
        self._usual = 0

    def add(self, launcher: LauncherClient, kind: str) -> None:
        """Take in a launcher. All are of one kind."""
        self.launchers[launcher.number] = launcher
        self._usual = USUAL_LAUNCHERS[kind]
        self._asked = False

    def choose(self) -> LauncherClient | None:
        """Return the launcher with the fewest starts before it, or None if none can take one."""
        if not self.open:
            return None
        best: LauncherClient | None = None
        fewest = 0
        for launcher in self.launchers.values():
            waiting = len(launcher.in_flight)
            if (best is None or waiting < fewest) and launcher.usable:
                best, fewest = launcher, waiting
        return best

    def ask_for_more(self) -> None:
        """Have another launcher started if none can take a start: once, until it comes."""
        if self._asked or not self.open or len(self.launchers) >= self._usual:
            return
        if self.choose() is None:
            self._asked = True
            self._more()

    def judge(self, now: float, held_up: float = 0.0) -> list[LauncherClient]:
        """Find launchers that are stuck or overdue (see LauncherClient). Return those that became stuck now.

        Another is asked for in their place.
        """
        stuck = []
        for launcher in self.launchers.values():
            before = launcher.stuck
            launcher.judge(now, held_up)
            if launcher.stuck and not before:
                stuck.append(launcher)
        if stuck:
            self._asked = True
            self._more()
        return stuck
