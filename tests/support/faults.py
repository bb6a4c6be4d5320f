"""Faults of the system for tests of the daemon: an exec that hangs, stopped processes, memory, limits."""

import contextlib
import ctypes
import itertools
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")

PER_LAUNCHER = 4
"""Descriptors of the master: its channel, both ends of the loop's, the table."""

_FAN_CLASS_CONTENT, _FAN_CLOEXEC, _FAN_MARK_ADD = 4, 1, 1
_FAN_OPEN_PERM, _FAN_OPEN_EXEC_PERM = 0x10000, 0x40000
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class Hanging:
    """A file that cannot be opened, or executed, until close(): the call hangs as on a disk that does.

    The kernel asks whoever listens (fanotify(7)) and waits for the answer.
    """

    def __init__(self, file: Path, event: int) -> None:
        """Begin; skips the test where the system does not offer this."""
        self._fd = _libc.fanotify_init(_FAN_CLASS_CONTENT | _FAN_CLOEXEC, os.O_RDONLY)
        mask = ctypes.c_uint64(event)
        path = os.fsencode(file)
        if self._fd < 0 or _libc.fanotify_mark(self._fd, _FAN_MARK_ADD, mask, _AT_FDCWD, path) < 0:
            pytest.skip(f"no fanotify permission events here: {os.strerror(ctypes.get_errno())}")

    def wait(self) -> None:
        """Wait until something hangs."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        assert poll.poll(TIMEOUT * 1000), "nobody opens it"

    def close(self) -> None:
        """Let everything go on that hangs."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextlib.contextmanager
def hanging(program: Path, event: int = _FAN_OPEN_EXEC_PERM) -> Iterator[Hanging]:
    """Have every exec of a program hang until the end of the block."""
    it = Hanging(program, event)
    try:
        yield it
    finally:
        it.close()


@contextlib.contextmanager
def hanging_open(file: Path) -> Iterator[Hanging]:
    """Have every open of a file hang until the end of the block."""
    with hanging(file, _FAN_OPEN_PERM) as it:
        yield it


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
def no_descriptors(pid: int) -> Iterator[None]:
    """Have a process make do with the descriptors that it has until the end of the block."""
    used = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    first_free = next(number for number in itertools.count() if number not in used)
    with limited(pid, "nofile", first_free):
        yield


@contextlib.contextmanager
def limited(pid: int, name: str, soft: int) -> Iterator[None]:
    """Have a process live with another soft limit, by its name in prlimit(1), until the end of the block."""
    fields = f"--raw --noheadings --output=SOFT,HARD --{name}".split()
    before, hard = _prlimit(pid, *fields).split()
    _prlimit(pid, f"--{name}={soft}:{hard}")
    try:
        yield
    finally:
        try:
            _prlimit(pid, f"--{name}={before}:{hard}")
        except (subprocess.CalledProcessError, FileNotFoundError):
            assert not Path(f"/proc/{pid}").exists()


def _prlimit(pid: int, *arguments: str) -> str:
    """Run prlimit(1) as the process's own user, who may always change the soft limits."""
    owner = Path(f"/proc/{pid}").stat()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    command = ["prlimit", f"--pid={pid}", *arguments]
    return str(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **user).stdout)


def wait_while_alive(pid: int, seconds: float) -> None:
    """Wait for so long, unless the process ends before, which is an error."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert not poll.poll(1000 * seconds)
    finally:
        os.close(pidfd)


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
