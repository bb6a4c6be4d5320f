"""How long things take: counts by bounds, at the price of a bisection and an increment each."""

from bisect import bisect_left
from typing import Any

LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, of what should take a moment."""

DURATION_BOUNDS = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 21600.0, 86400.0)
"""Seconds, of sessions."""


class Histogram:
    """Counts of values up to each bound, and beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Begin with none."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of the values."""

    def note(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def to_state(self) -> dict[str, Any]:
        """Return the bounds, how many values are above the one before and up to each, and their sum."""
        return {"bounds": self.bounds, "counts": self.counts, "sum": round(self.total, 6)}


class Timings:
    """What is measured of one service's connections, since this event loop began."""

    __slots__ = ("_cpu", "_duration", "_queue_wait", "_start")

    def __init__(self) -> None:
        """Begin with none."""
        self._queue_wait = Histogram(LATENCY_BOUNDS)
        self._start = Histogram(LATENCY_BOUNDS)
        self._duration = Histogram(DURATION_BOUNDS)
        self._cpu = 0

    def started(self, began: float, handed: float, now: float) -> None:
        """Count a session whose program runs: accepted, handed to a launcher, and reported at these times."""
        # Twice in line what note() does: the calls would cost more than the counting.
        waits, starts, wait, start = self._queue_wait, self._start, handed - began, now - began
        waits.counts[bisect_left(LATENCY_BOUNDS, wait)] += 1
        waits.total += wait
        starts.counts[bisect_left(LATENCY_BOUNDS, start)] += 1
        starts.total += start

    def served(self, duration: float, used: tuple[int, int, int] | None) -> None:
        """Count a session whose program has ended, with what it used, if that is known: µs of CPU, memory."""
        durations = self._duration
        durations.counts[bisect_left(DURATION_BOUNDS, duration)] += 1
        durations.total += duration
        if used is not None:
            self._cpu += used[0] + used[1]

    def to_state(self) -> dict[str, Any]:
        """Return histograms from accept(2) to a launcher, to the program, to its end; and seconds of CPU."""
        return {
            "queue_wait": self._queue_wait.to_state(),
            "start": self._start.to_state(),
            "duration": self._duration.to_state(),
            "cpu": self._cpu / 1e6,
        }


def quantile(histogram: dict[str, Any], share: float) -> float | None:
    """Return the value that such a share of the values does not exceed, as far as the bounds say; or None.

    histogram is as of Histogram.to_state(). Between two bounds values count as spread evenly.
    """
    bounds, counts = histogram["bounds"], histogram["counts"]
    wanted = share * sum(counts)
    before = 0
    low = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and before + count >= wanted:
            return float(low + (bound - low) * (wanted - before) / count)
        before += count
        low = bound
    return float(bounds[-1]) if sum(counts) else None
