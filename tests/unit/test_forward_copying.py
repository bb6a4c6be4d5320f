"""Copying both ways: data, ends, resets and silence, on TCP and in the Unix domain."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ucspid.forward.copying import CHUNK, BothWays, CopyEnd

TIMEOUT = 30.0
RESET = struct.pack("ii", 1, 0)
LARGE = bytes(range(256)) * 12_000

Pair = tuple[socket.socket, socket.socket]


def tcp() -> Pair:
    """Return both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname(), TIMEOUT)
        other, _ = listener.accept()
    return one, other


def unix() -> Pair:
    return socket.socketpair()


class Rig:
    """A client and a target, and what copies between them in a thread."""

    def __init__(self, client: Pair, target: Pair, idle_timeout: float, first: bytes) -> None:
        self.client, inner = client
        outer, self.target = target
        for end in (self.client, self.target):
            end.settimeout(TIMEOUT)
        for end in (inner, outer):
            end.setblocking(False)
        self.copying = BothWays(inner, outer, idle_timeout)
        self.pool = ThreadPoolExecutor(3)
        self._ended: Future[CopyEnd] = self.pool.submit(self._run, inner, outer, first)

    def _run(self, inner: socket.socket, outer: socket.socket, first: bytes) -> CopyEnd:
        with inner, outer:
            return self.copying.run(first)

    def end(self) -> CopyEnd:
        """Return how it has ended."""
        return self._ended.result(TIMEOUT)


Make = Callable[..., Rig]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make a rig, of pairs for the client and the target."""
    with contextlib.ExitStack() as stack:

        def made(
            client: Callable[[], Pair] = tcp,
            target: Callable[[], Pair] = tcp,
            idle_timeout: float = TIMEOUT,
            first: bytes = b"",
        ) -> Rig:
            rig = Rig(client(), target(), idle_timeout, first)
            stack.callback(rig.pool.shutdown)
            stack.callback(rig.target.close)
            stack.callback(rig.client.close)
            return rig

        yield made


def all_of(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(CHUNK):
        data += piece
    return bytes(data)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


both = pytest.mark.parametrize(("client", "target"), [(tcp, tcp), (unix, unix), (unix, tcp), (tcp, unix)])


@both
def test_each_direction_ends_by_itself(
    make: Make, client: Callable[[], Pair], target: Callable[[], Pair]
) -> None:
    rig = make(client, target, first=b"header ")
    rig.client.sendall(b"question")
    rig.client.shutdown(socket.SHUT_WR)
    assert all_of(rig.target) == b"header question"
    rig.target.sendall(b"answer")
    rig.target.shutdown(socket.SHUT_WR)
    assert all_of(rig.client) == b"answer"
    assert rig.end() is CopyEnd.CLOSED
    assert (rig.copying.received, rig.copying.sent) == (8, 6)


@both
def test_a_target_that_closes_first_has_its_last_words_delivered(
    make: Make, client: Callable[[], Pair], target: Callable[[], Pair]
) -> None:
    rig = make(client, target)
    rig.target.sendall(b"bye")
    rig.target.close()
    assert all_of(rig.client) == b"bye"
    rig.client.close()
    assert rig.end() is CopyEnd.CLOSED


@both
def test_much_each_way_at_once_arrives_whole(
    make: Make, client: Callable[[], Pair], target: Callable[[], Pair]
) -> None:
    rig = make(client, target)

    def send(sock: socket.socket) -> None:
        sock.sendall(LARGE)
        sock.shutdown(socket.SHUT_WR)

    sending = [rig.pool.submit(send, sock) for sock in (rig.client, rig.target)]
    received = rig.pool.submit(all_of, rig.client)
    assert all_of(rig.target) == LARGE
    assert received.result(TIMEOUT) == LARGE
    assert [each.result(TIMEOUT) for each in sending] == [None, None]
    assert rig.end() is CopyEnd.CLOSED
    assert (rig.copying.received, rig.copying.sent) == (len(LARGE), len(LARGE))


def fill(sock: socket.socket) -> int:
    """Send until nobody takes more; return how much that was."""
    sock.settimeout(0.05)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += sock.send(LARGE)
    sock.settimeout(TIMEOUT)
    return sent


def test_a_slow_reader_holds_the_writer_up_and_loses_nothing(make: Make) -> None:
    rig = make(unix, unix)
    sent = fill(rig.client)
    assert rig.copying.received < sent < 4 * len(LARGE)
    rig.client.shutdown(socket.SHUT_WR)
    assert len(all_of(rig.target)) == sent
    rig.target.close()
    assert rig.end() is CopyEnd.CLOSED


@pytest.mark.parametrize("target", [tcp, unix])
def test_a_client_that_resets_is_passed_on(make: Make, target: Callable[[], Pair]) -> None:
    rig = make(tcp, target)
    rig.client.sendall(b"x")
    assert rig.target.recv(1) == b"x"
    reset(rig.client)
    assert rig.end() is CopyEnd.CLIENT_RESET
    if target is tcp:
        with pytest.raises(ConnectionResetError):
            rig.target.recv(1)
    else:
        assert rig.target.recv(1) == b""


def test_a_target_that_resets_is_passed_on(make: Make) -> None:
    rig = make()
    rig.client.sendall(b"x")
    assert rig.target.recv(1) == b"x"
    reset(rig.target)
    with pytest.raises(ConnectionResetError):
        rig.client.recv(1)
    assert rig.end() is CopyEnd.TARGET_RESET


def test_a_client_that_resets_after_its_end_is_noticed_while_the_target_is_silent(make: Make) -> None:
    rig = make()
    rig.client.shutdown(socket.SHUT_WR)
    assert all_of(rig.target) == b""
    reset(rig.client)
    assert rig.end() is CopyEnd.CLIENT_RESET


def test_a_client_that_resets_is_noticed_while_the_target_takes_nothing(make: Make) -> None:
    rig = make()
    fill(rig.client)
    reset(rig.client)
    assert rig.end() is CopyEnd.CLIENT_RESET


def test_what_a_target_said_before_it_closed_is_delivered_though_it_takes_no_more(make: Make) -> None:
    """In the Unix domain: the answer is longer than what is held, and the client is slow and sends on."""
    rig = make(tcp, unix)

    def answer() -> None:
        rig.target.sendall(LARGE)
        rig.target.close()

    answering = rig.pool.submit(answer)
    assert rig.client.recv(1) == LARGE[:1]
    assert b"".join((LARGE[:1], all_of(rig.client))) == LARGE
    answering.result(TIMEOUT)
    rig.client.close()
    assert rig.end() is CopyEnd.CLOSED


@both
def test_silence_ends_it(make: Make, client: Callable[[], Pair], target: Callable[[], Pair]) -> None:
    rig = make(client, target, idle_timeout=0.02)
    assert rig.end() is CopyEnd.IDLE
    assert all_of(rig.client) == all_of(rig.target) == b""


def test_a_target_that_is_gone_before_the_header_is_a_reset(make: Make) -> None:
    def gone() -> Pair:
        one, other = socket.socketpair()
        other.shutdown(socket.SHUT_RDWR)
        return one, other

    assert make(tcp, gone, first=b"header").end() is CopyEnd.TARGET_RESET
