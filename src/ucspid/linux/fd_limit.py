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
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > last:
            os.closerange(descriptor, descriptor + 1)  # ignores that the listing's own is closed already


class Lending:
    """What a launcher lends a program for the moment of its start, which inherits it.

    Descriptors 0 and 1 become the client's socket and 2 the service's log, and the soft limit
    of descriptors the one that the daemon was started with. With nothing for posix_spawn(3) to do
    about descriptors, it does not matter how high their numbers are, and a start is cheaper.
    """

    __slots__ = ("_differs", "_null", "_own", "_programs", "_stderr")

    def __init__(self, soft: int) -> None:
        """Keep what to take back: 0, of which 1 is a copy, 2, and the limits; soft is within the hard one."""
        self._own = own = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._programs = (soft, own[1])
        self._differs = self._own != self._programs
        self._null = os.dup(0)
        self._stderr = os.dup(2)

    def lend(self, client: int, stderr: int | None) -> None:
        """Lend a client's socket, and a descriptor for stderr unless it is the daemon's own."""
        os.dup2(client, 0)
        os.dup2(client, 1)
        if stderr is not None:
            os.dup2(stderr, 2)
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._programs)

    def take_back(self) -> None:
        """Have everything as before: the client must see its program end."""
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._own)
        os.dup2(self._null, 0)
        os.dup2(self._null, 1)
        os.dup2(self._stderr, 2)
