"""The table against a dictionary, through any number of processes that map it."""

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tiers import examples
from ucspid.ipc.messages import TAG_SIZE
from ucspid.ipc.session_table import CAPACITY, SIZE, Table

Row = tuple[int, int, int, bytes]


def memory() -> int:
    descriptor = os.memfd_create("table")
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Tables(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.descriptor = memory()
        self.table = Table(self.descriptor)
        self.rows: dict[int, Row] = {}

    @rule(
        connection=st.integers(1, 2**64 - 1),
        service=st.integers(0, 2**32 - 1),
        tag=st.binary(min_size=TAG_SIZE, max_size=TAG_SIZE),
    )
    def claim(self, connection: int, service: int, tag: bytes) -> None:
        slot = self.table.claim(connection, service, tag)
        assert slot not in self.rows
        assert slot <= len(self.rows) + 50
        self.rows[slot] = connection, 0, service, tag

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), process=st.integers(1, 2**22))
    def start(self, data: st.DataObject, process: int) -> None:
        slot = data.draw(st.sampled_from(sorted(self.rows)))
        self.table.started(slot, process)
        connection, _, service, tag = self.rows[slot]
        self.rows[slot] = connection, process, service, tag

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.rows)))
        self.table.release(slot)
        del self.rows[slot]

    @rule()
    def take_over(self) -> None:
        self.table = Table(self.descriptor)

    @invariant()
    def holds_what_the_dictionary_holds(self) -> None:
        assert {slot: self.table.read(slot) for slot in self.table.taken()} == self.rows

    def teardown(self) -> None:
        os.close(self.descriptor)


TestTables = Tables.TestCase
TestTables.settings = settings(max_examples=examples(15), stateful_step_count=20, deadline=None)


def test_a_table_is_full_at_its_capacity_and_a_slot_released_is_the_next_taken() -> None:
    descriptor = memory()
    table = Table(descriptor)
    for connection in range(1, CAPACITY + 1):
        table.claim(connection, 1, b"")
    with pytest.raises(OverflowError):
        table.claim(CAPACITY + 1, 1, b"")
    table.release(77)
    assert table.claim(CAPACITY + 1, 1, b"") == 77
    os.close(descriptor)


def test_free_slots_below_used_ones_are_used_by_a_successor() -> None:
    descriptor = memory()
    table = Table(descriptor)
    slots = [table.claim(number, 1, b"") for number in (1, 2, 3)]
    table.release(slots[0])
    assert Table(descriptor).claim(4, 1, b"") == slots[0]
    os.close(descriptor)
