"""Channels over real socket pairs: packets, descriptors, order, ends."""

import contextlib
import fcntl
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from leaks import own_descriptors
from ucspid.errors import WireError
from ucspid.ipc.channel import MAX_DESCRIPTORS, Channel, close_all, pair
from ucspid.ipc.messages import MAX_PACKET

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    a, b = pair()
    with a, b:
        yield Channel(a), Channel(b)


def used() -> set[int]:
    return set(map(int, own_descriptors()))


def pipes_open() -> int:
    count = 0
    for number in used():
        with contextlib.suppress(OSError):
            count += stat.S_ISFIFO(os.fstat(number).st_mode)
    return count


def test_the_place_for_what_is_received_takes_no_memory_before() -> None:
    program = (
        "import importlib.util, mmap, socket, sys, tracemalloc, ucspid.ipc.messages;"
        "spec = importlib.util.find_spec('ucspid.ipc.channel');"
        "module = sys.modules[spec.name] = importlib.util.module_from_spec(spec);"
        "code = spec.loader.get_code(spec.name); tracemalloc.start();"
        "exec(code, vars(module)); print(tracemalloc.get_traced_memory()[1])"
    )
    ended = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, timeout=60)
    assert int(ended.stdout) < MAX_PACKET


def waits(channel: Channel) -> bool:
    return channel.backed_up


def test_packets_keep_their_bounds_and_their_order(ends: Ends) -> None:
    here, there = ends
    for packet in (b"one", b"two", b"three"):
        here.send(packet)
    assert [there.receive() for _ in range(4)] == [(b"one", []), (b"two", []), (b"three", []), None]


def test_a_packet_of_the_greatest_size_arrives(ends: Ends) -> None:
    here, there = ends
    here.send(bytes(MAX_PACKET))
    assert there.receive() == (bytes(MAX_PACKET), [])


def test_descriptors_arrive_close_on_exec(ends: Ends) -> None:
    here, there = ends
    reading, writing = os.pipe()
    here.send(b"take these", (writing, writing))
    os.close(writing)
    received = there.receive()
    assert received is not None
    packet, descriptors = received
    assert packet == b"take these"
    assert [fcntl.fcntl(number, fcntl.F_GETFD) for number in descriptors] == 2 * [fcntl.FD_CLOEXEC]
    os.write(descriptors[1], b"it is that pipe")
    close_all(descriptors)
    assert os.read(reading, 100) == b"it is that pipe"
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_what_the_kernel_does_not_take_waits_in_order_with_its_descriptors(ends: Ends) -> None:
    here, there = ends
    reading, writing = os.pipe()
    count = 0
    while not waits(here):
        here.send(b"%d" % count + bytes(1000), (writing,) if count % 7 == 0 else ())
        count += 1
    for _ in range(5):
        here.send(b"%d" % count + bytes(1000), (writing,) if count % 7 == 0 else ())
        count += 1
    seen: list[tuple[int, int]] = []
    while len(seen) < count:
        received = there.receive()
        if received is None:
            here.flush()
            continue
        seen.append((int(received[0].rstrip(b"\0")), len(received[1])))
        close_all(received[1])
    assert seen == [(number, int(number % 7 == 0)) for number in range(count)]
    assert not waits(here)
    os.close(reading)
    os.close(writing)


def test_the_end_is_an_empty_packet_after_what_was_sent_before(ends: Ends) -> None:
    here, there = ends
    here.send(b"last words")
    here.sock.close()
    assert there.receive() == (b"last words", [])
    assert there.receive() == (b"", [])


def test_sending_to_a_peer_that_is_gone_is_no_error(ends: Ends) -> None:
    here, there = ends
    there.sock.close()
    here.send(b"hello?")
    assert here.receive() == (b"", [])


def test_a_peer_that_dies_with_unread_packets_is_seen_as_the_end(ends: Ends) -> None:
    here, there = ends
    here.send(b"never read")
    there.sock.close()
    assert here.receive() == (b"", [])


def test_the_last_words_of_a_peer_that_has_not_read_all_are_received(ends: Ends) -> None:
    here, there = ends
    there.send(b"never read")
    here.send(b"I give up: ")
    here.send(b"no such directory")
    here.sock.close()
    assert [there.receive() for _ in range(3)] == [
        (b"I give up: ", []),
        (b"no such directory", []),
        (b"", []),
    ]


def test_a_packet_too_long_is_refused_and_leaks_no_descriptor(ends: Ends) -> None:
    here, there = ends
    reading, writing = os.pipe()
    before = pipes_open()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, writing.to_bytes(4, "little"))]
    here.sock.sendmsg([bytes(MAX_PACKET + 1)], rights)
    with pytest.raises(WireError):
        there.receive()
    assert pipes_open() == before
    close_all([reading, writing])


def test_descriptors_for_which_there_is_no_room_are_refused_and_none_leaks(ends: Ends) -> None:
    here, there = ends
    reading, writing = os.pipe()
    here.send(b"many", 20 * (writing,))
    before = pipes_open()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with_room_for_five = sorted(set(range(soft)) - used())[5]
    resource.setrlimit(resource.RLIMIT_NOFILE, (with_room_for_five, hard))
    try:
        with pytest.raises(WireError):
            there.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pipes_open() == before
    close_all([reading, writing])


def test_as_many_descriptors_as_promised_fit_in_a_packet(ends: Ends) -> None:
    here, there = ends
    reading, writing = os.pipe()
    here.send(b"all", MAX_DESCRIPTORS * (writing,))
    received = there.receive()
    assert received is not None
    assert len(received[1]) == MAX_DESCRIPTORS
    close_all([*received[1], reading, writing])


def test_a_peer_that_has_none_to_give_cannot_make_us_take_descriptors(ends: Ends) -> None:
    here, there = ends
    reading, writing = os.pipe()
    here.send(b"have this", (writing,))
    os.close(writing)
    with pytest.raises(WireError):
        there.receive_packet()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_packets_without_descriptors(ends: Ends) -> None:
    here, there = ends
    here.send(b"one")
    here.sock.shutdown(socket.SHUT_WR)
    assert [there.receive_packet() for _ in range(2)] == [b"one", b""]
    assert here.receive_packet() is None
