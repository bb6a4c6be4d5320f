"""Whom operators deny: the table that connections meet, and the memory that outlives the event loop."""

import ipaddress
import math
import os
import struct
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.ipc import ban_memory
from ucspid.ipc.ban_memory import MAX_BANS, SIZE, BanMemory, StoredBan
from ucspid.linux.memfd import sealed_memory
from ucspid.net.address import Network, pack_network, parse_network
from ucspid.net.client import deniable
from ucspid.net.unix import UnixClient, UnixUser
from ucspid.policy.bans import ALL, BanTable

LATEST = 1e9
MAX_CALLS = 20
"""Of functions, for one client."""
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.77", "198.51.100.7", "2001:db8::1", "2001:db8:0:1::2"])
NETWORKS = st.sampled_from(
    ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.1", "192.0.2.64/26", "::/0", "2001:db8::/32", "2001:db8::1"]
)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = sealed_memory("bans", SIZE)
    yield descriptor
    os.close(descriptor)


def ban(text: str, service: int = ALL, until: float = 100.0) -> StoredBan:
    return StoredBan(parse_network(text), service, until)


def encloses(network: str, ip: str) -> bool:
    """Say so by the standard library: the naive model."""
    outer, inner = ipaddress.ip_network(network), ipaddress.ip_address(ip)
    return outer.version == inner.version and inner in outer


@given(
    bans=st.dictionaries(st.tuples(NETWORKS, st.integers(0, 2)), st.floats(1.0, 10.0), max_size=6),
    ended=st.sets(st.integers(0, 5)),
    ip=ADDRESSES,
    now=st.floats(0.0, 11.0),
)
def test_a_client_is_denied_as_a_naive_model_says(
    bans: dict[tuple[str, int], float], ended: set[int], ip: str, now: float
) -> None:
    table = BanTable()
    for (network, service), until in bans.items():
        table.add(parse_network(network), service, until)
    left = {key: until for place, (key, until) in enumerate(bans.items()) if place not in ended}
    for network, service in bans.keys() - left.keys():
        table.remove(parse_network(network), service)
    assert len(table) == len(left)
    asked = table.asking(1)
    assert (asked is None) == (not left)
    meant = {
        network
        for (network, service), until in left.items()
        if service in (ALL, 1) and until > now and encloses(network, ip)
    }
    if asked is not None:
        found = asked(ip, now)
        assert found in meant if meant else found is None


def test_the_same_network_has_one_end() -> None:
    table = BanTable()
    for until in (50.0, 20.0):
        table.add(parse_network("192.0.2.0/24"), ALL, until)
    assert len(table) == 1
    asked = table.asking(7)
    assert asked is not None
    assert asked("192.0.2.9", 10.0) == "192.0.2.0/24"
    assert asked("192.0.2.9", 30.0) is None
    with pytest.raises(KeyError):
        table.remove(parse_network("192.0.2.0/25"), ALL)


def test_many_bans_cost_no_more_than_one() -> None:
    table = BanTable()
    for number in range(MAX_BANS):
        table.add(Network(32, 32, number), ALL, 1.0)
    asked = table.asking(1)
    assert asked is not None
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        found = asked("0.0.39.15", 0.0)
    finally:
        sys.setprofile(None)
    assert found == "0.0.39.15"
    assert calls < MAX_CALLS


def test_a_new_memory_has_none_and_costs_little(memory: int) -> None:
    assert BanMemory(memory).read(LATEST) == ({}, 0)
    assert os.fstat(memory).st_blocks <= 16


def test_the_next_loop_finds_what_was_written(memory: int) -> None:
    bans = [ban("192.0.2.0/24"), ban("2001:db8::/32", 7), ban("0.0.0.0/0", 65535), ban("::/0", until=0.5)]
    bans += [StoredBan(UnixUser(uid), 3, 1.0) for uid in (0, 1000, 2**32 - 1)]
    first = BanMemory(memory)
    for place, each in enumerate(bans):
        first.write(place * 3, each)
    first.write(1, ban("192.0.2.1"))
    first.clear(1)
    after = BanMemory(memory)
    assert not after.cleared
    assert after.read(LATEST) == ({place * 3: each for place, each in enumerate(bans)}, 0)


