"""ucspid sessions: who is connected, since when, by which rule, and what the programs use."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from ucspid.cli.client import call
from ucspid.cli.report import duration, table
from ucspid.cli.socket_path import control_path
from ucspid.cli.tcp_bytes import traffic
from ucspid.config.forms import Duration, Misfit
from ucspid.errors import ConfigError
from ucspid.net.endpoint import host_of

TIMEOUT = 30.0
"""Seconds for an answer."""

SORTS = {
    "age": lambda session: -session["age"],
    "service": lambda session: (session["service"], -session["age"]),
    "client": lambda session: host_of(session["remote"]),
    "cpu": lambda session: -(session["cpu"] or 0.0),
    "bytes": lambda session: -((session["received"] or 0) + (session["sent"] or 0)),
    "memory": lambda session: -(session["rss"] or 0),
}
"""Orders of the list: the largest first, but for names."""

_THOUSANDS = 100_000
"""Bytes from which on they are shown as mebibytes."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_UTIME, _CSTIME, _RSS = 11, 15, 21
"""Of /proc/PID/stat after the name."""


def main(options: argparse.Namespace) -> int:
    """Print the sessions. Raises what call() raises."""
    found = call(control_path(options), "sessions", selected(options), TIMEOUT)["sessions"]
    bytes_of = traffic() if found else {}
    for session in found:
        session["cpu"], session["rss"] = _used(session["pid"])
        counts = bytes_of.get(session["balancer"] or session["remote"])
        session["received"], session["sent"] = (None, None) if counts is None else counts
    found.sort(key=SORTS[options.sort])
    if options.json:
        print(json.dumps({"sessions": found}))
    elif found:
        print("\n".join(_lines(found, in_bytes=options.bytes)))
    else:
        print("no sessions")
    return 0


def selected(options: argparse.Namespace) -> dict[str, Any]:
    """Return the members of a request that say which sessions are meant. Raises ConfigError."""
    args: dict[str, Any] = {"service": options.service, "ip": options.ip}
    if options.older is not None:
        try:
            args["older"] = float(Duration.parse(options.older))
        except Misfit:
            raise ConfigError([f"--older: expected {Duration.expects}, found {options.older}"]) from None
    if conns := getattr(options, "conns", None):
        args["conns"] = conns
    return {name: value for name, value in args.items() if value is not None}


def _lines(found: list[dict[str, Any]], *, in_bytes: bool) -> list[str]:
    """Return the table; with bytes in place of what the programs use, as both would not fit 80 columns."""
    header = ("SERVICE", "CONN", "PID", "AGE", *(("IN", "OUT") if in_bytes else ("CPU", "RSS")), "CLIENT")
    rows = [
        (
            session["service"],
            session["conn"] or session["state"],
            session["pid"] or "-",
            duration(session["age"]),
            *(_traffic(session) if in_bytes else _use(session)),
            _client(session),
        )
        for session in found
    ]
    count = f"{len(found)} sessions" if len(found) != 1 else "1 session"
    return [*table(header, rows, right=(2, 3, 4, 5)), "", count]


def _client(session: dict[str, Any]) -> str:
    notes = [f"by {session['balancer']}"] if session["balancer"] else []
    notes += ["ending"] if session["ending"] else []
    remote: str = session["remote"]
    return f"{remote} ({', '.join(notes)})" if notes else remote


def _use(session: dict[str, Any]) -> tuple[str, str]:
    cpu = "-" if session["cpu"] is None else f"{session['cpu']:.2f}s"
    return cpu, "-" if session["rss"] is None else _size(session["rss"])


def _traffic(session: dict[str, Any]) -> tuple[str, str]:
    received, sent = (
        "-" if count is None else str(count) if count < _THOUSANDS else _size(count)
        for count in (session["received"], session["sent"])
    )
    return received, sent


def _size(size: int) -> str:
    return f"{size / (1 << 20):.1f}M"


def _used(pid: int | None) -> tuple[float | None, int | None]:
    """Return seconds of CPU, children included, and bytes of memory of a program; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None, None
    fields = text.rpartition(") ")[2].split()
    return sum(map(int, fields[_UTIME:_CSTIME])) / _TICKS, int(fields[_RSS]) * _PAGE
