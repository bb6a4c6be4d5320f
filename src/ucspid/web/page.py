"""The status page: HTML made here, without anything from elsewhere."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from ucspid.net.endpoint import host_of
from ucspid.policy.histogram import quantile

STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 75rem; padding: 0 1rem 2rem; }
html { background: light-dark(#fff, #121212); color: light-dark(#111, #eee); }
a { color: light-dark(#0645ad, #9ecbff); }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 1.5rem 0 .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #8886; white-space: nowrap; }
th.n, td.n { text-align: right; }
.bad { font-weight: 600; color: light-dark(#a40000, #ff9a9a); }
meter { width: 6rem; vertical-align: middle; }
code { font-size: .9em; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
"""

SCRIPT = """
const source = new EventSource("/live?at=" + encodeURIComponent(location.pathname));
const state = document.getElementById("state");
source.onmessage = (event) => {
  document.getElementById("live").innerHTML = event.data;
  state.textContent = "live";
};
source.onerror = () => { state.textContent = "no answer: what is shown is old"; };
"""

Cells = Sequence[str]

_SHOWN = {"ts", "level", "event", "remote"}
"""Fields of events that have columns of their own."""

MAX_EVENTS = 50
"""Events that a page shows."""

_TIME_OF_DAY = slice(11, 19)


def document(body: str, title: str) -> str:
    """Return a whole page around what lives."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        "<header><h1><a href=/>ucspid</a></h1>"
        "<p>This page is <span id=state>as of its loading</span>.</p></header>"
        f"<main id=live>{body}</main><script>{SCRIPT}</script></body></html>"
    )


def overview(status: dict[str, Any], events: Iterable[dict[str, Any]]) -> str:
    """Return the picture of the daemon."""
    totals = status["totals"]
    text = (
        f"<p>Version {_text(status['version'])}, up {_time(status['uptime'])}, configuration "
        f"{status['generation']}. {totals['live']} of {totals['max_connections']} connections live, "
        f"{totals['accepted']} accepted, {sum(totals['refused'].values())} refused, "
        f"{sum(totals['failed'].values())} failed; {status['denied']} networks denied.</p>"
    )
    return text + _services(status["services"]) + _events(events)


def of_service(
    status: dict[str, Any], name: str, sessions: Iterable[dict[str, Any]], events: Iterable[dict[str, Any]]
) -> str:
    """Return the picture of one service."""
    (service,) = (service for service in status["services"] if service["name"] == name)
    rows = [
        (_text(what), _text(reason), str(count))
        for what in ("ended", "refused", "failed")
        for reason, count in service[what].items()
    ]
    addresses = [item["address"] for item in status["listeners"] if item["service"] == name]
    failures = [
        (_time(item["ago"]) + " ago", _text(item["what"]), _client(item["remote"]))
        for item in service["last_failures"]
    ]
    return (
        f"<p>It listens on {_text(', '.join(addresses) or 'nothing')}.</p>"
        + _services([service])
        + _table("What became of connections", ("what", "how", "count"), rows, numbers={2})
        + _table("The last failures", ("when", "what", "client"), failures)
        + _sessions(sessions)
        + _events(event for event in events if event.get("service") == name)
    )


def of_client(ip: str, sessions: Iterable[dict[str, Any]], events: Iterable[dict[str, Any]]) -> str:
    """Return the picture of one client."""
    own = (event for event in events if host_of(event.get("remote", "")) == ip)
    return f"<p>The client {_text(ip)}.</p>" + _sessions(sessions) + _events(own)


def _services(services: Iterable[dict[str, Any]]) -> str:
    header = ("service", "state", "live", "limit", "", "waiting", "accepted", "refused", "failed",
              "start p50", "p99", "session p50")  # fmt: skip
    rows = [
        (
            f'<a href="/service/{_text(item["name"])}">{_text(item["name"])}</a>',
            _state(item["state"]),
            str(item["live"]),
            str(item["max_connections"]),
            _meter(item),
            str(item["waiting"]),
            str(item["accepted"]),
            str(sum(item["refused"].values())),
            str(sum(item["failed"].values())),
            _quantile(item["timings"]["start"], 0.5),
            _quantile(item["timings"]["start"], 0.99),
            _quantile(item["timings"]["duration"], 0.5),
        )
        for item in services
    ]
    return _table("Services", header, rows, numbers={2, 3, 5, 6, 7, 8, 9, 10, 11})


def _meter(service: dict[str, Any]) -> str:
    name, live, most = _text(service["name"]), service["live"], max(1, service["max_connections"])
    label = f'aria-label="live connections of {name}"'
    return f"<meter min=0 max={most} value={live} {label}>{live}</meter>"


def _state(state: str) -> str:
    return state if state == "listening" else f"<span class=bad>{_text(state)}</span>"


def _sessions(sessions: Iterable[dict[str, Any]]) -> str:
    rows = [
        (_text(item["service"]), _text(item["conn"] or item["state"]), str(item["pid"] or "-"),
         _time(item["age"]), _client(item["remote"]), _text(item["rule"] or "-"))
        for item in sessions
    ]  # fmt: skip
    return _table("Sessions", ("service", "session", "pid", "age", "client", "rule"), rows, numbers={2, 3})


def _events(events: Iterable[dict[str, Any]]) -> str:
    rows = []
    for event in list(events)[: -MAX_EVENTS - 1 : -1]:
        others = {name: value for name, value in event.items() if name not in _SHOWN}
        fields = " ".join(f"{name}={value}" for name, value in others.items())
        rows.append(
            (_text(event["ts"][_TIME_OF_DAY]), _text(event["level"]), _text(event["event"]),
             _client(event.get("remote", "")), f"<code>{_text(fields)}</code>")
        )  # fmt: skip
    return _table("Events", ("time (UTC)", "level", "event", "client", "more"), rows, long={4})


def _table(
    caption: str, header: Cells, rows: Iterable[Cells], numbers: Iterable[int] = (), long: Iterable[int] = ()
) -> str:
    """Return a table with a heading; a line where it would be empty."""
    kinds = dict.fromkeys(numbers, " class=n") | dict.fromkeys(long, " class=long")
    lines = [
        "<tr>" + "".join(f"<td{kinds.get(n, '')}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>"
        for row in rows
    ]
    title = f"<h2>{caption}</h2>"
    if not lines:
        return f"{title}<p>None.</p>"
    head = "".join(
        f"<th scope=col{kinds.get(n, '')}>{name}</th>" if name else "<td></td>"
        for n, name in enumerate(header)
    )
    label = f'tabindex=0 role=region aria-label="{caption}"'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"{title}<div class=wide {label}>{table}</div>"


def _client(remote: str) -> str:
    ip = host_of(remote)
    return f'<a href="/client/{_text(ip)}">{_text(remote)}</a>' if ip else ""


def _quantile(histogram: dict[str, Any], share: float) -> str:
    seconds = quantile(histogram, share)
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else _time(seconds)


def _time(seconds: float) -> str:
    whole = int(seconds)
    for size, unit, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // smaller}{rest}"
    return f"{seconds:.1f}s"


def _text(value: object) -> str:
    return html.escape(str(value))