@pytest.mark.parametrize(
    ("packed", "length", "service", "until"),
    [
        (bytes(15) + b"\1", 64, 0, 1.0),  # bits after the prefix
        (bytes(16), 129, 0, 1.0),
        ((1 << 32).to_bytes(16), 255, 0, 1.0),  # no user has this number
        (pack_network(parse_network("0.0.0.0/0"))[0], 95, 0, 1.0),
        (bytes(16), 0, 65536, 1.0),
        (bytes(16), 0, 0, math.nan),
        (bytes(16), 0, 0, math.inf),
        (bytes(16), 0, 0, -1.0),
        (bytes(16), 0, 0, LATEST + 1),
    ],
)
def test_what_no_loop_writes_is_cleared(
    memory: int, packed: bytes, length: int, service: int, until: float
) -> None:
    written = BanMemory(memory)
    written.write(0, ban("192.0.2.1"))
    written.write(1, ban("192.0.2.2"))
    os.pwrite(memory, ban_memory.ENTRY.pack(packed, length, service, until), ban_memory.START)
    assert BanMemory(memory).read(LATEST) == ({1: ban("192.0.2.2")}, 1)
    assert BanMemory(memory).read(LATEST) == ({1: ban("192.0.2.2")}, 0)


def test_of_two_that_are_the_same_one_is_cleared(memory: int) -> None:
    written = BanMemory(memory)
    written.write(0, ban("192.0.2.1"))
    written.write(1, ban("192.0.2.1", until=5.0))
    assert BanMemory(memory).read(LATEST) == ({0: ban("192.0.2.1")}, 1)


def test_one_that_is_half_written_is_none(memory: int) -> None:
    """The mark is written last: killed before that, the loop leaves an empty place."""
    written = BanMemory(memory)
    written.write(0, ban("192.0.2.1"))
    os.pwrite(memory, bytes(8), ban_memory.mark_at(0) * 8)
    assert BanMemory(memory).read(LATEST) == ({}, 0)


def test_another_version_is_cleared(memory: int) -> None:
    BanMemory(memory).write(0, ban("192.0.2.1"))
    os.pwrite(memory, b"\xff", 0)
    after = BanMemory(memory)
    assert after.cleared
    assert after.read(LATEST) == ({}, 0)


@given(st.binary(min_size=200, max_size=200))
def test_whatever_is_in_the_memory_is_read_without_an_error(junk: bytes) -> None:
    descriptor = sealed_memory("bans", SIZE)
    BanMemory(descriptor)
    os.pwrite(descriptor, b"\xff\xff", 8)
    os.pwrite(descriptor, junk, ban_memory.START)
    for place in range(5):
        os.pwrite(descriptor, struct.pack("=Q", ban_memory.VALID), ban_memory.mark_at(place) * 8)
    found, wrong = BanMemory(descriptor).read(LATEST)
    os.close(descriptor)
    assert len(found) + wrong == 5


def test_who_comes_over_a_unix_socket_is_in_no_network_and_denied_as_a_user() -> None:
    table = BanTable()
    for network in ("0.0.0.0/0", "::/0"):
        table.add(parse_network(network), ALL, 100.0)
    banned = table.asking(1)
    assert banned is not None
    assert banned(UnixClient.of(0, 0), 1.0) is None
    assert banned(UnixClient.of(1000, 0), 1.0) is None
    table.add(UnixUser(1000), 1, 50.0)
    assert banned(UnixClient.of(1000, 0), 1.0) == "unix:uid=1000"
    assert banned(UnixClient.of(1000, 0), 60.0) is banned(UnixClient.of(0, 0), 1.0) is None
    others = table.asking(2)
    assert others is not None
    assert others(UnixClient.of(1000, 0), 1.0) is None
    table.remove(UnixUser(1000), 1)
    assert (banned(UnixClient.of(1000, 0), 1.0), len(table)) == (None, 2)
    with pytest.raises(KeyError):
        table.remove(UnixUser(1000), 1)
    with pytest.raises(ValueError, match="not an IP address"):
        banned("unix:uid=0", 1.0)


@pytest.mark.parametrize("text", ["unix:", "unix:nobody", "unix:uid=1000,gid=1000", "unix:uid=01"])
def test_what_is_no_user_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}: a user is unix:uid=NUMBER$"):
        deniable(text)
