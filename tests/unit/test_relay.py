"""A TLS connection and its program's side: data, ends and faults, in every order."""

import contextlib
import itertools
import select
import socket
import ssl
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import certificates
from ucspid.tls import truncation
from ucspid.tls.program_side import CHUNK, READ, RECORD, ProgramSide
from ucspid.tls.relay import PeerEnd, Relay

NAME = "mail.example.org"
LARGE = bytes(range(256)) * 4000
Pair = tuple[socket.socket, socket.socket]
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.shared() / f"{NAME}.pem")
    truncation.reveal(context)
    return context


@pytest.fixture
def program() -> Iterator[Pair]:
    pair = socket.socketpair()
    yield pair
    pair[1].close()


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    context.maximum_version = version
    return context


class Peer:
    """The other end of the connection: TLS by hand, so that a test can say each step."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)
        self.got = b""
        self.closed = False
        self.waiting = b""

    def turn(self) -> bool:
        """Send and receive what there is; return whether there was anything."""
        self.waiting += self.outgoing.read()
        moved = False
        if self.waiting:
            try:
                sent = self.sock.send(self.waiting)
            except BlockingIOError:
                sent = 0
            self.waiting = self.waiting[sent:]
            moved = sent > 0
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return moved
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        return moved or bool(data)

    def shake_hands(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self) -> None:
        """Take what has come, to the end if that is there."""
        while not self.closed:
            try:
                data = self.tls.read(CHUNK)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            self.closed = not data
            self.got += data

    def notify(self) -> None:
        """Send close_notify; nothing unread may have come."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            return


class Joined:
    """A relay between a peer and the program's end of a socket pair."""

    def __init__(self, server: ssl.SSLContext, context: ssl.SSLContext, *, small: bool = False) -> None:
        ours, theirs = socket.socketpair()
        plain, self.program = socket.socketpair()
        for sock in (ours, theirs, plain, self.program):
            sock.setblocking(False)
            if small:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.relay = Relay(ours, plain, server)
        self.peer = Peer(theirs, context)
        self.plain = plain
        self.got = b""
        self.ended = False

    def shake_hands(self) -> None:
        """Come to the end of the handshake."""
        for _ in range(50):
            self.peer.shake_hands()
            self.peer.turn()
            self.turn()
            if self.relay.shaken and self.peer.shake_hands():
                break
        assert self.relay.shaken

    def turn(self) -> bool:
        """Give the relay its turn if it waits for what is there; return whether it did anything."""
        before = (self.relay.received, self.relay.sent, self.relay.end, self.relay.done, self.relay.wants())
        again = False
        if not self.relay.done:
            again = self.relay.turn()
        return again or before != (
            self.relay.received, self.relay.sent, self.relay.end, self.relay.done, self.relay.wants()
        )  # fmt: skip

    def receive(self) -> bool:
        """Take what the program's end has."""
        try:
            data = self.program.recv(CHUNK)
        except (BlockingIOError, ConnectionResetError):
            return False
        self.ended |= not data
        self.got += data
        return bool(data)

    def settle(self, *, program_reads: bool = True, peer_reads: bool = True) -> None:
        """Go on until nothing moves any more."""
        quiet = 0
        while quiet < 3:
            moved = self.turn()
            if peer_reads:
                moved |= self.peer.turn()
                self.peer.read()
            if program_reads and not self.ended:
                moved |= self.receive()
            quiet = 0 if moved else quiet + 1

    def close(self) -> None:
        for sock in (self.peer.sock, self.program):
            sock.close()
        self.relay.close()


def opened(server: ssl.SSLContext) -> Joined:
    """Return a relay whose handshake is done, with small buffers of the kernel's around it."""
    joined = Joined(server, client_context(), small=True)
    joined.shake_hands()
    return joined


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def joined(request: pytest.FixtureRequest, server: ssl.SSLContext) -> Iterator[Joined]:
    joined = Joined(server, client_context(request.param))
    joined.shake_hands()
    yield joined
    joined.close()


def test_data_go_both_ways(joined: Joined) -> None:
    joined.peer.tls.write(b"question")
    joined.program.send(b"answer")
    joined.settle()
    assert (joined.got, joined.peer.got) == (b"question", b"answer")
    assert (joined.relay.received, joined.relay.sent) == (8, 6)
    assert joined.relay.end is None
    assert not joined.relay.done


def send_all(joined: Joined, data: bytes) -> None:
    """Send as a program, as its peer takes it."""
    view = memoryview(data)
    while view:
        try:
            view = view[joined.program.send(view) :]
        except BlockingIOError:
            joined.settle()


def test_large_data_arrive_whole(joined: Joined) -> None:
    send_all(joined, LARGE)
    for start in range(0, len(LARGE), CHUNK):
        joined.peer.tls.write(LARGE[start : start + CHUNK][:16384])
        joined.settle()
        joined.peer.tls.write(LARGE[start : start + CHUNK][16384:] or b"")
        joined.settle()
    assert joined.peer.got == LARGE
    assert joined.got == LARGE


