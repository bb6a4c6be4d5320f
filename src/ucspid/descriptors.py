"""The soft limit of open descriptors: all that is allowed for the daemon, for programs what they expect.

The daemon's own processes hold some descriptors for each service. A program counts on the
limit that the daemon was started with: select(2) cannot go past 1024, and some programs close every
descriptor up to the limit. Imported by launchers.
"""

import resource


def raise_limit() -> int:
    """Take the hard limit as this process's soft limit; return the soft limit of before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


class ProgramLimit:
    """The soft limit that programs get: in force inside a with statement, around their start.

    Costs two system calls where it is not the launcher's own, and none where it is.
    """

    __slots__ = ("_differs", "_own", "_programs")

    def __init__(self, soft: int) -> None:
        """Keep this process's limits, and the soft one for programs, which is within the hard one."""
        self._own = own = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._programs = (soft, own[1])
        self._differs = self._own != self._programs

    def __enter__(self) -> None:
        """Go over to the programs' limit."""
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._programs)

    def __exit__(self, *_: object) -> None:
        """Take the launcher's own limit back."""
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._own)
