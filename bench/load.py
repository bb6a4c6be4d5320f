"""Running the load generator, and what it says."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

NANOSECONDS = 1e9


class Histogram:
    """Latencies: how many in each class, by the class's upper bound in nanoseconds."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        """Take what the load generator prints."""
        self.counts: Counter[int] = Counter(dict(pairs))

    def percentile(self, percent: float) -> float:
        """Return the seconds within which so many percent were; NaN if there are none."""
        due = self.counts.total() * percent / 100
        seen = 0
        for bound in sorted(self.counts):
            seen += self.counts[bound]
            if seen >= due:
                return bound / NANOSECONDS
        return float("nan")

    def pairs(self) -> list[tuple[int, int]]:
        """Return what the constructor takes, with bounds of two digits: for plots and small files."""
        rounded: Counter[int] = Counter()
        for bound, count in self.counts.items():
            rounded[round(bound, 2 - len(str(bound)))] += count
        return sorted(rounded.items())


@dataclass(frozen=True)
class Load:
    """What came of one run: connections by how they ended, seconds, and latencies from when each was due.

    answered got at least one byte, empty none; failed were reset or refused, given_up had no end
    in time. cpu is the generator's own.
    """

    started: int
    answered: int
    empty: int
    failed: int
    given_up: int
    error: str
    seconds: float
    cpu: float
    first: Histogram
    end: Histogram

    @property
    def rate(self) -> float:
        """Connections that ended in order, per second."""
        return (self.started - self.failed - self.given_up) / self.seconds

    def must_succeed(self) -> Self:
        """Raise unless every client was answered and came to an end."""
        if self.answered != self.started or self.failed or self.given_up:
            raise BadLoadError(
                f"of {self.started} connections {self.answered} were answered, {self.failed} failed "
                f"({self.error}), {self.given_up} did not end"
            )
        return self


class BadLoadError(Exception):
    """Clients were not served where all must be: there is nothing to measure."""


@dataclass(frozen=True)
class Clients:
    """What the clients do; see load.c for each. count 0 is until Running.end()."""

    count: int
    at_once: int = 1
    rate: float = 0.0
    source: str = ""
    sources: int = 1
    close_after_answer: bool = False
    hold: bool = False
    mark: int = 0
    timeout: float = 60.0
    says: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the generator's arguments."""
        options = ["-n", str(self.count), "-c", str(self.at_once), "-t", str(self.timeout)]
        options += ["-r", str(self.rate)] if self.rate else []
        options += ["-a", self.source, "-A", str(self.sources)] if self.source else []
        options += ["-q"] if self.close_after_answer else []
        options += ["-k"] if self.hold else []
        options += ["-m", str(self.mark)] if self.mark else []
        return [*options, "--", *self.says]


class Running:
    """A load generator at work; a context manager that leaves none behind."""

    def __init__(self, program: str, port: int, clients: Clients) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [program, "-p", str(port), *clients.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for_mark(self) -> None:
        """Wait until so many clients as Clients.mark says have got their first bytes."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "mark\n":
            raise BadLoadError(f"the load ended before its mark: {line[:200]}")

    def end(self) -> Load:
        """Have it start no more and release what it holds; return what came of it."""
        output, _ = self._process.communicate()
        text = output.strip().rpartition("\n")[2]
        if self._process.returncode:
            raise BadLoadError(f"the load generator failed: exit {self._process.returncode}")
        said: dict[str, Any] = json.loads(text)
        said["first"] = Histogram(said["first"])
        said["end"] = Histogram(said["end"])
        return Load(**said)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def run(program: str, port: int, clients: Clients) -> Load:
    """Run the load generator to its end."""
    with Running(program, port, clients) as running:
        return running.end()