def test_the_program_may_end_first_and_go_on_reading(joined: Joined) -> None:
    joined.program.send(b"last words")
    joined.program.shutdown(socket.SHUT_WR)
    joined.settle()
    assert (joined.peer.got, joined.peer.closed) == (b"last words", True)
    assert joined.relay.program.ended
    assert not joined.relay.done
    joined.peer.tls.write(b"more")
    joined.settle()
    assert joined.got == b"more"
    joined.peer.notify()
    joined.settle()
    assert joined.ended
    assert (joined.relay.end, joined.relay.done) == (PeerEnd.CLOSED, True)


def test_the_peer_may_end_first_and_go_on_reading(joined: Joined) -> None:
    joined.peer.tls.write(b"question")
    joined.peer.notify()
    joined.settle()
    assert (joined.got, joined.ended, joined.relay.end) == (b"question", True, PeerEnd.CLOSED)
    assert not joined.relay.done
    joined.program.send(b"late answer")
    joined.settle()
    assert joined.peer.got == b"late answer"
    joined.program.close()
    joined.settle(program_reads=False)
    assert joined.peer.closed
    assert joined.relay.done


def test_what_a_client_sends_while_the_program_ends_is_not_lost(joined: Joined) -> None:
    """The peer's data are there before our close_notify: unwrap() would find them in place of the peer's."""
    joined.program.send(b"bye")
    joined.program.shutdown(socket.SHUT_WR)
    joined.peer.tls.write(LARGE[:16000])
    joined.peer.turn()
    joined.settle(program_reads=False)
    joined.settle()
    joined.peer.tls.write(b"end")
    joined.settle()
    assert joined.got == LARGE[:16000] + b"end"
    assert joined.peer.got == b"bye"


def test_a_program_that_is_gone_has_its_last_words_delivered(joined: Joined) -> None:
    joined.program.send(LARGE[:100_000])
    joined.program.close()
    joined.peer.tls.write(b"unread")
    joined.settle(program_reads=False)
    assert joined.peer.got == LARGE[: joined.relay.sent]
    assert joined.relay.sent >= min(100_000, CHUNK)
    assert joined.peer.closed
    joined.peer.sock.shutdown(socket.SHUT_WR)
    joined.settle(program_reads=False)
    assert joined.relay.done


def test_data_that_end_without_close_notify_are_truncated(joined: Joined) -> None:
    joined.peer.tls.write(b"half a mess")
    joined.peer.turn()
    joined.peer.sock.shutdown(socket.SHUT_WR)
    joined.settle(peer_reads=False)
    assert (joined.got, joined.ended, joined.relay.end) == (b"half a mess", True, PeerEnd.TRUNCATED)


