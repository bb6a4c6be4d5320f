"""The master's events: they wait in bounds and in order for who writes them, and each fits a packet."""

import json
from typing import Any

from ucspid.errors import ConfigError
from ucspid.ipc.messages import MAX_PACKET
from ucspid.master import events
from ucspid.master.event_log import MAX_WAITING, EventLog


def sent(log: EventLog, most: int = 10_000) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []

    def send(event: dict[str, Any]) -> bool:
        if len(taken) < most:
            taken.append(event)
            return True
        return False

    log.send(send)
    return taken


def test_events_wait_in_bounds_and_the_oldest_go() -> None:
    log = EventLog()
    for number in range(3 * MAX_WAITING):
        log.info("event", number=number)
    assert [event["fields"]["number"] for event in sent(log)] == [*range(2 * MAX_WAITING, 3 * MAX_WAITING)]
    assert sent(log) == []


def test_what_is_not_taken_waits_on() -> None:
    log = EventLog()
    for level in ("info", "warning", "error"):
        getattr(log, level)("event")
    assert [event["level"] for event in sent(log, 2)] == ["info", "warning"]
    assert [event["level"] for event in sent(log)] == ["error"]


def test_who_takes_events_is_called_for_each() -> None:
    log = EventLog()
    taken: list[dict[str, Any]] = []
    log.to(lambda: taken.extend(sent(log)))
    log.error("event", reason="because")
    assert taken == [{"level": "error", "event": "event", "fields": {"reason": "because"}}]


def test_an_event_fits_a_packet_whatever_is_in_it() -> None:
    log = EventLog()
    events.reload_failed(log, ConfigError(["x" * 1_000_000]))
    events.reload_failed(log, ConfigError(["\U0001f4a3" * 30] * 100_000))
    events.launcher_refused(log, "name," * 100_000, "\n" * 100_000)
    for event in sent(log):
        assert len(json.dumps(event)) < MAX_PACKET
    log.error("event", reason="short")
    assert sent(log)[0]["fields"]["reason"] == "short"


def names(log: EventLog) -> list[str]:
    return [event["event"] for event in sent(log)]


def test_what_a_loop_has_not_logged_when_it_dies_is_sent_to_the_next() -> None:
    log = EventLog()
    for name in ("first", "second", "third"):
        log.info(name)
    assert names(log) == ["first", "second", "third"]
    log.logged()
    log.lost()
    log.info("fourth")
    assert names(log) == ["second", "third", "fourth"]
    for _ in range(5):
        log.logged()  # more than were sent: a loop is not trusted
    log.lost()
    assert names(log) == []


def test_what_is_kept_of_events_that_were_sent_is_bounded_and_the_newest() -> None:
    log = EventLog()
    for number in range(3 * MAX_WAITING):
        log.info("event", number=number)
        if number < 2 * MAX_WAITING:
            sent(log)
    log.lost()
    assert [event["fields"]["number"] for event in sent(log)] == [*range(2 * MAX_WAITING, 3 * MAX_WAITING)]
