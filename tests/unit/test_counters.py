"""The counts in memory that outlives a loop: the next loop goes on from it, wherever one stops."""

import contextlib
import errno
import os
import struct
from collections import Counter
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import plans
from tiers import examples
from ucspid.admission import stage
from ucspid.errors import ResourceError
from ucspid.ipc import counters
from ucspid.ipc.counters import (
    ACCEPTED,
    DESCRIPTORS,
    ENDS,
    FAILED,
    LOOP_DIED,
    MAX_COLUMNS,
    MAX_ERRNO_COLUMNS,
    NAMES,
    OTHER,
    OUTCOMES,
    REFUSALS,
    REFUSED,
    ROWS,
    SERVED,
    SIZE,
    Counters,
    check,
    failed_column,
)
from ucspid.limits import Refusal
from ucspid.linux.memfd import sealed_memory
from ucspid.master.acquired import Acquired
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.programs import HeldProgram
from ucspid.plan import LauncherKey, LauncherKind
from ucspid.policy import outcome
from ucspid.rules.rule import RuleRefusal


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
    ours = {*get_args(RuleRefusal), stage.NO_RULES, stage.CLOSED, stage.BUG, stage.TIMED_OUT}
    ours |= {stage.NOT_PROXIED, stage.PROXY_HEADER, stage.HEALTH_CHECK, stage.BANNED, stage.TLS_FAILED}
    assert set(REFUSALS) == {refusal.value for refusal in Refusal} | ours
    assert set(REFUSED) == set(REFUSALS)
    assert set(SERVED) == set(OUTCOMES) == set(outcome.OUTCOMES)
    assert len(set(NAMES)) == len(NAMES) <= MAX_ERRNO_COLUMNS


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (errno.ENOENT, "ENOENT"), (errno.EOWNERDEAD, "EOWNERDEAD"), (1, "EPERM"),
        (0, OTHER), (-1, OTHER), (134, OTHER), (-(1 << 31), OTHER),
    ],
)  # fmt: skip
def test_a_failure_is_counted_by_its_errno(memory: int, reason: int, name: str) -> None:
    counted = Counters(memory)
    counted.row(3).add(failed_column(reason))
    assert counted.read(3).failed == {name: 1}


def test_the_next_loop_goes_on_where_the_last_one_stopped(memory: int) -> None:
    row = Counters(memory).row(7)
    row.add(ACCEPTED, 5)
    row.add(SERVED["ok"], 2)
    row.add(REFUSED["full"])
    row.add(FAILED[DESCRIPTORS])
    after = Counters(memory)
    after.row(7).add(SERVED["ok"])
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
    assert blocks(memory) == before == 2  # the names
    for row in rows:
        row.add(ACCEPTED)
    assert blocks(memory) < 300
    assert list(counted.used()) == list(range(1, 1000))


def test_the_last_row_is_in_the_memory_and_none_is_beyond(memory: int) -> None:
    counted = Counters(memory)
    counted.row(ROWS - 1).add(FAILED[OTHER])
    assert list(counted.used()) == [ROWS - 1]
    assert counted.read(ROWS - 1).failed.total() == 1
    for number in (-1, ROWS):
        with pytest.raises(IndexError):
            counted.row(number)


def test_what_was_lost_is_counted_as_failed(memory: int) -> None:
    counted = Counters(memory)
    counted.row(1).add(ACCEPTED, 5)
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
        before.count_out(row, SERVED["ok"], connection)
    after = Counters(memory)
    assert all(after.counted_out(connection) for connection in range(1, ENDS + 1))
    assert not after.counted_out(ENDS + 1)
    after.count_out(row, SERVED["ok"], ENDS + 1)
    assert (after.counted_out(1), after.counted_out(ENDS + 1)) == (False, True)


def test_what_no_loop_can_have_counted_is_cleared(memory: int) -> None:
    hostile = Counters(memory)
    hostile.row(1).add(SERVED["ok"], (1 << 64) - 1)
    hostile.row(2).add(ACCEPTED, 5)
    for name in NAMES:
        hostile.row(3).add(name, (1 << 48) - 1)
    after = Counters(memory)
    after.row(1).add(SERVED["ok"])
    assert (after.read(1).served, after.read(2).accepted) == (1, 5)
    assert after.settle(3, 0) < 0
    assert after.read(3).open == 0


def test_programs_are_counted_by_how_they_end_and_all_of_them_are_served(memory: int) -> None:
    counted = Counters(memory)
    row = counted.row(1)
    row.add(ACCEPTED, 6)
    for connection, how in enumerate(["ok", "ok", "nonzero", "signal", "ended", "unknown"], 1):
        counted.count_out(row, SERVED[how], connection)
    counts = counted.read(1)
    assert counts.ended == {"ok": 2, "nonzero": 1, "signal": 1, "ended": 1, "unknown": 1}
    assert (counts.served, counts.open) == (6, 0)


def code_of(monkeypatch: pytest.MonkeyPatch, *reasons: str) -> None:
    """Have the code be of a version that knows these reasons of refusals."""
    refused = {reason: f"refused.{reason}" for reason in reasons}
    monkeypatch.setattr(counters, "REFUSED", refused)
    names = (ACCEPTED, *SERVED.values(), *refused.values(), *FAILED.values())
    monkeypatch.setattr(counters, "NAMES", names)


