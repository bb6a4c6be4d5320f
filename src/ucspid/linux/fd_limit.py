"""The soft limit of open descriptors: all that is allowed for the daemon, for programs what they expect.

The daemon's own processes hold some descriptors for each service. A program counts on the
limit that the daemon was started with: select(2) cannot go past 1024, and some programs close every
descriptor up to the limit. So launchers lend it to programs: see lending.py. Imported by launchers.
"""

import errno
import os
import resource


def raise_limit() -> int:
    """Take the hard limit as this process's soft limit; return the previous soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def why(problem: OSError) -> str:
    """Return why the system refuses something; where descriptors have run out, which limit that is."""
    if problem.errno == errno.EMFILE:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{problem.strerror}: the limit is {soft}, see ulimit -n or LimitNOFILE="
    return problem.strerror or str(problem)


def close_above(last: int) -> None:
    """Close every descriptor above last: what the daemon itself was started with is nobody's here.

    A number may be above the limits, which can have been lowered since, so the kernel is asked.
    """
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > last:
            os.closerange(descriptor, descriptor + 1)  # ignores that the listing's own is closed already
