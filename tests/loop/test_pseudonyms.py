"""What the log shows in place of clients' addresses."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.linux.memfd import sealed_memory
from ucspid.observe.log import configure
from ucspid.observe.pseudonyms import SIZE, DailyKey, Pseudonyms

DAY = 86_400
PREFIX = Pseudonyms("prefix")


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = sealed_memory("key", SIZE)
    yield descriptor
    os.close(descriptor)


def hashed(memory: int, now: Callable[[], float] = lambda: DAY * 20_000) -> Pseudonyms:
    return Pseudonyms("hashed", DailyKey(memory), now)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7:40312", "192.0.2.0:40312"),
        ("[2001:db8:1:2:3::7]:25", "[2001:db8:1::]:25"),
        ("192.0.2.7", "192.0.2.0"),
        ("2001:db8:1:2:3::7", "2001:db8:1::"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("192.0.0.0/16", "192.0.0.0/16"),
        ("somewhere", "?"),
    ],
)
def test_a_prefix(text: str, expected: str) -> None:
    assert PREFIX.of_text(text) == expected


def test_a_word_is_the_same_for_a_day_whatever_process_has_it(memory: int) -> None:
    clock = DAY * 20_000 + 7.0
    one, two = (hashed(memory, lambda: clock) for _ in range(2))
    word = one.of_text("192.0.2.7:25")
    assert word == two.of_text("192.0.2.7:25")
    assert word != one.of_text("192.0.2.8:25")
    assert "192" not in word
    assert word.endswith(":25")
    clock += DAY
    assert one.of_text("192.0.2.7:25") != word
    assert one.of_text("192.0.2.7:25") == two.of_text("192.0.2.7:25")


def test_the_key_of_a_day_that_is_over_is_gone(memory: int) -> None:
    keys = DailyKey(memory)
    first = keys.at(20_000)
    later = keys.at(20_003)
    assert first not in os.pread(memory, SIZE, 0)
    assert keys.at(20_001) == later
    assert DailyKey(memory).at(20_003) == later


@given(st.ip_addresses(), st.integers(0, 65535))
def test_no_event_has_the_address(address: Any, port: int) -> None:
    remote = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
    fields = {
        "event": "connection_refused",
        "remote": remote,
        "client": f"{address}",
        "network": f"{address}",
    }
    shown = PREFIX.of_event(None, "info", fields)
    whole = address.max_prefixlen - (24 if address.version == 4 else 48)
    if int(address) % (1 << whole):
        assert str(address) not in str(shown)


@pytest.mark.parametrize("form", ["json", "tcpserver"])
def test_nothing_that_is_logged_has_it(form: Any, memory: int) -> None:
    reading, writing = os.pipe()
    log = configure(writing, form, "info", pseudonyms=hashed(memory))
    log.logger.warning("health_check", service="smtp", remote="192.0.2.7:40312")
    assert log.close(20)
    os.close(writing)
    with os.fdopen(reading) as lines:
        text = lines.read()
    assert "192.0.2.7" not in text
    if form == "json":
        assert json.loads(text)["remote"].endswith(":40312")