def test_a_peer_that_is_gone_ends_the_program(server: ssl.SSLContext, program: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted = listener.accept()[0]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    relay = Relay(accepted, program[0], server)
    client.close()
    select.select([accepted], [], [], 5)
    relay.turn()
    assert (relay.done, relay.end) == (True, PeerEnd.VANISHED)
    assert relay.problem == "Connection reset by peer"
    relay.close()
    assert program[1].recv(1) == b""


@pytest.mark.parametrize(
    "junk", [b"EHLO client\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x01\xff\xff" + bytes(300)]
)
def test_what_is_not_tls_is_refused_with_an_alert(server: ssl.SSLContext, program: Pair, junk: bytes) -> None:
    ours, theirs = socket.socketpair()
    relay = Relay(ours, program[0], server)
    theirs.send(junk)
    relay.turn()
    assert (relay.done, relay.end) == (True, PeerEnd.BROKEN)
    assert relay.problem
    relay.close()
    assert program[1].recv(1) == b""
    theirs.close()


def test_a_connection_that_ends_in_the_handshake(server: ssl.SSLContext, program: Pair) -> None:
    ours, theirs = socket.socketpair()
    relay = Relay(ours, program[0], server)
    theirs.close()
    relay.turn()
    assert (relay.end, relay.problem) == (PeerEnd.VANISHED, "the connection ended in the handshake")
    relay.close()
    assert program[1].recv(1) == b""


def test_garbage_in_place_of_a_record_ends_the_connection(joined: Joined) -> None:
    joined.peer.tls.write(b"good")
    joined.peer.turn()
    joined.peer.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    joined.settle(peer_reads=False)
    assert (joined.relay.end, joined.relay.done) == (PeerEnd.BROKEN, True)
    assert joined.got == b"good"


def test_a_peer_that_reads_nothing_stops_the_program_and_costs_a_bounded_amount(
    server: ssl.SSLContext,
) -> None:
    joined = opened(server)
    sent = 0
    for _ in range(1000):
        try:
            sent += joined.program.send(LARGE[:4096])
        except BlockingIOError:
            break
        joined.settle(peer_reads=False)
    assert joined.relay.sent <= 8 * CHUNK
    secure, plain = joined.relay.wants()
    assert not plain & READ
    assert secure
    joined.settle()
    assert joined.peer.got == (LARGE[:4096] * (sent // 4096 + 1))[:sent]
    joined.close()


def test_no_more_than_a_record_waits_for_a_peer_that_reads_nothing(server: ssl.SSLContext) -> None:
    joined = Joined(server, client_context())
    joined.shake_hands()
    with contextlib.suppress(BlockingIOError):
        for _ in range(1000):
            joined.program.send(LARGE)
            joined.settle(peer_reads=False)
    unsent = joined.relay.client.unsent
    assert unsent
    assert len(unsent) <= RECORD + 256
    assert not joined.relay.client.outgoing.pending
    joined.close()


def test_tiny_records_are_not_gathered(server: ssl.SSLContext) -> None:
    joined = Joined(server, client_context())
    joined.shake_hands()
    count = 10_000
    for _ in range(count):
        joined.peer.tls.write(b"x")
    most = 0
    while len(joined.got) < count:
        joined.peer.turn()
        joined.turn()
        joined.receive()
        most = max(most, joined.relay.client.incoming.pending)
    assert most <= CHUNK
    joined.close()


def test_of_full_records_none_is_cut_off_by_what_is_read_at_a_time(server: ssl.SSLContext) -> None:
    joined = Joined(server, client_context())
    joined.shake_hands()
    for _ in range(2):
        joined.peer.tls.write(LARGE[:RECORD])
    data = joined.peer.outgoing.read()
    assert len(data) == CHUNK
    joined.peer.sock.send(data)
    joined.turn()
    joined.receive()
    assert joined.got == LARGE[:RECORD] * 2
    assert not joined.relay.client.incoming.pending
    joined.close()


def test_whether_a_program_takes_nothing_more_is_not_asked_once_it_gets_nothing_more() -> None:
    ours, theirs = socket.socketpair()
    side = ProgramSide(ours)
    assert side.deliver(ended=True)
    theirs.close()
    side.receive()
    assert (side.ended, side.shut, side.gone) == (True, True, False)
    ours.close()


def test_a_program_that_reads_nothing_stops_the_peer(server: ssl.SSLContext) -> None:
    joined = opened(server)
    for _ in range(200):
        joined.peer.tls.write(LARGE[:8000])
        joined.settle(program_reads=False)
    assert joined.relay.received <= 8 * CHUNK
    assert not joined.relay.wants()[0] & READ
    for _ in range(1000):
        joined.settle()
        if len(joined.got) == 200 * 8000:
            break
    assert joined.got == LARGE[:8000] * 200
    joined.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_is_done_before_its_program_says_anything(
    server: ssl.SSLContext, program: Pair, version: ssl.TLSVersion
) -> None:
    """A server that speaks first, as in POP3 and SMTP, needs the client's last message for that."""
    ours, theirs = socket.socketpair()
    with theirs:
        relay = Relay(ours, program[0], client_context(version), server_hostname=NAME)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = server.wrap_bio(incoming, outgoing, server_side=True)
        done = False
        for _ in range(4):
            relay.turn()
            theirs.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                incoming.write(theirs.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.do_handshake()
                done = True
            theirs.sendall(outgoing.read())
        assert (done, relay.shaken) == (True, True)
        relay.close()


def test_every_step_that_waits_waits_for_something(joined: Joined) -> None:
    for secure, plain in itertools.chain([joined.relay.wants()], [joined.relay.wants()]):
        assert secure & READ
        assert plain & READ


STEP = st.one_of(
    st.tuples(st.just("peer"), st.integers(1, 20000)),
    st.tuples(st.just("program"), st.integers(1, 20000)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.just("program reads"), st.just(0)),
    st.tuples(st.just("peer reads"), st.just(0)),
)


@given(st.lists(STEP, max_size=25), st.booleans())
def test_in_whatever_order_all_data_arrive(
    server: ssl.SSLContext, steps: list[tuple[str, int]], program_first: bool
) -> None:
    joined = opened(server)
    to_program = to_peer = b""
    for what, size in steps:
        data = LARGE[:size]
        if what == "peer":
            joined.peer.tls.write(data[:16384])
            to_program += data[:16384]
        elif what == "program":
            try:
                to_peer += data[: joined.program.send(data)]
            except BlockingIOError:
                continue
        elif what == "turn":
            joined.turn()
        elif what == "program reads":
            joined.receive()
        else:
            joined.peer.turn()
            joined.peer.read()
    joined.settle()
    for first in (program_first, not program_first):
        if first:
            joined.program.shutdown(socket.SHUT_WR)
        else:
            joined.peer.notify()
        joined.settle()
    assert (joined.got, joined.peer.got) == (to_program, to_peer)
    assert joined.ended
    assert joined.peer.closed
    assert (joined.relay.end, joined.relay.done) == (PeerEnd.CLOSED, True)
    joined.close()
