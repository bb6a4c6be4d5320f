"""The messages: each has a kind of its own, fits a packet, and a head that is not one is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.codec import Packed
from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.profile import Profile

MESSAGES = [
    value
    for value in vars(wire).values()
    if isinstance(value, type) and issubclass(value, Packed) and value.KIND
]
KINDS = [
    *(wire.STARTED, wire.FAILED, wire.EXITED, wire.RUNNING, wire.LISTED, wire.HELLO),
    *(message.KIND for message in MESSAGES),
    *(wire.NOTE_TAKEN, wire.NOTE_SETTLED, wire.NOTE_MORE, wire.NOTE_BROKEN),
    *(wire.NOTE_RELOAD, wire.NOTE_READY, wire.NOTE_UPGRADE),
]


def test_every_kind_is_a_byte_of_its_own() -> None:
    assert len(MESSAGES) == 27
    assert len(set(KINDS)) == len(KINDS)
    assert all(0 < kind < 256 for kind in KINDS)


def test_a_full_packet_of_reports_fits() -> None:
    assert 256 * wire.Report.SIZE <= wire.MAX_PACKET


@given(st.binary())
def test_orders_of_another_version_are_refused_whatever_is_in_them(rest: bytes) -> None:
    sent = wire.TakePrivileges(wire.VERSION, None, "title", Profile()).pack()
    assert wire.TakePrivileges.of_this_version(sent).title == "title"
    version = (wire.VERSION + 1).to_bytes(4, "little")
    with pytest.raises(WireError, match="speaks version 1, the daemon version 2"):
        wire.TakePrivileges.of_this_version(sent[:4] + version + rest)


@pytest.mark.parametrize("count", [0, 1, 8192, 8193, 65536])
def test_numbers_of_any_number_go_in_packets_that_fit(count: int) -> None:
    chunks = list(wire.chunks_of_numbers(range(count)))
    assert [number for chunk in chunks for number in chunk] == list(range(count))
    assert all(len(wire.Orphans(chunk).pack()) <= wire.MAX_PACKET // 2 for chunk in chunks)


@given(st.lists(st.binary(max_size=4000).map(lambda name: 8 * name), max_size=40))
def test_names_of_any_number_go_in_packets_that_fit(names: list[bytes]) -> None:
    chunks = list(wire.chunks_of_names(names))
    assert [name for chunk in chunks for name in chunk] == sorted(names)
    assert all(len(wire.AllowNames(1, chunk).pack()) <= wire.MAX_PACKET for chunk in chunks)
