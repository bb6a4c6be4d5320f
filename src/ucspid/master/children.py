"""The master's children and theirs, as the kernel lists them."""

import contextlib
import os
import signal
from collections.abc import Callable

from ucspid.records import dataclass


@dataclass(frozen=True, slots=True)
class Exit:
    """A child that was reaped: as wait4(2) says."""

    pid: int
    status: int
    user: int
    system: int
    max_rss: int


class Children:
    """The children of this process; listing them takes no new descriptor."""

    def __init__(self) -> None:
        """Open the kernel's list. Raises OSError."""
        self._list = os.open(_list_of(os.getpid()), os.O_RDONLY | os.O_CLOEXEC)
        self._expected: dict[int, Callable[[Exit], None]] = {}

    def expect(self, pid: int, ended: Callable[[Exit], None]) -> None:
        """Call ended() when a child exits."""
        self._expected[pid] = ended

    @property
    def expected(self) -> set[int]:
        """The processes for which there is somebody to call."""
        return {*self._expected}

    def exited(self, exit_: Exit) -> bool:
        """Report a child's exit; return whether there was somebody to call."""
        ended = self._expected.pop(exit_.pid, None)
        if ended is not None:
            ended(exit_)
        return ended is not None

    def close(self) -> None:
        """Close the list."""
        os.close(self._list)

    def kill_session(self, leader: int) -> None:
        """Kill the children in a session, whose leader was a child that has exited."""
        for pid in self._all():
            if _in_session(pid, leader):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def _all(self) -> list[int]:
        os.lseek(self._list, 0, os.SEEK_SET)
        return [*map(int, b"".join(iter(lambda: os.read(self._list, 1 << 16), b"")).split())]

    def orphans(self, leader: int, own: set[int], ended: set[int], named: set[int]) -> set[int]:
        """Return the programs of a launcher that led a session, among all children and those that ended.

        They are children of its session, and become the master's children when the launcher dies (the
        master is a child subreaper). Each leads a process group, or is still in the launcher's: one that was
        being started. Their own descendants do neither, as a rule. Its own table names them, but for one
        that it may have been starting, which no other table names. Of one that has ended, the session is not
        known any more; it is given to one launcher only, since only one is sent its end. Tables are written
        by launchers, and one may have been subverted: what it names of another's it does not get if that one
        names it, too.
        """
        children = {pid for pid in self._all() if pid in own or _group(pid) in {pid, leader}} | ended
        found = {pid for pid in children if pid in own or pid in ended or _in_session(pid, leader)}
        return found - (named - own)


def _in_session(pid: int, leader: int) -> bool:
    """Say whether a process belongs to a session, as children of a launcher do, which leads one."""
    try:
        return os.getsid(pid) == leader
    except ProcessLookupError:
        return False


def descendants() -> list[int]:
    """Return all processes below this one, parents before their children."""
    found = _children(os.getpid())
    for pid in found:
        found += _children(pid)
    return found


def kill_descendants() -> None:
    """Kill all processes below this one."""
    for pid in descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _list_of(pid: int) -> str:
    return f"/proc/{pid}/task/{pid}/children"


def _children(pid: int) -> list[int]:
    """Return a process's children; each of our processes starts them in its first thread."""
    try:
        with open(_list_of(pid), "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def _group(pid: int) -> int:
    """Return the process group of a process; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def reap_one() -> Exit | None:
    """Take the exit of a child that has ended; None if there is none."""
    try:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid == 0:
        return None
    return Exit(pid, status, int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss)
