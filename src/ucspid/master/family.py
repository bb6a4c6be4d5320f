"""The master's children and theirs, as the kernel lists them."""

import os
from pathlib import Path


class Children:
    """The children of the process itself: known without need of new descriptors."""

    def __init__(self) -> None:
        """Open the kernel's list. Raises OSError."""
        self._list = Path(_list_of(os.getpid())).open("rb", buffering=0)  # noqa: SIM115 - as long as the process

    def adopted(self) -> set[int]:
        """Return this process's children that lead a process group.

        A launcher's programs do, and become the master's children when the launcher dies (the
        master is a child subreaper); strays among their descendants do not, as a rule.
        """
        self._list.seek(0)
        return {pid for pid in map(int, self._list.read().split()) if _leads(pid)}


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
