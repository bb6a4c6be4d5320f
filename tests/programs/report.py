"""Reports on descriptor 1, as JSON, what it was started with: descriptors, environment, limits, identity.

Given to an interpreter with -c, so that no descriptor is in use for its own text.
"""

import fcntl
import json
import os
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")


def descriptor(number: int) -> dict[str, object]:
    """Return what a descriptor is, as /proc names it, and whether it is in blocking mode."""
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    return {"file": str((DESCRIPTORS / str(number)).readlink()), "blocking": not flags & os.O_NONBLOCK}


def descriptors() -> dict[int, dict[str, object]]:
    """Return all descriptors but that of the listing itself, which is closed when it is looked at."""
    numbers = [int(path.name) for path in DESCRIPTORS.iterdir()]
    return {number: descriptor(number) for number in numbers if (DESCRIPTORS / str(number)).is_symlink()}


def text(path: str) -> str:
    """Return a file as text that keeps every byte."""
    return Path(path).read_bytes().decode("latin-1")


report = {
    "descriptors": descriptors(),
    "environ": text("/proc/self/environ"),
    "limits": text("/proc/self/limits"),
    "cwd": str(Path.cwd()),
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "pid": os.getpid(),
    "group": os.getpgrp(),
}
os.write(1, json.dumps(report).encode())
