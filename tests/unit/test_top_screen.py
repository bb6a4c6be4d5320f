"""The screen of ucspid top: within its columns and lines, whatever there is to show."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.cli.top_screen import SORTS, Picture, View, moved, screen
from ucspid.policy.histogram import Timings


def service(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name, "state": "listening", "live": 3, "max_connections": 40, "waiting": 0, "accepted": 100,
        "served": 90, "ended": {}, "refused": {}, "failed": {}, "timings": Timings().to_state(), **changed,
    }  # fmt: skip


def picture(*services: dict[str, Any], **known: Any) -> Picture:
    totals = {
        "live": 3, "max_connections": 1000, "accepted": 100, "served": 90,
        "refused": {"rate": 7, "denied": 9}, "failed": {"ENOENT": 2},
    }  # fmt: skip
    status = {
        "version": "0.1.0", "uptime": 61.0, "generation": 3, "denied": 1, "services": list(services),
        "totals": totals,
    }  # fmt: skip
    return Picture(status, **known)


def test_eighty_columns() -> None:
    shown = picture(
        service("smtp", live=40, state="full", waiting=7, refused={"rate": 7}, accepted=120),
        service("pop3"),
        sessions=[{"remote": f"192.0.2.{n % 2}:{n}"} for n in range(5)],
        events=["12:00:00 info connection_served"],
        accepted_before={"smtp": 100, "pop3": 100},
        seconds=2.0,
    )
    lines = screen(shown, View(selected="pop3"), 80, 24)
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert lines[0] == "ucspid 0.1.0  up 1m 1s  generation 3  sorted by name"
    assert lines[1] == "3 of 1000 live  10.0/s  100 accepted  90 served  2 failed  1 denied"
    assert lines[2] == "refused: 9 denied, 7 rate"
    assert lines[5].split() == [[">", "pop3"][0], "pop3", "listening", "3/40", "#.........", "0", "0.0", "0"]
    assert lines[6].split() == ["smtp", "full", "40/40", "##########", "7", "10.0", "7"]
    assert "CLIENTS  2, the busiest: 192.0.2.0 (3)  192.0.2.1 (2)" in lines
    assert lines[lines.index("EVENTS") + 1] == "12:00:00 info connection_served"
    assert lines[-1].startswith("q quit")


def test_a_wide_terminal_shows_more() -> None:
    timings = Timings()
    timings.started(0.0, 0.0001, 0.002)
    timings.served(3.0, (1_000_000, 500_000, 1))
    (header, row) = screen(picture(service("smtp", timings=timings.to_state())), View(), 160, 30)[4:6]
    assert header.split()[-5:] == ["95%", "SESSION", "50%", "CPU"][-4:] or "CPU" in header
    assert row.split()[-1] == "1.5s"
    assert row.split()[-4].endswith("ms")


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("name", ["a", "b", "c"]),
        ("live", ["c", "a", "b"]),
        ("rate", ["b", "a", "c"]),
        ("refused", ["a", "b", "c"]),
        ("waiting", ["b", "a", "c"]),
    ],
)
def test_orders(sort: str, names: list[str]) -> None:
    shown = picture(
        service("a", refused={"rate": 5}),
        service("b", accepted=200, waiting=3),
        service("c", live=9),
        accepted_before={"a": 100, "b": 100, "c": 100},
        seconds=1.0,
    )
    assert [item["name"] for item in shown.services(View(sort=sort))] == names


def test_a_filter_and_the_selected_one_among_many() -> None:
    many = picture(*(service(f"s{number:03}") for number in range(200)))
    assert [item["name"] for item in many.services(View(filter="s19"))] == [f"s{n}" for n in range(190, 200)]
    lines = screen(many, View(selected="s150"), 80, 24)
    assert any(line.startswith("> s150") for line in lines)


def test_moving_stays_within_the_list() -> None:
    names = ["a", "b", "c"]
    assert moved(names, "a", 1) == "b"
    assert moved(names, "c", 1) == "c"
    assert moved(names, "a", -1) == "a"
    assert moved(names, "gone", 1) == "a"
    assert moved([], "a", 1) == ""


@given(
    width=st.integers(1, 250),
    height=st.integers(1, 80),
    count=st.integers(0, 60),
    sort=st.sampled_from(sorted(SORTS)),
    events=st.lists(st.text(max_size=300), max_size=40),
)
def test_it_never_grows_beyond_the_terminal(
    width: int, height: int, count: int, sort: str, events: list[str]
) -> None:
    shown = picture(
        *(service(f"{number}-{'x' * 30}", live=10**6, accepted=10**9) for number in range(count)),
        sessions=[{"remote": f"[2001:db8::{n:x}]:{n}"} for n in range(count)],
        events=events,
    )
    lines = screen(shown, View(sort=sort, message="m" * 300), width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
