"""The daemon's status as text: tables for people, 80 columns wide."""

import pwd
import textwrap
from collections.abc import Sequence
from typing import Any

WIDTH = 80
ENDING = 14 * 86400.0
"""Seconds before the end of a certificate at which that is shown."""
_LEAST_WIDTH = 16  # of the last column, whatever the others take
_GAP = "  "
_ENDED = {
    "nonzero": "exited nonzero",
    "signal": "died of a signal",
    "ended": "ended by the daemon",
    "unknown": "ended unseen",
}
"""What is said of served connections whose program did not end with status 0."""


def report(status: dict[str, Any]) -> str:
    """Return the text for the result of the verb status (docs/protocol-control.md)."""
    parts = [_summary(status), _services(status)]
    if "processes" in status:
        parts.append(_processes(status))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _summary(status: dict[str, Any]) -> list[str]:
    totals = status["totals"]
    version = f"ucspid {status['version']}, up {duration(status['uptime'])}"
    live = f"{totals['live']} of {totals['max_connections']}"
    refused, failed = (sum(totals[outcome].values()) for outcome in ("refused", "failed"))
    counts = f"{totals['served']} served, {refused} refused, {failed} failed"
    return [
        *textwrap.wrap(f"{version}, generation {status['generation']}, {status['config']}", WIDTH),
        f"{live} connections live; {totals['accepted']} accepted:",
        counts,
        *([f"networks denied: {status['denied']}, see `ucspid denied`"] if status["denied"] else []),
    ]


def _services(status: dict[str, Any]) -> list[str]:
    listeners: dict[str, list[str]] = {}
    for listener in status["listeners"]:
        listeners.setdefault(listener["service"], []).append(listener["address"])
    header = ("SERVICE", "STATE", "LIVE", "WAITING", "SERVED", "REFUSED", "FAILED", "LISTENS ON")
    rows = [
        (
            service["name"],
            service["state"],
            f"{service['live']}/{service['max_connections']}",
            service["waiting"],
            service["served"],
            sum(service["refused"].values()),
            sum(service["failed"].values()),
            " ".join(listeners.get(service["name"], [])) or "-",
        )
        for service in status["services"]
    ]
    lines = table(header, rows, right=range(2, 7))
    why = [line for service in status["services"] for line in _reasons(service)]
    why += [line for file in status["rules_files"] if file["problem"] for line in _not_in_force(file)]
    why += [_ending(item) for item in status["certificates"] if item["left"] < ENDING]
    return [*lines, *(["", *why] if why else [])]


def _ending(certificate: dict[str, Any]) -> str:
    """Return when the first certificate of a service ends."""
    left = certificate["left"]
    when = f"ends in {duration(left)}" if left > 0 else f"has expired {duration(-left)} ago"
    return f"{certificate['service']}: a certificate {when}, {certificate['not_after']}"


def _not_in_force(file: dict[str, Any]) -> list[str]:
    """Return why what is in a rules file now does not hold for its services."""
    problem, *others = file["problem"].splitlines()
    more = f" (and {len(others)} more)" if others else ""
    text = f"{', '.join(file['services'])}: {file['path']} is not in force as it is now: {problem}{more}"
    return textwrap.wrap(text, WIDTH, subsequent_indent=_GAP, break_long_words=False)


def _reasons(service: dict[str, Any]) -> list[str]:
    """Return how connections ended otherwise than well, the commonest way first, and the last of them."""
    limited = []
    if (planned := service["planned_max_connections"]) is not None:
        now = f"at most {service['max_connections']} sessions by `ucspid limit`, the file says {planned}"
        limited = textwrap.wrap(f"{service['name']}: {now}", WIDTH, subsequent_indent=_GAP)
    words = [f"{_ENDED[how]} {count}" for how, count in _commonest(service["ended"]) if how in _ENDED]
    for outcome in ("refused", "failed"):
        words += [f"{outcome} {count} {reason}" for reason, count in _commonest(service[outcome])]
    if not words:
        return limited
    lines = textwrap.wrap(f"{service['name']}: {', '.join(words)}", WIDTH, subsequent_indent=_GAP)
    lines = [*limited, *lines]
    for failure in service["last_failures"]:
        line = f"{duration(failure['ago'])} ago: {failure['what']}, client {failure['remote']}"
        conn = f", connection {failure['conn']}" if failure["conn"] else ""
        lines += textwrap.wrap(line + conn, WIDTH, initial_indent=_GAP, subsequent_indent=2 * _GAP)
    return lines


def _commonest(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _processes(status: dict[str, Any]) -> list[str]:
    header = ("PROCESS", "PID", "USER", "RUNNING", "SERVICES")
    rows = [
        (
            _process_name(process),
            process["pid"],
            _user_name(process["user"]),
            process["running"] if process["role"] == "launcher" else "-",
            " ".join(process.get("services", ())) or "-",
        )
        for process in status["processes"]
    ]
    return table(header, rows, right=(1, 3))


def _process_name(process: dict[str, Any]) -> str:
    notes = [
        *(["native"] if process.get("kind") == "native" else []),
        *(["draining"] if process["draining"] else []),
    ]
    role: str = process["role"]
    return f"{role} ({', '.join(notes)})" if notes else role


def _user_name(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return number


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int]) -> list[str]:
    """Return lines of aligned columns; those numbered in right (from 0) align there.

    The last column takes what is left of WIDTH and goes on in further lines, below itself.
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header) - 1)]
    indent = sum(widths) + len(widths) * len(_GAP)
    lines = []
    for row in cells:
        aligned = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        first, *others = textwrap.wrap(
            row[-1], max(WIDTH - indent, _LEAST_WIDTH), break_long_words=False, break_on_hyphens=False
        )
        lines.append(_GAP.join([*aligned, first]))
        lines.extend(" " * indent + other for other in others)
    return lines


def duration(seconds: float) -> str:
    """Return the two largest units of a time: 41s, 3m 2s, 5h 0m, 12d 7h."""
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes}m {whole % 60}s" if minutes else f"{whole}s"
