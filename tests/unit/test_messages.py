"""The messages: what is packed is read back, and anything else is refused as WireError."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.orders import Orders

LAYOUTS = [
    wire.START_HEAD,
    wire.SIGNAL_HEAD,
    wire.LIST_HEAD,
    wire.REPORT,
    wire.PEER_HEAD,
    wire.ORPHAN_HEAD,
    wire.SIGNAL_ORPHAN_HEAD,
    wire.NOTE_HEAD,
]
KINDS = [
    *(wire.START, wire.SIGNAL, wire.LIST, wire.LEAVE),
    *(wire.STARTED, wire.FAILED, wire.EXITED, wire.RUNNING, wire.LISTED, wire.HELLO),
    *(wire.PRIVILEGES, wire.SERVICE, wire.ORPHAN_EXIT),
    *(wire.READY, wire.REFUSED, wire.SIGNAL_ORPHAN),
    *(wire.NOTE_TAKEN, wire.NOTE_MORE, wire.NOTE_BROKEN, wire.NOTE_RELOAD, wire.NOTE_READY),
]

numbers = st.none() | st.integers(-20, 2**31)
paths = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(
    "/".__add__
)
profiles = st.fixed_dictionaries(
    {
        "uid": numbers,
        "gid": numbers,
        "umask": numbers,
        "nice": numbers,
        "cwd": paths,
        "root": paths,
        "groups": st.none() | st.lists(st.integers(0, 2**32 - 1)),
        "rlimits": st.lists(st.tuples(st.sampled_from(["cpu", "nofile"]), st.none() | st.integers(0, 2**63))),
    }
)
orders = st.builds(
    Orders,
    st.text(st.characters(exclude_categories=["Cs"])),
    no_new_privs=st.booleans(),
    nofile=st.integers(-1, 2**31),
    orphans=st.sets(st.integers(1, 2**22)),
    profile=profiles,
)


def test_every_kind_is_a_byte_of_its_own() -> None:
    assert len(set(KINDS)) == len(KINDS)
    assert all(0 < kind < 256 for kind in KINDS)


def test_a_full_packet_of_reports_fits() -> None:
    assert 256 * wire.REPORT.size <= wire.MAX_PACKET


@given(st.sampled_from(LAYOUTS), st.binary(max_size=200), st.booleans())
def test_a_head_is_read_or_refused(layout: struct.Struct, packet: bytes, exact: bool) -> None:
    right = len(packet) == layout.size if exact else len(packet) >= layout.size
    if right:
        assert len(wire.unpack(layout, packet, exact=exact)) == len(layout.unpack(packet[: layout.size]))
    else:
        with pytest.raises(WireError):
            wire.unpack(layout, packet, exact=exact)


@given(st.lists(st.lists(st.binary())), st.binary())
def test_strings_are_read_back(lists: list[list[bytes]], head: bytes) -> None:
    reader = wire.Reader(head + b"".join(map(wire.pack_strings, lists)), len(head))
    assert [reader.strings() for _ in lists] == lists
    reader.end()


@given(st.lists(st.binary(max_size=20), max_size=5), st.data())
def test_strings_cut_short_or_with_more_behind_are_refused(items: list[bytes], data: st.DataObject) -> None:
    packed = wire.pack_strings(items)
    with pytest.raises(WireError):
        wire.Reader(packed[: data.draw(st.integers(0, len(packed) - 1))], 0).strings()
    reader = wire.Reader(packed + data.draw(st.binary(min_size=1)), 0)
    assert reader.strings() == items
    with pytest.raises(WireError):
        reader.end()


@given(st.binary(), st.integers(0, 20))
def test_strings_of_any_bytes_are_what_they_say_or_refused(data: bytes, start: int) -> None:
    reader = wire.Reader(data, start)
    with contextlib.suppress(WireError):
        assert data[start:].startswith(wire.pack_strings(reader.strings()))


@given(orders)
def test_orders_are_read_back(sent: Orders) -> None:
    got = Orders.unpack(sent.pack())
    assert (got.title, got.no_new_privs, got.nofile) == (sent.title, sent.no_new_privs, sent.nofile)
    assert (got.orphans, got.profile) == (sent.orphans, sent.profile)


@given(st.binary())
def test_orders_of_any_bytes_are_refused(packet: bytes) -> None:
    for garbage in (packet, wire.PEER_HEAD.pack(wire.PRIVILEGES, wire.VERSION) + packet):
        with pytest.raises(WireError):
            Orders.unpack(garbage)


@given(
    st.lists(st.binary(max_size=4), min_size=10, max_size=10),
    *2 * [st.lists(st.binary(max_size=9), max_size=3)],
)
def test_orders_of_any_fields_are_values_or_refused(
    fields: list[bytes], limits: list[bytes], orphans: list[bytes]
) -> None:
    strings = b"".join(map(wire.pack_strings, (fields, limits, orphans)))
    with contextlib.suppress(WireError):
        Orders.unpack(wire.PEER_HEAD.pack(wire.PRIVILEGES, wire.VERSION) + strings)


@given(orders)
def test_orders_of_another_version_are_refused(sent: Orders) -> None:
    packet = wire.PEER_HEAD.pack(wire.PRIVILEGES, wire.VERSION + 1) + sent.pack()[wire.PEER_HEAD.size :]
    with pytest.raises(WireError, match="version 2"):
        Orders.unpack(packet)
