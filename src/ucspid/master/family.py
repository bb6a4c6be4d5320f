"""The master's children and theirs, as the kernel lists them."""

import os
from pathlib import Path


def adopted() -> set[int]:
    """Return this process's children that lead a process group.

    A launcher's programs do, and become the master's children when the launcher dies (the
    master is a child subreaper); strays among their descendants do not, as a rule.
    """
    return {pid for pid in _children(os.getpid()) if _leads(pid)}


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


def _children(pid: int) -> list[int]:
    """Return a process's children; each of our processes starts them in its first thread."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def _leads(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False
