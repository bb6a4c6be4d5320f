"""The counts in memory that outlives a loop: what a loop leaves, wherever it stops, the next goes on from."""

import errno
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import plans
from ucspid.admission import pipeline
from ucspid.errors import ResourceError
from ucspid.ipc import counters
from ucspid.ipc.counters import (
    ACCEPTED,
    DESCRIPTORS,
    ENDS,
    FAILED,
    LOOP_DIED,
    OTHER,
    REFUSALS,
    REFUSED,
    ROWS,
    SERVED,
    SIZE,
    Counters,
    failed_column,
)
from ucspid.limits import Refusal
from ucspid.linux.memfd import sealed_memory
from ucspid.master.holdings import Acquired, Holdings
from ucspid.master.launchers import ProfileLaunchers, Program
from ucspid.plan import Profile


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = sealed_memory("counters", SIZE)
    yield descriptor
    os.close(descriptor)


def blocks(memory: int) -> int:
    """Return how much of the memory was ever touched, in pages of 4 KiB."""
    return os.fstat(memory).st_blocks // 8


def test_a_new_memory_counts_nothing(memory: int) -> None:
    counted = Counters(memory)
    assert list(counted.used()) == []
    counts = counted.read(1)
    assert (counts.accepted, counts.served, counts.refused, counts.failed, counts.open) == (0, 0, {}, {}, 0)


def test_every_reason_of_a_refusal_has_its_column() -> None:
    ours = {pipeline.DENIED, pipeline.NO_RULES, pipeline.CLOSED, pipeline.BUG}
    assert set(REFUSALS) == {refusal.value for refusal in Refusal} | ours
    columns = [ACCEPTED, SERVED, *REFUSED.values(), *FAILED.values()]
    assert columns == list(range(len(columns)))


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (errno.ENOENT, "ENOENT"), (errno.EOWNERDEAD, "EOWNERDEAD"), (1, "EPERM"),
        (0, OTHER), (-1, OTHER), (133, errno.errorcode.get(133, "133")), (134, OTHER), (-(1 << 31), OTHER),
    ],
)  # fmt: skip
def test_a_failure_is_counted_by_its_errno(memory: int, reason: int, name: str) -> None:
    counted = Counters(memory)
    counted.row(3)[failed_column(reason)] += 1
    assert counted.read(3).failed == {name: 1}


def test_the_next_loop_goes_on_where_the_last_one_stopped(memory: int) -> None:
    row = Counters(memory).row(7)
    row[ACCEPTED] += 5
    row[SERVED] += 2
    row[REFUSED["full"]] += 1
    row[FAILED[DESCRIPTORS]] += 1
    after = Counters(memory)
    after.row(7)[SERVED] += 1
    counts = after.read(7)
    assert (counts.accepted, counts.served, counts.refused, counts.failed) == (
        5, 3, {"full": 1}, {"descriptors": 1},
    )  # fmt: skip
    assert counts.open == 0
    assert list(after.used()) == [7]


def test_services_without_connections_cost_no_memory_to_be_read(memory: int) -> None:
    counted = Counters(memory)
    rows = [counted.row(number) for number in range(1, 1000)]
    before = blocks(memory)
    assert all(counted.read(number).accepted == 0 for number in range(1, 1000))
    assert list(counted.used()) == []
    assert blocks(memory) == before == 0
    for row in rows:
        row[ACCEPTED] += 1
    assert blocks(memory) < 300
    assert list(counted.used()) == list(range(1, 1000))


def test_the_last_row_is_in_the_memory_and_none_is_beyond(memory: int) -> None:
    counted = Counters(memory)
    counted.row(ROWS - 1)[-1] += 1
    assert list(counted.used()) == [ROWS - 1]
    assert counted.read(ROWS - 1).failed.total() == 1
    for number in (-1, ROWS):
        with pytest.raises(IndexError):
            counted.row(number)


def test_what_was_lost_is_counted_as_failed(memory: int) -> None:
    counted = Counters(memory)
    counted.row(1)[ACCEPTED] += 5
    assert counted.settle(1, 3) == 2
    assert counted.read(1).failed == {LOOP_DIED: 2}
    assert counted.settle(1, 3) == 0


def test_what_nobody_has_counted_is_counted_as_accepted(memory: int) -> None:
    counted = Counters(memory)
    assert counted.settle(1, 3) == -3
    assert counted.read(1).accepted == 3
    assert counted.read(1).open == 3


