"""The soft limit of open descriptors: all that is allowed for the daemon, for programs what they expect.

The daemon's own processes hold some descriptors for each service. A program counts on the
limit that the daemon was started with: select(2) cannot go past 1024, and some programs close every
descriptor up to the limit. Imported by launchers.
"""

import os
import resource


def raise_limit() -> int:
    """Take the hard limit as this process's soft limit; return the soft limit of before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def close_above(last: int) -> None:
    """Close every descriptor above last: what the daemon itself was started with is nobody's here.

    A number may be above the limits, which can have been lowered since, so the kernel is asked.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - pathlib is heavy for a launcher
        if descriptor > last:
            os.closerange(descriptor, descriptor + 1)  # ignores that the listing's own is closed already


class ProgramLimit:
    """The soft limit that programs get: in force inside a with statement, around a start.

    Costs two system calls where it is not the launcher's own, and none where it is.
    """

    __slots__ = ("_copied", "_differs", "_low", "_own", "_programs")

    def __init__(self, soft: int, low: list[int]) -> None:
        """Keep this process's limits, and the soft one for programs, which is within the hard one.

        low holds two descriptors with numbers below any limit, for below() to make copies at.
        """
        self._own = own = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._programs = (soft, own[1])
        self._differs = self._own != self._programs
        self._low = low
        self._copied = False

    def below(self, descriptors: list[int]) -> list[int]:
        """Return at most two descriptors, as copies of low numbers where they are not below the limit.

        glibc's posix_spawn(3) takes no others, open as they are. The copies are there until the with
        statement ends.
        """
        if not self._differs or max(descriptors) < self._programs[0]:
            return descriptors
        self._copied = True
        return [
            os.dup2(descriptor, number, inheritable=False)
            for descriptor, number in zip(descriptors, self._low, strict=False)
        ]

    def __enter__(self) -> None:
        """Go over to the programs' limit."""
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._programs)

    def __exit__(self, *_: object) -> None:
        """Take the launcher's own limit back, and let go of copies: a client must see its program end."""
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._own)
        if self._copied:
            self._copied = False
            for number in self._low:
                os.dup2(0, number, inheritable=False)