def test_a_version_with_other_reasons_goes_on_with_the_counts(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Counters(memory)
    before.row(1).add(ACCEPTED, 9)
    before.row(1).add(REFUSED["full"], 2)
    before.row(1).add(failed_column(errno.ENOENT), 3)
    code_of(monkeypatch, "new", *REFUSALS, "newer")
    check(memory)
    new = Counters(memory)
    new.row(1).add("refused.new")
    new.row(1).add("refused.newer")
    counts = new.read(1)
    assert (counts.accepted, counts.refused, counts.failed, counts.open) == (
        9, {"full": 2, "new": 1, "newer": 1}, {"ENOENT": 3}, 2,
    )  # fmt: skip
    assert not new.cleared
    code_of(monkeypatch, "rate")
    check(memory)
    old = Counters(memory)
    old.row(1).add(failed_column(errno.EACCES))
    assert old.read(1).refused == {"full": 2, "new": 1, "newer": 1}
    assert old.read(1).failed == {"ENOENT": 3, "EACCES": 1}
    assert old.read(1).open == 1


def test_errnos_leave_room_for_the_reasons_of_another_version(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counters(memory)
    for number in errno.errorcode:
        counted.row(1).add(failed_column(number))
    counts = Counters(memory).read(1)
    assert counts.failed.total() == len(errno.errorcode)
    assert counts.failed[OTHER] == len(errno.errorcode) - (MAX_ERRNO_COLUMNS - len(NAMES))
    room = MAX_COLUMNS - MAX_ERRNO_COLUMNS
    code_of(monkeypatch, *REFUSALS, *(f"new{number}" for number in range(room)))
    check(memory)
    assert Counters(memory).read(1).failed == counts.failed
    code_of(monkeypatch, *REFUSALS, *(f"another{number}" for number in range(room)))
    with pytest.raises(ResourceError, match=r"needs a restart: .* no room"):
        check(memory)


def test_a_check_changes_nothing(memory: int) -> None:
    check(memory)
    assert blocks(memory) == 0


@pytest.mark.parametrize(
    ("place", "data"),
    [
        (0, b"ucspid\0\x02"[::-1]), (0, b"\xff" * 8), (8, b"\xff" * 8), (8, struct.pack("=Q", 100)),
        (4096, b"accepted!"), (4096, b"served.ok\0"), (4096, b"\xff" * 32), (4096, bytes(32)),
        (4096 + 32, b"served.%s\0" % (b"x" * 23)),
    ],
)  # fmt: skip
def test_where_the_names_make_no_sense_all_begins_anew(memory: int, place: int, data: bytes) -> None:
    hostile = Counters(memory)
    hostile.row(1).add(ACCEPTED, 5)
    hostile.row(ROWS - 1).add(SERVED["ok"], 5)
    os.pwrite(memory, data, place)
    after = Counters(memory)
    assert after.cleared
    assert list(after.used()) == []
    after.row(1).add(ACCEPTED)
    assert Counters(memory).read(1).accepted == 1
    assert not Counters(memory).cleared


def test_memory_of_another_version_of_the_layout_is_found_out_before_it_is_used(memory: int) -> None:
    Counters(memory)
    os.pwrite(memory, b"\x02", 0)
    with pytest.raises(ResourceError, match="needs a restart: it knows version 1 of the counts"):
        check(memory)
    smaller = sealed_memory("counters", SIZE - 4096)
    try:
        with pytest.raises(ResourceError, match=r"needs a restart: .* another size"):
            check(smaller)
    finally:
        os.close(smaller)


def test_a_loop_that_is_killed_while_it_names_columns_leaves_those_before(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Counters(memory).row(1).add(REFUSED["full"])
    name = struct.Struct("=32s")
    os.pwrite(memory, name.pack(b"refused.half writ"), 4096 + len(NAMES) * name.size)
    code_of(monkeypatch, *REFUSALS, "new")
    after = Counters(memory)
    after.row(1).add("refused.new")
    assert Counters(memory).read(1).refused == {"full": 1, "new": 1}


def test_a_plan_with_more_services_than_there_are_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "ROWS", 3)
    held = Holdings()
    try:
        assert [held.number(name) for name in ("a", "b", "a")] == [1, 2, 1]
        with pytest.raises(ResourceError, match="more than 2 names of services"):
            held.acquire(plans.plan(plans.service("c")), Acquired(), never)
    finally:
        held.close()


def never(
    _key: LauncherKey, _programs: list[HeldProgram], _names: str, _kind: LauncherKind
) -> ProfileLaunchers:
    raise AssertionError


class KilledError(Exception):
    """Stands for a row: where it would be counted in, the loop is killed."""

    def add(self, _name: str) -> None:
        raise self


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
        self.counters.row(number).add(ACCEPTED)

    @rule(number=number)
    def begins(self, number: int) -> None:
        self._accept(number)
        self.connection += 1
        self.live[number].add(self.connection)

    @rule(number=number, reason=st.sampled_from(REFUSALS))
    def is_refused(self, number: int, reason: str) -> None:
        self._accept(number)
        self.counters.row(number).add(REFUSED[reason])
        self.ended[number] += 1

    @rule(number=number, reason=st.none() | st.integers(-1, 200))
    def ends(self, number: int, reason: int | None) -> None:
        if self.live[number]:
            connection = self.live[number].pop()
            column = SERVED["ok"] if reason is None else failed_column(reason)
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
                with contextlib.suppress(KilledError):
                    self.counters.count_out(KilledError(), ACCEPTED, connection)  # type: ignore[arg-type]
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


Loops.TestCase.settings = hypothesis_settings(
    max_examples=examples(60), stateful_step_count=30, deadline=None
)
TestLoops = Loops.TestCase
