"""The master's children and theirs, as the kernel lists them."""

import contextlib
import os
import signal
from pathlib import Path

from ucspid.master.launchers import Exit


def adopted() -> set[int]:
    """Return this process's children that lead a process group.

    A launcher's programs do, and become the master's children when the launcher dies (the
    master is a child subreaper); strays among their descendants do not, as a rule.
    """
    return {pid for pid in _children(os.getpid()) if _leads(pid)}


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


def reap_one() -> Exit | None:
    """Take the exit of a child that has ended; None if there is none."""
    try:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid == 0:
        return None
    return Exit(pid, status, int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss)
