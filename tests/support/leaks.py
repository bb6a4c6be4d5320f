"""What this process has open, for tests that nothing is left behind; and a process that may open nothing."""

import contextlib
import gc
import os
import resource
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path


def own_descriptors() -> set[str]:
    """Return the numbers of this process's descriptors, without those of other tests' garbage."""
    gc.collect()
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def open_files() -> Counter[str]:
    """Return what this process has open, as /proc shows it, without other tests' garbage."""
    links: Counter[str] = Counter()
    for number in own_descriptors():
        with contextlib.suppress(FileNotFoundError):
            links[os.readlink(f"/proc/self/fd/{number}")] += 1
    return links


def opened_since(before: Counter[str]) -> list[str]:
    """Return what is open and was not; threads of earlier tests may have closed something meanwhile."""
    return [*(open_files() - before).elements()]


@contextlib.contextmanager
def memory_traced() -> Iterator[Callable[[], tuple[int, int]]]:
    """Yield what returns the bytes that have been taken since and are not given back, and their peak."""
    gc.collect()
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more, not even in place of other tests' garbage."""
    gc.collect()
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, own_descriptors())) + 1, hard))
    in_gaps = []
    try:
        with contextlib.suppress(OSError):
            while True:
                in_gaps.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        gc.enable()
        for number in in_gaps:
            os.close(number)
