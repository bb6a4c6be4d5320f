"""The master's children and theirs, as the kernel lists them."""

import os
from pathlib import Path


class Children:
    """The children of the process itself: known without need of new descriptors."""

    def __init__(self) -> None:
        """Open the kernel's list. Raises OSError."""
        self._list = os.open(_list_of(os.getpid()), os.O_RDONLY | os.O_CLOEXEC)

    def adopted(self) -> set[int]:
        """Return this process's children that lead a process group.

        A launcher's programs do, and become the master's children when the launcher dies (the
        master is a child subreaper); strays among their descendants do not, as a rule.
        """
        os.lseek(self._list, 0, os.SEEK_SET)
        text = b"".join(iter(lambda: os.read(self._list, 1 << 16), b""))
        return {pid for pid in map(int, text.split()) if _leads(pid)}


def in_session(pid: int, leader: int) -> bool:
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


def _list_of(pid: int) -> str:
    return f"/proc/{pid}/task/{pid}/children"


def _children(pid: int) -> list[int]:
    """Return a process's children; each of our processes starts them in its first thread."""
    try:
        text = Path(_list_of(pid)).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def _leads(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False
