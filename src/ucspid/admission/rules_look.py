"""One look at a rules file: what is there, and whether it is what was there before. Runs in a thread."""

import os
import time
from dataclasses import dataclass

from ucspid.rules.bounds import load

SETTLES_IN = 2.0
"""Seconds after a change in which another may go unnoticed: clocks of file systems may be that coarse."""

Signature = tuple[int, int, int, int, int]
"""What another version of a file has another of: times of change, size, inode, device."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A version of a file: enough to know it again, without reading it once it has settled."""

    signature: Signature
    digest: int
    settled: bool


def look(path: str, seen: Seen | None) -> tuple[Seen, bytes | None]:
    """Return what is at a path, and its content unless that is as it was seen.

    Raises OSError, ConfigError. Waits for as long as the disk makes it wait.
    """
    if seen is not None and seen.settled and seen.signature == _signature(os.stat(path)):
        return seen, None
    began = time.time()
    status, content = load(path)
    settled = began - max(status.st_mtime, status.st_ctime) > SETTLES_IN
    now = Seen(_signature(status), hash(content), settled)
    if seen is not None and (seen.digest, seen.signature[2]) == (now.digest, now.signature[2]):
        return now, None
    return now, content


def _signature(status: os.stat_result) -> Signature:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
