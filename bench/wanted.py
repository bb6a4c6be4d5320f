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
        return result.figures(_named(result, contestant))[column] if result and result.values else None

    return find


def _above(case: str, contestant: str, other: str, column: str) -> Find:
    """Find by how much a figure of a contestant is above that of another one in the same round."""

    def find(results: Results) -> Spread | None:
        if (result := results.get(case)) is None or not result.values:
            return None
        both = zip(result.values[_named(result, contestant)], result.values[other], strict=True)
        return spread([high[column] - low[column] for high, low in both])

    return find


def _named(result: Result, contestant: str) -> str:
    if _PLACEHOLDER not in contestant:
        return contestant
    most = max(int(number) for name in result.values for number in re.findall(r"\d+", name))
    return contestant.replace(_PLACEHOLDER, str(most))


def _against_tcpserver(
    figure: str, column: str, bound: float, *, is_least: bool = False
) -> Callable[..., Target]:
    """Return what makes a target of a case: two contestants' figures of one column."""

    def target(case: str, about: str, ours: str = "ucspid", theirs: str = _TCPSERVER) -> Target:
        text = f"{figure} against tcpserver, {about}"
        return Target(text, _ratio(case, ours, theirs, column), bound, is_least)

    return target


_TLS_TARGETS = [
    Target(
        "TLS process's CPU a full handshake against stunnel's",
        _ratio("tls-full", "ucspid", "stunnel", _CPU),
        0.9,
    ),
    Target(
        "TLS process's CPU a full handshake against haproxy's",
        _ratio("tls-full", "ucspid", "haproxy", _CPU),
        1.1,
    ),
    Target(
        "TLS process's CPU a full handshake against a stunnel's for each connection",
        _ratio("tls-full", "ucspid", "stunnel from tcpserver", _CPU),
        0.1,
    ),
    Target(
        "TLS process's CPU a resumed handshake against stunnel's",
        _ratio("tls-resumed", "ucspid", "stunnel", _CPU),
        0.75,
    ),
    *(
        Target(
            f"TLS, one connection, MB/s {way} against stunnel",
            _ratio("tls-bulk", "ucspid", "stunnel", f"MB/s {way}"),
            1.0,
            is_least=True,
        )
        for way in ("up", "down")
    ),
    Target("TLS process's PSS an idle session, KB", _figure("tls-idle", "ucspid", "idle KB a session"), 25),
    Target(
        "TLS process's PSS a stalled session, KB", _figure("tls-idle", "ucspid", "stalled KB a session"), 60
    ),
    Target(
        "TLS: median of an echo against stunnel",
        _ratio("tls-flood", "ucspid", "stunnel", "quiet p50 ms"),
        1.3,
    ),
    Target(
        "TLS: p99 of an echo under a flood of handshakes, to that without",
        _figure("tls-flood", "ucspid", "p99 of flood to quiet"),
        2,
    ),
]

_rate = _against_tcpserver("connections/s", _RATE, 1.05, is_least=True)
_cpu = _against_tcpserver("CPU per connection", _CPU, 0.88)
_median = _against_tcpserver("median latency", _LATENCY, 0.9)
_tail = _against_tcpserver("p99", _TAIL, 1.0)

TARGETS = [
    _rate("trivial-1", "1 client"),
    _rate("trivial-20", "20 clients"),
    _rate("trivial-200", "200 clients"),
    _rate("logging", "silent", "ucspid silent", "tcpserver silent"),
    _rate("logging", "logging", "ucspid logging", "tcpserver logging"),
    _rate("mail", "mail session"),
    _cpu("trivial-1", "1 client"),
    _cpu("trivial-20", "20 clients"),
    _cpu("trivial-200", "200 clients"),
    _cpu("mail", "mail session"),
    *(
        Target(
            f"CPU per connection against {_FLOOR}, {clients} clients",
            _ratio(f"trivial-{clients}", "ucspid", _FLOOR, _CPU),
            1.2,
        )
        for clients in (20, 200)
    ),
    _median("trivial-1", "1 client"),
    _median("trivial-20", "20 clients"),
    _tail("trivial-20", "20 clients"),
    _tail("trivial-200", "200 clients"),
    _tail("mail", "mail session"),
    Target("own CPU of loop and launchers per connection, µs", _figure("trivial-20", "ucspid", "own µs"), 90),
    Target(
        "example SMTP service, preloaded: connections/s against tcpserver",
        _ratio("python-smtp-20", "ucspid preloaded", _TCPSERVER, _RATE),
        50,
        is_least=True,
    ),
    Target(
        "example SMTP service, preloaded: first byte against a C program's",
        _ratio("python-smtp-1", "ucspid preloaded", "ucspid, C program", _LATENCY),
        1.3,
    ),
    Target(
        "the same where clients come one by one, 50 ms apart",
        _ratio("python-smtp-spaced", "ucspid preloaded", "ucspid, C program", _LATENCY),
        1.3,
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
        "bytes per session, as many held as can be",
        _figure("live", "ucspid, {most} live", "bytes per session"),
        1000,
    ),
    Target("PSS of all of ucspid with 3 services, MB", _figure("services", "ucspid, 3", "PSS MB"), 32),
    Target("1,000 services: start to listening, ms", _figure("services", "ucspid, {most}", "start ms"), 1000),
    Target(
        "1,000 services: PSS above that of 3, MB",
        _above("services", "ucspid, {most}", "ucspid, 3", "PSS MB"),
        12,
    ),
    Target(
        "300 services with a user each: start to listening, ms",
        _figure("profiles", "ucspid, {most}", "start ms"),
        2000,
    ),
    Target(
        "300 services with a user each: PSS above that of 1, MB",
        _above("profiles", "ucspid, {most}", "ucspid, 1", "PSS MB"),
        299 * 0.7,
    ),
    Target(
        "reload of 1,000 services: longest wait, ms", _figure("reload", "interrupted", "longest wait ms"), 20
    ),
    Target("reload of 1,000 services: failed clients", _figure("reload", "interrupted", "failed"), 0),
    Target("event loop killed: failed clients", _figure("loop-kill", "interrupted", "failed"), 0),
    *_TLS_TARGETS,
]


def wanted(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return every target with what the results say of it."""
    by_case = {result.case: result for result in results}
    return [target.as_json(by_case) for target in TARGETS]
