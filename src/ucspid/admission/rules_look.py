"""One check of a rules file: its content, and whether it has changed. Runs in a thread."""

import os
import time
from typing import NamedTuple

from ucspid.admission.rules_watch import Trail, follow
from ucspid.errors import ConfigError
from ucspid.linux.inotify import Inotify
from ucspid.records import dataclass
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

    @property
    def written(self) -> float:
        """When it was written, in seconds since 1970."""
        return self.signature[0] / 1e9


class Sight(NamedTuple):
    """The result of a check: content is None if it has not changed; problem, if it cannot be read."""

    trail: Trail
    seen: Seen | None = None
    content: bytes | None = None
    problem: OSError | ConfigError | None = None


def look(path: str, seen: Seen | None, queue: Inotify | None) -> Sight:
    """Return what is at a path, which is watched by then. Waits for as long as the disk makes it wait."""
    trail = follow(queue, path)
    try:
        return Sight(trail, *_read(path, seen))
    except (OSError, ConfigError) as problem:
        return Sight(trail, seen, problem=problem)


def _read(path: str, seen: Seen | None) -> tuple[Seen, bytes | None]:
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
