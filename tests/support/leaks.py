"""What this process has open, for tests that nothing is left behind; and a process that may open nothing."""

import contextlib
import gc
import os
import resource
from collections.abc import Iterator
from pathlib import Path


def own_descriptors() -> set[str]:
    """Return the numbers of this process's descriptors, without those of other tests' garbage."""
    gc.collect()
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more, not even in place of other tests' garbage."""
    gc.collect()
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        gc.enable()
