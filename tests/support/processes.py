"""Looks at processes that may end at any moment: whatever /proc says of one that is gone is no error."""

import os
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)
"""What a look below /proc/PID raises if the process has ended, before the file was opened or since."""


def children(pid: int) -> list[int]:
    """Return the children of a process, those that have ended and are not waited for included.

    One that ends at this moment may hide another one from a look (proc(5)), so two looks have to agree.
    """
    before, found = None, _children(pid)
    while found != before:
        before, found = found, _children(pid)
    return found


def _children(pid: int) -> list[int]:
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except GONE:
        return []


def descendants(pid: int) -> list[int]:
    """Return all processes below one."""
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]


def name(pid: int) -> str:
    """Return the command name of a process, as the kernel cuts it; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except GONE:
        return ""


def leads_session(pid: int) -> bool:
    """Return whether a process is there and leads a session."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def began(pid: int) -> str:
    """Return when a process began: a later one with its number has another time.

    "" if it has ended, whether or not it has been waited for.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except GONE:
        return ""
    return "" if state in {"Z", "X"} else fields[18]


def lives(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    return began(pid) != ""
