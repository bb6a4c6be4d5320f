"""What an import must not leave behind, since no fork could have it, or all would share it."""

from __future__ import annotations

import os
import sys

_MAX_DESCRIPTOR = 1024
"""Where there is no /proc, descriptors up to this one are looked for."""


def descriptors() -> set[int]:
    """Return the open descriptors of this process."""
    try:
        listed = set(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        listed = set(range(_MAX_DESCRIPTOR))
    return {descriptor for descriptor in listed if _is_open(descriptor)}


def found(before: set[int]) -> str | None:
    """Return what there is now beside the descriptors that were open before; None if nothing is."""
    threads = _threads()
    if threads:
        return f"a thread runs ({threads})"
    new = sorted(descriptors() - before)
    if new:
        return _opened([_what(descriptor) for descriptor in new])
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return "a child process was started and not waited for"


def _opened(what: list[str]) -> str:
    if any("eventpoll" in item or "io_uring" in item for item in what):
        return f"an event loop was made ({', '.join(what)})"
    kind = "a socket" if any(item.startswith("socket:") for item in what) else "a file"
    return f"{kind} is open ({', '.join(what)})"


def _threads() -> str:
    """Return the names of threads beside the main one; of those that a library has made, only that."""
    try:
        count = len(os.listdir("/proc/self/task"))
    except OSError:
        count = 1
    threading = sys.modules.get("threading")
    names = [] if threading is None else [item.name for item in threading.enumerate()[1:]]
    if not names and count > 1:
        return "of a library, not of Python's"
    return ", ".join(names)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _what(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return f"descriptor {descriptor}"
