"""Processes of an earlier master that was killed: in the control group of our unit, and not below us.

Its event loop and launchers go on until the last of their sessions has ended. No limit of ours counts
these, and nobody but us would end them when the service manager stops the unit.
"""

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator

from ucspid.master.children import descendants
from ucspid.master.poller import Poller

INTERVAL = 0.5
"""Seconds between two looks whether they have ended, while the daemon stops."""

_HIERARCHIES = {"": ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"), "name=systemd": ("/sys/fs/cgroup/systemd",)}


def group_of_unit() -> str | None:
    """Return the file that lists the processes of our unit, if systemd has started this process for one.

    It says so (systemd.exec(5), SYSTEMD_EXEC_PID): whoever inherits the variable is in a group with others.
    """
    if os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return None
    try:
        with open("/proc/self/cgroup") as file:
            return next((path for path in lists(file.read()) if os.path.exists(path)), None)
    except OSError:
        return None


def lists(text: str) -> Iterator[str]:
    """Yield where the processes of a control group may be listed; text is /proc/PID/cgroup, cgroups(7)."""
    for line in text.splitlines():
        _number, hierarchy, path = line.split(":", 2)
        if path != "/":
            for mount in _HIERARCHIES.get(hierarchy, ()):
                yield f"{mount}{path}/cgroup.procs"


class Leftovers:
    """The processes that an earlier master has left."""

    def __init__(self, poller: Poller) -> None:
        """Find out where they are listed, if they are."""
        self._list = group_of_unit()
        self._poller = poller
        self._stops = itertools.count(1)
        self._stop = 0
        """The number of the stop that counts: the last one."""

    def find(self) -> set[int]:
        """Return those that live now."""
        if self._list is None:
            return set()
        try:
            with open(self._list) as file:
                listed = {int(line) for line in file}
        except OSError:
            return set()
        return listed - {0, os.getpid(), *descendants()}

    def stop(self, drain: float, kill: float, ended: Callable[[], object]) -> None:
        """Send them SIGTERM after some seconds, SIGKILL some later; ended() is called when none is left."""
        if not self.find():
            return
        self._stop = stop = next(self._stops)
        self._poller.call_in(drain, lambda: self._end(stop, signal.SIGTERM))
        self._poller.call_in(drain + kill, lambda: self._end(stop, signal.SIGKILL))
        self._look(stop, ended)

    def _end(self, stop: int, number: int) -> None:
        if stop == self._stop:
            self.signal(number)

    def signal(self, number: int) -> None:
        """Send all of them a signal."""
        for pid in self.find():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _look(self, stop: int, ended: Callable[[], object]) -> None:
        """Look again and again: their ends are not reported to a process that is not their parent."""
        if stop != self._stop:
            return
        if self.find():
            self._poller.call_in(INTERVAL, lambda: self._look(stop, ended))
        else:
            ended()
