"""The tiers of the tests: a folder of tests/ each, with the time that its tests may take."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis


@dataclass(frozen=True)
class Tier:
    """What the tests of a folder may take, in seconds."""

    test: float
    """For one test."""
    total: float
    """For all of them, one after the other; without those that are marked as slow."""
    fast: bool = True
    """Whether they need no daemon: make test-fast runs them."""
    waits: bool = False
    """Whether they wait most of the time: they run before all others."""


TIERS = {
    "unit": Tier(0.25, 8),
    "config": Tier(0.25, 6),
    "cli": Tier(0.25, 6),
    "loop": Tier(0.25, 8),
    "master": Tier(0.25, 6),
    "launcher": Tier(0.25, 4),
    "conformance": Tier(15, 200, fast=False),
    "e2e": Tier(10, 200, fast=False),
    "faults": Tier(10, 80, fast=False),
    "browser": Tier(10, 20, fast=False),
    "systemd": Tier(60, 300, fast=False, waits=True),
}

SLOW = 5.0
"""Seconds for one test that is marked as slow, in a tier whose tests are fast."""

UNKNOWN_LOAD = 4.0
"""By how much budgets grow where the kernel does not measure how long it is waited for a CPU."""

PRESSURE = Path("/proc/pressure")


def waited(resources: Sequence[str] = ("cpu",)) -> float | None:
    """Return the seconds since the start of the machine in which something waited for cpu, io or memory.

    None if the kernel does not count them.
    """
    try:
        texts = [(PRESSURE / resource).read_text() for resource in resources]
        return sum(int(text.partition("total=")[2].split()[0]) for text in texts) / 1e6
    except (OSError, IndexError):
        return None


def examples(count: int) -> int:
    """Return how many examples hypothesis tries in place of its default of 100: fewer with --budgets."""
    return max(1, count * hypothesis.settings().max_examples // 100)


class Stopwatch:
    """Measures a test, without the time in which anything on the machine waited for a CPU, or for others too.

    On a busy machine that is less than the test would take by itself, never more.
    """

    def __init__(self, *others: str) -> None:
        """Begin; others are resources as for waited()."""
        self._resources = ("cpu", *others)
        self._began, self._waited = time.monotonic(), waited(self._resources)

    def seconds(self) -> float:
        """Return how many have passed."""
        passed, now = time.monotonic() - self._began, waited(self._resources)
        if now is None or self._waited is None:
            return passed / UNKNOWN_LOAD
        return max(0.0, passed - (now - self._waited))


class Turns:
    """Keeps a test that has to be alone on the machine apart from those of other processes of pytest."""

    def __init__(self, folder: Path) -> None:
        """Take turns with all who do so in the same folder."""
        self._queue, self._machine = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT) for name in ("queue", "machine")
        )

    @contextlib.contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait until the test may run. While one waits to be alone, no other begins."""
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        fcntl.flock(self._machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._machine, fcntl.LOCK_UN)

    def close(self) -> None:
        """Take no more turns."""
        os.close(self._queue)
        os.close(self._machine)
