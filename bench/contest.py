"""Measuring in alternation: every contestant once in each round, and ratios of figures of the same round."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.build import Programs
from bench.load import BadLoadError, Histogram
from bench.server import CannotStartError

Measured = dict[str, float]
"""Figures of one contestant in one round, by name."""

FAILURES = (BadLoadError, CannotStartError, OSError)
"""What shows that a contestant cannot be measured: it lost clients, did not start, or reset a connection."""

_SUBJECT = "ucspid"
"""How the names of contestants begin that must not fail."""


@dataclass(frozen=True)
class Settings:
    """What holds for a whole run of the bench.

    full is the number of connections and so on that is wanted, short what is enough to show that all works.
    """

    programs: Programs
    files: Path
    rounds: int
    short: bool

    def size(self, full: int, short: int) -> int:
        """Return how much is to be done: in earnest, or just so that it can't rot."""
        return short if self.short else full


@dataclass(frozen=True)
class Spread:
    """The median of rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Return median and extremes of the values that are numbers; all NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(statistics.median(known), min(known), max(known))


@dataclass
class Result:
    """What a case found: figures of every contestant, round by round."""

    case: str
    about: str
    values: dict[str, list[Measured]]
    absent: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    histograms: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def figures(self, name: str) -> dict[str, Spread]:
        """Return the figures of a contestant over all rounds."""
        rounds = self.values[name]
        return {figure: spread([measured[figure] for measured in rounds]) for figure in rounds[0]}

    def ratios(self, name: str, to: str) -> dict[str, Spread]:
        """Return the figures of one contestant divided by another's of the same round."""
        both = list(zip(self.values[name], self.values[to], strict=True))
        return {
            figure: spread([_ratio(ours[figure], theirs[figure]) for ours, theirs in both])
            for figure in self.values[name][0]
            if figure in self.values[to][0]
        }

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "case": self.case,
            "about": self.about,
            "values": self.values,
            "absent": self.absent,
            "pairs": self.pairs,
            "ratios": {
                f"{name} / {to}": {figure: vars(value) for figure, value in self.ratios(name, to).items()}
                for name, to in self.pairs
            },
            "histograms": self.histograms,
        }


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else math.nan


def alternate(
    measures: Mapping[str, Callable[[], Measured]], rounds: int, failed: dict[str, str] | None = None
) -> dict[str, list[Measured]]:
    """Measure A B A B ..., after a round that does not count.

    A peer that fails is out: failed says why. Without failed, for the first contestant and wherever ucspid
    is measured, one of FAILURES is raised.
    """
    taking_part = dict(measures)
    values: dict[str, list[Measured]] = {name: [] for name in measures}
    for turn in range(rounds + 1):
        for name, measure in list(taking_part.items()):
            try:
                measured = measure()
            except FAILURES as problem:
                if failed is None or name == next(iter(measures)) or is_subject(name):
                    raise
                failed[name] = str(problem)
                del taking_part[name], values[name]
                continue
            if turn:
                values[name].append(measured)
    return values


def is_subject(name: str) -> bool:
    """Return whether a contestant is ucspid, with whatever settings."""
    return name.startswith(_SUBJECT)


def of_those_measured(values: Mapping[str, object], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of which both contestants have figures."""
    return [pair for pair in pairs if values.keys() >= set(pair)]


def against_first(names: list[str]) -> list[tuple[str, str]]:
    """Return the pairs in which the first contestant is compared with each other one."""
    return [(names[0], other) for other in names[1:]]


def latencies(prefix: str, histogram: Histogram) -> Measured:
    """Return the usual percentiles in milliseconds."""
    return {
        f"{prefix} p{text} ms": histogram.percentile(percent) * 1e3
        for text, percent in (("50", 50), ("99", 99), ("99.9", 99.9))
    }
