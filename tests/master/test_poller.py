"""The master's poller, on real descriptors and real (short) times."""

import os
from collections.abc import Iterator

import pytest

from ucspid.master import poller as poller_module
from ucspid.master.poller import Poller

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_readable_descriptor_is_called_back_until_it_is_read(pipe: Pipe) -> None:
    poller, calls = Poller(), []
    poller.watch(pipe[0], lambda: calls.append("read"))
    os.write(pipe[1], b"x")
    poller.run_once()
    poller.run_once()
    assert calls == ["read", "read"]


def test_watching_again_replaces_the_callback(pipe: Pipe) -> None:
    poller, calls = Poller(), []
    poller.watch(pipe[0], lambda: calls.append("old"))
    poller.watch(pipe[0], lambda: calls.append("new"))
    os.write(pipe[1], b"x")
    poller.run_once()
    assert calls == ["new"]


def test_writing_is_waited_for_only_when_asked(pipe: Pipe) -> None:
    poller, calls = Poller(), []
    poller.watch(pipe[1], lambda: calls.append("writable"))
    poller.call_in(0.0, lambda: None)
    poller.run_once()
    assert calls == []
    poller.watch(pipe[1], lambda: calls.append("writable"), write=True)
    poller.run_once()
    assert calls == ["writable"]


def test_a_forgotten_descriptor_is_not_called_back(pipe: Pipe) -> None:
    poller, calls = Poller(), []
    poller.watch(pipe[0], lambda: calls.append("read"))
    os.write(pipe[1], b"x")
    poller.forget(pipe[0])
    poller.call_in(0.0, lambda: calls.append("time"))
    poller.run_once()
    assert calls == ["time"]


def test_one_forgotten_by_another_in_the_same_round_is_not_called_back() -> None:
    poller = Poller()
    calls: list[int] = []
    pipes = dict(os.pipe() for _ in range(2))

    def called(reading: int) -> None:
        calls.append(reading)
        for other in pipes.keys() - {reading}:
            poller.forget(other)

    for reading, writing in pipes.items():
        poller.watch(reading, lambda reading=reading: called(reading))  # type: ignore[misc]
        os.write(writing, b"x")
    poller.run_once()
    assert len(calls) == 1
    for descriptor in (*pipes, *pipes.values()):
        os.close(descriptor)


def test_timers_fire_in_the_order_of_their_times_and_once() -> None:
    poller = Poller()
    calls: list[str] = []
    poller.call_in(0.002, lambda: calls.append("later"))
    poller.call_in(0.001, lambda: calls.append("sooner"))
    poller.call_in(0.001, lambda: calls.append("next"))
    while len(calls) < 3:
        poller.run_once()
    poller.call_in(0.0, lambda: calls.append("end"))
    poller.run_once()
    assert calls == ["sooner", "next", "later", "end"]


def test_a_cancelled_timer_neither_fires_nor_wakes() -> None:
    poller = Poller()
    calls: list[str] = []
    timer = poller.call_in(0.0, lambda: calls.append("cancelled"))
    timer.cancel()
    poller.call_in(0.005, lambda: calls.append("fired"))
    poller.run_once()
    assert calls == ["fired"]


def test_a_timer_may_set_a_timer() -> None:
    poller = Poller()
    calls: list[str] = []

    def first() -> None:
        poller.call_in(0.0, lambda: calls.append("second"))

    poller.call_in(0.0, first)
    while not calls:
        poller.run_once()
    assert calls == ["second"]


def test_what_was_reported_for_one_does_not_reach_the_next_owner_of_its_number() -> None:
    poller = Poller()
    calls: list[str] = []
    first, second = os.pipe(), os.pipe()
    (low, _), (high, _) = first, second

    def replaced() -> None:
        """Forget and close the other one, and have something else under its number."""
        calls.append("first")
        for reading in (low, high):
            poller.forget(reading)
        for reading in (low, high):
            os.dup2(quiet[0], reading)
            poller.watch(reading, lambda: calls.append("stale"))

    quiet = os.pipe()
    for reading, writing in (first, second):
        poller.watch(reading, replaced)
        os.write(writing, b"x")
    poller.run_once()
    poller.call_in(0.0, lambda: calls.append("end"))
    poller.run_once()
    assert calls == ["first", "end"]
    for descriptor in (*first, *second, *quiet):
        os.close(descriptor)


def test_what_a_callback_raises_is_reported_and_ends_nothing(pipe: Pipe) -> None:
    problems: list[Exception] = []
    poller = Poller(problems.append)
    calls: list[str] = []

    def fail() -> None:
        raise ValueError(len(calls))

    poller.watch(pipe[0], fail)
    os.write(pipe[1], b"x")
    poller.run_once()
    poller.call_in(0.0, fail)
    poller.call_in(0.0, lambda: calls.append("timer"))
    poller.run_once()
    assert [type(problem) for problem in problems] == [ValueError, ValueError]
    assert calls == ["timer"]


def test_a_callback_that_always_fails_is_paused_and_called_again(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "PAUSE", 0.01)
    problems: list[Exception] = []
    poller = Poller(problems.append)

    def fail() -> None:
        raise OSError

    poller.watch(pipe[0], fail)
    os.write(pipe[1], b"x")
    poller.run_once()
    poller.watch(pipe[0], fail)
    poller.call_in(0.0, lambda: None)
    poller.run_once()
    assert len(problems) == 1
    while len(problems) < 2:
        poller.run_once()
    poller.forget(pipe[0])
    poller.call_in(0.02, lambda: problems.append(ValueError()))
    while len(problems) < 3:
        poller.run_once()
    assert isinstance(problems[2], ValueError)


def test_a_timer_may_be_years_away(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    poller, calls = Poller(), []
    poller.watch(pipe[0], lambda: calls.append("read"))
    poller.call_in(10 * 365 * 86400.0, lambda: calls.append("years"))
    os.write(pipe[1], b"x")
    poller.run_once()
    assert calls == ["read"]
    os.read(pipe[0], 1)
    monkeypatch.setattr(poller_module, "MAX_SLEEP", 0.0)
    poller.run_once()  # it may look in between
    assert calls == ["read"]
