"""The screen of ucspid top, as text: what is shown in so many columns and lines. No terminal in here."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ucspid.cli.report import duration
from ucspid.net.endpoint import host_of
from ucspid.policy.histogram import quantile
from ucspid.records import dataclass, field

SORTS: dict[str, Callable[[dict[str, Any], float], Any]] = {
    "name": lambda service, _rate: service["name"],
    "live": lambda service, _rate: (-service["live"], service["name"]),
    "rate": lambda service, rate: (-rate, service["name"]),
    "refused": lambda service, _rate: (-sum(service["refused"].values()), service["name"]),
    "waiting": lambda service, _rate: (-service["waiting"], service["name"]),
}
"""Orders of the services, by the key that chooses them: its first letter."""

KEYS = "q quit  / filter  n l r R w sort  j k select  d drain  u resume  x kill  b deny"
BAR = 10
"""Columns of the bar that shows how full a service is."""
MAX_CLIENTS = 5
"""Clients that are shown, the busiest first."""
_LEAST_EVENTS = 3


@dataclass
class View:
    """What the person at the terminal has chosen."""

    sort: str = "name"
    filter: str = ""
    selected: str = ""
    """The name of a service."""
    message: str = ""
    """What came of the last command; or a question."""


@dataclass
class Picture:
    """What is known of the daemon at one moment, and of the moment before."""

    status: dict[str, Any]
    sessions: list[dict[str, Any]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    """Lines, the latest last."""
    accepted_before: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    """Since the moment before; 0 if there was none."""

    def rate(self, service: dict[str, Any]) -> float:
        """Return the connections per second of a service since the moment before."""
        accepted: int = service["accepted"]
        before = self.accepted_before.get(service["name"])
        if before is None or self.seconds <= 0:
            return 0.0
        return max(0, accepted - before) / self.seconds

    def services(self, view: View) -> list[dict[str, Any]]:
        """Return the services that are shown, in their order."""
        wanted = [item for item in self.status["services"] if view.filter in item["name"]]
        return sorted(wanted, key=lambda item: SORTS[view.sort](item, self.rate(item)))


def screen(picture: Picture, view: View, width: int, height: int) -> list[str]:
    """Return the lines, none longer than width, and as many as height."""
    services = picture.services(view)
    head = _head(picture, view)
    clients = _clients(picture)
    below = len(clients) + 1 + _LEAST_EVENTS + 1
    room = max(1, height - len(head) - 1 - below - 1)
    table = [_header(width), *(_row(picture, view, item, width) for item in _around(services, view, room))]
    lines = [*head, *table, "", *clients, "EVENTS"]
    events = max(0, height - len(lines) - 1)
    lines += picture.events[-events:] if events else []
    lines += [""] * (height - len(lines) - 1)
    lines = [*lines[: height - 1], view.message or KEYS]
    return [line[:width] for line in lines]


def _head(picture: Picture, view: View) -> list[str]:
    status = picture.status
    totals = status["totals"]
    rate = sum(picture.rate(service) for service in status["services"])
    refused = ", ".join(f"{count} {reason}" for reason, count in Counter(totals["refused"]).most_common())
    chosen = f"sorted by {view.sort}" + (f", only *{view.filter}*" if view.filter else "")
    failed = sum(totals["failed"].values())
    daemon = f"ucspid {status['version']}  up {duration(status['uptime'])}"
    live = f"{totals['live']} of {totals['max_connections']} live  {rate:.1f}/s"
    counts = f"{totals['accepted']} accepted  {totals['served']} served  {failed} failed"
    return [
        f"{daemon}  generation {status['generation']}  {chosen}",
        f"{live}  {counts}  {status['denied']} denied",
        f"refused: {refused or 'none'}",
        "",
    ]


def _around(services: list[dict[str, Any]], view: View, room: int) -> list[dict[str, Any]]:
    """Return as many services as there is room for, the selected one among them."""
    names = [service["name"] for service in services]
    place = names.index(view.selected) if view.selected in names else 0
    start = max(0, min(place - room // 2, len(services) - room))
    return services[start : start + room]


def _header(width: int) -> str:
    text = f"  {'SERVICE':<14} {'STATE':<11} {'LIVE':>9} {'':<{BAR}} {'WAIT':>4} {'/S':>6} {'REFUSED':>8}"
    more = f" {'FAILED':>7} {'START 50%':>10} {'95%':>9} {'SESSION 50%':>12} {'CPU':>8}"
    return text + more if _wide(width) else text


def _row(picture: Picture, view: View, service: dict[str, Any], width: int) -> str:
    live, most = service["live"], service["max_connections"]
    full = min(BAR, round(BAR * live / most)) if most else 0
    mark = ">" if service["name"] == view.selected else " "
    refused, failed = (sum(service[what].values()) for what in ("refused", "failed"))
    text = (
        f"{mark} {service['name'][:14]:<14} {service['state'][:11]:<11} {f'{live}/{most}':>9} "
        f"{'#' * full:.<{BAR}} {service['waiting']:>4} {picture.rate(service):>6.1f} {refused:>8}"
    )
    if not _wide(width):
        return text
    timings = service["timings"]
    return text + (
        f" {failed:>7} {_seconds(timings['start'], 0.5):>10} {_seconds(timings['start'], 0.95):>9} "
        f"{_seconds(timings['duration'], 0.5):>12} {timings['cpu']:>7.1f}s"
    )


def _wide(width: int) -> bool:
    return width >= 130  # noqa: PLR2004 - the columns of _row()


def _clients(picture: Picture) -> list[str]:
    """Return the clients with most sessions."""
    found = Counter(host_of(session["remote"]) for session in picture.sessions)
    if not found:
        return ["CLIENTS  none"]
    listed = "  ".join(f"{ip} ({count})" for ip, count in found.most_common(MAX_CLIENTS))
    return [f"CLIENTS  {len(found)}, the busiest: {listed}"]


def _seconds(histogram: dict[str, Any], share: float) -> str:
    seconds = quantile(histogram, share)
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.1f}s"


def moved(names: Sequence[str], selected: str, by: int) -> str:
    """Return the name that is so many places after the selected one, or the nearest to that."""
    if not names:
        return ""
    place = names.index(selected) + by if selected in names else 0
    return names[max(0, min(place, len(names) - 1))]
