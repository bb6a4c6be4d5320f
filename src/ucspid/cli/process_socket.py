"""The control socket of a daemon that is known by its process, whatever its file says by now: proc(5)."""

import contextlib
import os
from pathlib import Path

from ucspid.errors import ResourceError

_LISTENS = 0x10000
"""SO_ACCEPTCON, among the flags in /proc/net/unix."""
_FIELDS_BEFORE_PATH = 7
"""The field after which the path follows there."""


def control_of_process(pid: int) -> Path:
    """Return the path of the control socket that a master has.

    While a reload moves it, there are two: the one of before, where the daemon still answers. Raises
    ResourceError if there is none, or if it is not for this user to see.
    """
    own = _sockets(pid)
    with open("/proc/net/unix", "rb") as table:
        next(table)
        found = []
        for line in table:
            fields = line.rstrip(b"\n").split(None, _FIELDS_BEFORE_PATH)
            if len(fields) > _FIELDS_BEFORE_PATH and int(fields[3], 16) & _LISTENS:
                inode, path = fields[6:]
                if f"socket:[{inode.decode()}]" in own:
                    found.append((int(inode), path))
    if not found:
        raise ResourceError(
            f"process {pid} has no control socket: is it a ucspid: master, with control: in its file?"
        )
    return Path(os.fsdecode(min(found)[1]))


def _sockets(pid: int) -> set[str]:
    """Return what a process's descriptors are, as the kernel names it."""
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                found.add(os.readlink(os.path.join(folder, name)))
    except OSError as problem:
        raise ResourceError(f"cannot look at the sockets of process {pid}: {problem.strerror}") from None
    return found
