"""Events for those who read them as they come: bounded, and nothing while there is nobody."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from inprocess import serving, settings
from ucspid.control.tailing import Tailing
from ucspid.errors import PeerError, ResourceError
from ucspid.net.address import Networks
from ucspid.observe.log import LogOutput, configure
from ucspid.observe.tails import LEVELS, MAX_TAILS, MAX_UNREAD, Tail, TailFilter


@contextmanager
def written(format_: Any = "json", level: str = "info") -> Iterator[tuple[LogOutput, list[str]]]:
    """Have a log; its lines are there at the end."""
    reading, writing = os.pipe()
    output = configure(writing, format_, level)
    lines: list[str] = []
    try:
        yield output, lines
    finally:
        output.close(5.0)
        os.close(writing)
        with os.fdopen(reading) as file:
            lines += file.read().splitlines()


async def read(tail: Tail) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        return [json.loads(line) for line in (await tail.more()).splitlines()]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


async def test_an_event_is_shown_as_the_log_has_it() -> None:
    with written() as (output, lines):
        tail = output.tails.add(TailFilter())
        output.logger.info("one", service="s", remote="192.0.2.7:1")
        output.logger.debug("two")
        (one,) = await read(tail)
        tail.close()
        output.logger.info("three")
    logged = [json.loads(line) for line in lines]
    assert names(logged) == ["one", "three"]
    assert {**logged[0], "ts": ""} == {**one, "ts": ""}
    assert list(logged[0]) == list(one)


@pytest.mark.parametrize(
    ("format_", "level"), [("json", "error"), ("json", "none"), ("tcpserver", "info"), ("console", "warning")]
)
async def test_what_the_log_has_does_not_matter_and_is_not_changed(format_: str, level: str) -> None:
    with written(format_, level) as (output, lines):
        before = type(output.logger)
        tail = output.tails.add(TailFilter(LEVELS["debug"]))
        output.logger.info("one")
        output.logger.debug("two")
        output.set_level(level)
        output.logger.info("three")
        assert names(await read(tail)) == ["one", "two", "three"]
        tail.close()
        assert type(output.logger).info is before.info
    assert lines == []


async def test_the_level_of_the_log_is_set_while_somebody_reads() -> None:
    with written("json", "error") as (output, lines):
        tail = output.tails.add(TailFilter())
        output.set_level("info")
        output.logger.info("one")
        output.set_level("error")
        output.logger.info("two")
        tail.close()
        output.logger.info("three")
    assert names([json.loads(line) for line in lines]) == ["one"]


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (TailFilter(service="s"), ["a", "b"]),
        (TailFilter(events=frozenset({"b", "c"})), ["b", "c"]),
        (TailFilter(clients=Networks(["192.0.2.0/24"])), ["a"]),
        (TailFilter(clients=Networks(["::/0"])), ["b"]),
        (TailFilter(LEVELS["warning"]), ["c"]),
        (TailFilter(service="s", events=frozenset({"b"})), ["b"]),
    ],
)
async def test_only_what_is_wanted_is_shown(wanted: TailFilter, shown: list[str]) -> None:
    with written() as (output, _lines):
        tail = output.tails.add(wanted)
        everything = output.tails.add(TailFilter())
        output.logger.info("a", service="s", remote="192.0.2.7:1")
        output.logger.info("b", service="s", remote="[2001:db8::1]:1")
        output.logger.warning("c", service="t", remote="no address")
        output.logger.info("d")
        assert names(await read(tail)) == shown
        assert names(await read(everything)) == ["a", "b", "c", "d"]


async def test_a_slow_reader_loses_events_and_is_told_how_many() -> None:
    with written("json", "none") as (output, _lines):
        tail = output.tails.add(TailFilter())
        text = "x" * 1000
        for number in range(1000):
            output.logger.info("event", number=number, text=text)
        events = await read(tail)
        assert names(events[-1:]) == ["tail_dropped"]
        kept = events[:-1]
        assert [event["number"] for event in kept] == list(range(len(kept)))
        assert MAX_UNREAD // 2 < len(kept) * len(text) < MAX_UNREAD
        assert events[-1]["count"] == 1000 - len(kept)
        output.logger.info("after")
        assert names(await read(tail)) == ["after"]


async def test_there_are_so_many_readers_and_no_more() -> None:
    with written() as (output, _lines):
        tails = [output.tails.add(TailFilter()) for _ in range(MAX_TAILS)]
        with pytest.raises(ResourceError, match="read events already"):
            output.tails.add(TailFilter())
        tails[0].close()
        output.tails.add(TailFilter())


async def test_an_exception_is_text() -> None:
    with written() as (output, _lines):
        tail = output.tails.add(TailFilter())
        output.logger.error("internal_error", exc_info=ValueError("a bug"))
        (one,) = await read(tail)
        assert "ValueError: a bug" in one["exception"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"more": 1}, "unknown member"),
        ({"level": "loud"}, "level is one of"),
        ({"service": "x"}, "there is no service 'x': s"),
        ({"ip": 1}, "an address or a network"),
        ({"ip": "x"}, "not an IP address"),
        ({"events": []}, "a list of names"),
        ({"events": ["x"] * 21}, "20 at most"),
        ({"events": [1]}, "a list of names"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(args: dict[str, Any], why: str) -> None:
    with written() as (output, _lines):
        async with serving(settings("s")) as rig:
            with pytest.raises(PeerError, match=why):
                Tailing(rig.server.services, output.tails).tail(args)
        assert output.tails.level is None
