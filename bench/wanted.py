"""What ucspid is to reach: each target with the figure that a run of the bench found."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.contest import Result, Spread, spread

Results = Mapping[str, Result]
Find = Callable[[Results], Spread | None]
"""Finds a figure; None if a case was not run or a contestant is absent. What is there lacks no figure."""

_TCPSERVER, _FLOOR = "tcpserver", "C accept+vfork+exec"
_LATENCY, _TAIL = "first byte p50 ms", "first byte p99 ms"
_RATE, _CPU = "connections/s", "CPU µs"
_PLACEHOLDER = "{most}"


@dataclass(frozen=True)
class Target:
    """A figure, where it is found, and the bound for its median: the least, or else the most.

    Where there must be none (a bound of 0) it holds for every round.
    """

    figure: str
    find: Find
    bound: float
    is_least: bool = False

    def as_json(self, results: Results) -> dict[str, Any]:
        """Return the target and what was found, None where that is nothing."""
        found = self.find(results)
        if found is not None and math.isnan(found.median):
            found = None
        return {
            "figure": self.figure,
            "wanted": self._wanted(),
            "found": None if found is None else vars(found),
            "reached": None if found is None else self._is_reached(found),
        }

    def _wanted(self) -> str:
        if self.bound == 0:
            return "0"
        return f"{self.bound:g} or {'more' if self.is_least else 'less'}"

    def _is_reached(self, found: Spread) -> bool:
        if self.bound == 0:
            return found.high == 0
        return found.median >= self.bound if self.is_least else found.median <= self.bound


def _ratio(case: str, ours: str, theirs: str, column: str) -> Find:
    """Find a ratio of two contestants."""

    def find(results: Results) -> Spread | None:
        result = results.get(case)
        return result.ratios(ours, theirs)[column] if result and theirs in result.values else None

    return find


def _figure(case: str, contestant: str, column: str) -> Find:
    """Find a figure of a contestant; {most} in its name is the highest number in any name of the case."""

    def find(results: Results) -> Spread | None:
        result = results.get(case)
        return result.figures(_named(result, contestant))[column] if result else None

    return find


def _above(case: str, contestant: str, other: str, column: str) -> Find:
    """Find by how much a figure of a contestant is above that of another one in the same round."""

    def find(results: Results) -> Spread | None:
        if (result := results.get(case)) is None:
            return None
        both = zip(result.values[_named(result, contestant)], result.values[other], strict=True)
        return spread([high[column] - low[column] for high, low in both])

    return find


def _named(result: Result, contestant: str) -> str:
    if _PLACEHOLDER not in contestant:
        return contestant
    most = max(int(number) for name in result.values for number in re.findall(r"\d+", name))
    return contestant.replace(_PLACEHOLDER, str(most))


TARGETS = [
    *(
        Target(
            f"connections/s against tcpserver, {clients} clients",
            _ratio(f"trivial-{clients}", "ucspid", _TCPSERVER, _RATE),
            1.05,
            is_least=True,
        )
        for clients in (20, 200)
    ),
    *(
        Target(
            f"p99 against tcpserver, {clients} clients",
            _ratio(f"trivial-{clients}", "ucspid", _TCPSERVER, _TAIL),
            0.6,
        )
        for clients in (20, 200)
    ),
    Target("latency against tcpserver, 1 client", _ratio("trivial-1", "ucspid", _TCPSERVER, _LATENCY), 0.9),
    *(
        Target(
            f"CPU per connection against {other}, {clients} clients",
            _ratio(f"trivial-{clients}", "ucspid", other, _CPU),
            bound,
        )
        for other, bound in ((_TCPSERVER, 0.95), (_FLOOR, 1.12))
        for clients in (20, 200)
    ),
    *(
        Target(
            f"CPU per refused client ({reason}) against tcpserver's deny",
            _ratio("refused", f"ucspid {reason}", "tcpserver deny", _CPU),
            0.2,
        )
        for reason in ("deny", "max_per_ip", "rate_per_ip")
    ),
    Target(
        "bytes per session, 10,000 held", _figure("live", "ucspid, {most} live", "bytes per session"), 1500
    ),
    Target("PSS of all of ucspid with 3 services, MB", _figure("services", "ucspid, 3", "PSS MB"), 40),
    Target("1,000 services: start to listening, ms", _figure("services", "ucspid, {most}", "start ms"), 1000),
    Target(
        "1,000 services: PSS above that of 3, MB",
        _above("services", "ucspid, {most}", "ucspid, 3", "PSS MB"),
        15,
    ),
    Target(
        "reload of 1,000 services: longest wait, ms", _figure("reload", "interrupted", "longest wait ms"), 20
    ),
    Target("reload of 1,000 services: failed clients", _figure("reload", "interrupted", "failed"), 0),
    Target("event loop killed: failed clients", _figure("loop-kill", "interrupted", "failed"), 0),
]


def wanted(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return every target with what the results say of it."""
    by_case = {result.case: result for result in results}
    return [target.as_json(by_case) for target in TARGETS]