def test_a_session_that_was_counted_out_is_known_until_its_place_is_needed(memory: int) -> None:
    before = Counters(memory)
    row = before.row(1)
    for connection in range(1, ENDS + 1):
        before.count_out(row, SERVED, connection)
    after = Counters(memory)
    assert all(after.counted_out(connection) for connection in range(1, ENDS + 1))
    assert not after.counted_out(ENDS + 1)
    after.count_out(row, SERVED, ENDS + 1)
    assert (after.counted_out(1), after.counted_out(ENDS + 1)) == (False, True)


def test_what_no_loop_can_have_counted_is_cleared(memory: int) -> None:
    hostile = Counters(memory)
    hostile.row(1)[SERVED] = (1 << 64) - 1
    hostile.row(2)[ACCEPTED] = 5
    hostile.row(3)[:] = memoryview(b"\xff\xff\xff\xff\xff\xff\0\0" * len(hostile.row(3))).cast("Q")
    after = Counters(memory)
    after.row(1)[SERVED] += 1
    assert (after.read(1).served, after.read(2).accepted) == (1, 5)
    assert after.settle(3, 0) < 0
    assert after.read(3).open == 0


def test_a_plan_with_more_services_than_there_are_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "ROWS", 3)
    held = Holdings()
    try:
        assert [held.number(name) for name in ("a", "b", "a")] == [1, 2, 1]
        with pytest.raises(ResourceError, match="more than 2 names of services"):
            held.acquire(plans.plan(plans.service("c")), Acquired(), never)
    finally:
        os.close(held.counters)
        os.close(held._null)


def never(_profile: Profile, _programs: list[Program], _names: str) -> ProfileLaunchers:
    raise AssertionError


class Loops(RuleBasedStateMachine):
    """Loops that follow each other, each killed between two stores, and a model that knows all."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = sealed_memory("counters", SIZE)
        self.counters = Counters(self.memory)
        self.connection = 0
        self.accepted: Counter[int] = Counter()
        self.live: dict[int, set[int]] = {1: set(), 2: set()}
        """Sessions at launchers."""
        self.ended: Counter[int] = Counter()
        self.noted: list[int] = []

    number = st.sampled_from([1, 2])

    def _accept(self, number: int) -> None:
        self.accepted[number] += 1
        self.counters.row(number)[ACCEPTED] += 1

    @rule(number=number)
    def begins(self, number: int) -> None:
        self._accept(number)
        self.connection += 1
        self.live[number].add(self.connection)

    @rule(number=number, reason=st.sampled_from(REFUSALS))
    def is_refused(self, number: int, reason: str) -> None:
        self._accept(number)
        self.counters.row(number)[REFUSED[reason]] += 1
        self.ended[number] += 1

    @rule(number=number, reason=st.none() | st.integers(-1, 200))
    def ends(self, number: int, reason: int | None) -> None:
        if self.live[number]:
            connection = self.live[number].pop()
            column = SERVED if reason is None else failed_column(reason)
            self.counters.count_out(self.counters.row(number), column, connection)
            self.noted.append(connection)
            self.ended[number] += 1

    @rule(number=number, way=st.sampled_from(["idle", "accepted", "report read", "end noted"]))
    def is_killed(self, number: int, way: str) -> None:
        """Kill it while it does something; what launchers may report again must be known."""
        lost = 0
        if way == "accepted":
            self._accept(number)
            lost = 1
        elif way != "idle" and self.live[number]:
            connection = self.live[number].pop()
            if way == "end noted":
                self.counters.count_out(memoryview(bytearray(8)).cast("Q"), 0, connection)
                self.noted.append(connection)
            lost = 1
        self.counters = Counters(self.memory)
        assert all(self.counters.counted_out(connection) for connection in self.noted)
        live = set.union(*self.live.values())
        assert not any(self.counters.counted_out(connection) for connection in live)
        assert self.counters.settle(number, len(self.live[number])) == lost
        self.ended[number] += lost

    @invariant()
    def the_books_are_right(self) -> None:
        for number in (1, 2):
            counts = self.counters.read(number)
            assert counts.accepted == self.accepted[number]
            assert counts.served + counts.refused.total() + counts.failed.total() == self.ended[number]
            assert counts.open == len(self.live[number])

    def teardown(self) -> None:
        os.close(self.memory)


Loops.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLoops = Loops.TestCase
