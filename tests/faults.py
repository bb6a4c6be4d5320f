"""Faults of the system for tests of the daemon: an exec that hangs, stopped processes, memory, limits."""

import contextlib
import ctypes
import os
import resource
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import TIMEOUT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")

_FAN_CLASS_CONTENT, _FAN_CLOEXEC, _FAN_MARK_ADD = 4, 1, 1
_FAN_OPEN_EXEC_PERM = 0x40000
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class HangingExec:
    """A program that cannot be executed until close(): execve(2) of it hangs as on a disk that does.

    The kernel asks whoever listens (fanotify(7), FAN_OPEN_EXEC_PERM) and waits for the answer.
    """

    def __init__(self, program: Path) -> None:
        """Begin; skips the test where the system does not offer this."""
        self._fd = _libc.fanotify_init(_FAN_CLASS_CONTENT | _FAN_CLOEXEC, os.O_RDONLY)
        mask = ctypes.c_uint64(_FAN_OPEN_EXEC_PERM)
        path = os.fsencode(program)
        if self._fd < 0 or _libc.fanotify_mark(self._fd, _FAN_MARK_ADD, mask, _AT_FDCWD, path) < 0:
            pytest.skip(f"no fanotify permission events here: {os.strerror(ctypes.get_errno())}")

    def wait(self) -> None:
        """Wait until something hangs."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        assert poll.poll(TIMEOUT * 1000), "nobody executes it"

    def close(self) -> None:
        """Let everything go on that hangs."""
        os.close(self._fd)


@contextlib.contextmanager
def hanging(program: Path) -> Iterator[HangingExec]:
    """Have every exec of a program hang until the end of the block."""
    it = HangingExec(program)
    try:
        yield it
    finally:
        it.close()


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Have processes stopped until the end of the block, as far as they still are there then."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def few_descriptors(pid: int, left: int = 0) -> Iterator[None]:
    """Leave a process with so many descriptors beyond those that it has."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + left, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def memory(pid: int) -> int:
    """Return the bytes of memory that a process has for itself alone."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
