"""The status page as text: nothing that a client or a program says is taken for HTML."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ucspid.policy.histogram import Timings
from ucspid.web import page
from ucspid.web.metrics import StatusCollector
from ucspid.web.server import HEADERS

EVIL = "<script>alert('x')</script>"


def service(**changed: Any) -> dict[str, Any]:
    return {
        "name": "smtp", "state": "listening", "live": 3, "max_connections": 40, "waiting": 0, "accepted": 9,
        "ended": {"ok": 5}, "refused": {"denied": 1}, "failed": {}, "last_failures": [],
        "timings": Timings().to_state(), **changed,
    }  # fmt: skip


def status(*services: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "1", "uptime": 90061.0, "generation": 1, "denied": 0, "services": list(services),
        "listeners": [{"service": "smtp", "address": "*:25"}], "rules_files": [], "loop_uptime": 1.0,
        "log_dropped": 0, "master_events": {},
        "process_deaths": {"loop": 1, "tls": 0}, "dns": {"answered": 4}, "certificates": [],
        "totals": {"live": 3, "max_connections": 1000, "accepted": 9, "refused": {}, "failed": {}},
    }  # fmt: skip


def test_what_others_say_is_text() -> None:
    event = {"ts": "2026-01-31T12:00:00Z", "level": "info", "event": EVIL, "remote": f"{EVIL}:1", EVIL: EVIL}
    session = {
        "service": "smtp", "conn": EVIL, "state": "running", "pid": 7, "age": 1.0, "remote": f"{EVIL}:1",
        "rule": EVIL,
    }  # fmt: skip
    failure = {"ago": 1.0, "what": EVIL, "remote": f"{EVIL}:1"}
    failing = service(last_failures=[failure], state=EVIL, ended={EVIL: 1})
    texts = [
        page.overview(status(failing), [event]),
        page.of_service(status(failing), "smtp", [session], [{**event, "service": "smtp"}]),
        page.of_client(EVIL, [session], [event]),
        page.document("", EVIL).replace(page.SCRIPT, ""),
    ]
    for text in texts:
        assert "<script>a" not in text
        assert "&lt;script&gt;" in text


def test_the_newest_events_come_first_and_not_too_many() -> None:
    events = [
        {"ts": "2026-01-31T12:00:00Z", "level": "info", "event": f"e{number}"}
        for number in range(2 * page.MAX_EVENTS)
    ]
    text = page.overview(status(service()), events)
    assert text.count("2026") == 0
    assert f"<td>e{2 * page.MAX_EVENTS - 1}</td>" in text
    assert f"<td>e{page.MAX_EVENTS}</td>" in text
    assert f"<td>e{page.MAX_EVENTS - 1}</td>" not in text


def test_nothing_comes_from_elsewhere() -> None:
    text = page.document(page.overview(status(service()), []), "ucspid")
    assert "http:" not in text
    assert "https:" not in text
    assert "src=" not in text
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (61, "1m 1s"), (7260, "2h 1m"), (90061, "1d 1h")]
)
def test_times(seconds: float, text: str) -> None:
    assert f"up {text}," in page.overview({**status(service()), "uptime": seconds}, [])


def test_the_metrics_that_are_described_are_those_that_there_are() -> None:
    root = Path(__file__).parents[2]
    rows = [line for line in (root / "docs/web.md").read_text().splitlines() if line.startswith("| `ucspid_")]
    described = {word for row in rows for word in row.split("|")[1].replace("`", "").replace(",", "").split()}
    families = list(StatusCollector(status(service(failed={"ENOENT": 1}))).collect())
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert described == there


def values(given: dict[str, Any]) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples of metrics by their names and the values of their labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in StatusCollector(given).collect():
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_a_certificate_has_its_end() -> None:
    end = {"service": "smtp", "not_after": "2026-03-31T12:00:00+00:00", "left": 5.0}
    found = values({**status(service()), "certificates": [end]})
    assert found["ucspid_certificate_end_time_seconds"] == {("smtp",): 1774958400.0}


def test_a_rules_file_that_two_services_read_differently_is_one_series() -> None:
    files = [
        {"path": "/r", "services": ["a"], "problem": None, "age": 5.0},
        {"path": "/r", "services": ["b"], "problem": "it is gone", "age": None},
        {"path": "/s", "services": ["c"], "problem": "it is gone", "age": None},
    ]
    families = list(StatusCollector({**status(service()), "rules_files": files}).collect())
    (in_force,) = (family for family in families if family.name == "ucspid_rules_file_in_force")
    assert [(sample.labels["path"], sample.value) for sample in in_force.samples] == [("/r", 0), ("/s", 0)]
    (age,) = (family for family in families if family.name == "ucspid_rules_file_age_seconds")
    assert [(sample.labels["path"], sample.value) for sample in age.samples] == [("/r", 5.0)]


def test_the_first_reload_that_fails_is_an_increase() -> None:
    before, after = (values({**status(), "master_events": had})["ucspid_master_events_total"]
                     for had in ({}, {"reload_failed": 1}))  # fmt: skip
    assert (before["reload_failed",], after["reload_failed",]) == (0, 1)
    assert before["reloaded",] == 0


def test_what_processes_and_name_servers_did_is_counted() -> None:
    found = values(status(service()))
    assert found["ucspid_process_deaths_total"] == {("loop",): 1, ("tls",): 0}
    assert found["ucspid_dns_questions_total"] == {("answered",): 4}


def test_the_dashboard_and_the_alerts_use_every_metric_that_somebody_would_look_at() -> None:
    top = Path(__file__).parents[2]
    dashboard = (top / "contrib/grafana-dashboard.json").read_text()
    panels = json.loads(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    used = dashboard + (top / "contrib/prometheus-alerts.yaml").read_text()
    rows = [line for line in (top / "docs/web.md").read_text().splitlines() if line.startswith("| `ucspid_")]
    named = {name for row in rows for name in re.findall(r"`(ucspid_\w+)`", row.split(" | ")[0])}
    unused = {name for name in named if name not in used}
    assert unused == {"ucspid_build_info", "ucspid_start_time_seconds", "ucspid_config_generation"}
