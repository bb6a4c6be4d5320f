"""Connections of a TLS process: the program's command, handshakes and their time, the end, who is first."""

import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tls_contexts import client, contexts
from ucspid.ipc import messages as wire
from ucspid.tls import session as session_module
from ucspid.tls import sessions as sessions_module
from ucspid.tls.contexts import ServerContext
from ucspid.tls.relay import PeerEnd, Relay
from ucspid.tls.session import TlsPhase, TlsSession
from ucspid.tls.sessions import TlsSessions

Report = wire.Secured | wire.NotSecured | wire.SecureEnd
ROUNDS = 400


class Rig:
    """The sessions, without a process around them."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.sessions = TlsSessions(lambda item: self.steps.append(item.connection))
        made, self.number = contexts("mail")
        found = made.get(self.number)
        assert found is not None
        self.context: ServerContext = found
        self.reports: list[Report] = []
        self.messages = {kind.KIND: kind for kind in (wire.Secured, wire.NotSecured, wire.SecureEnd)}
        self.open: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        both = socket.socketpair()
        self.open += both
        return both

    def add(
        self, number: int = 1, *, starttls: bool = False, timeout: int = 5000, described: bool = False
    ) -> "Client":
        ours, theirs = self.pair()
        plain, program = self.pair()
        command, control = self.pair() if starttls else (None, None)
        order = wire.Secure(starttls, described, timeout, self.number, number)
        session = TlsSession(order, (ours, plain), command, self.context, self.hear)
        if not starttls:
            session.begin(time.monotonic())
        self.sessions.add(session)
        return Client(self, session, theirs, program, control)

    def hear(self, packet: bytes) -> None:
        self.reports.append(self.messages[packet[0]].unpack(packet))

    def rounds(self, count: int = 5) -> None:
        for _ in range(count):
            self.sessions.run_once(wait=False)

    def close(self) -> None:
        self.sessions.close()
        for sock in self.open:
            sock.close()


class Client:
    """One client, its program, and where the program asks for TLS its control socket."""

    def __init__(
        self,
        rig: Rig,
        session: TlsSession,
        sock: socket.socket,
        program: socket.socket,
        control: socket.socket | None,
    ) -> None:
        self.rig, self.session = rig, session
        self.sock, self.program = sock, program
        self._control = control
        for each in (sock, program, *((control,) if control else ())):
            each.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client().wrap_bio(self.incoming, self.outgoing, server_hostname="mail.example.org")

    @property
    def control(self) -> socket.socket:
        assert self._control is not None
        return self._control

    def flush(self) -> None:
        if data := self.outgoing.read():
            self.sock.send(data)
        self.rig.rounds(2)
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def shake_hands(self) -> None:
        for _ in range(ROUNDS):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
            else:
                self.flush()
                return
        raise AssertionError("no handshake")

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    def read(self) -> bytes:
        for _ in range(ROUNDS):
            try:
                return self.tls.read(100)
            except ssl.SSLWantReadError:
                self.flush()
        raise AssertionError("nothing came")

    def over(self) -> bool:
        self.rig.rounds()
        return self.session.phase is TlsPhase.OVER


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()
    assert len(made.sessions) == 0


def test_data_go_both_ways_and_an_end_in_good_order_is_not_reported(rig: Rig) -> None:
    one = rig.add(7)
    one.shake_hands()
    one.send(b"hello")
    assert one.program.recv(100) == b"hello"
    one.program.send(b"world")
    assert one.read() == b"world"
    one.program.close()
    rig.rounds()
    one.flush()
    one.tls.unwrap()
    one.flush()
    assert one.over()
    assert [type(report) for report in rig.reports] == [wire.Secured]
    secured = rig.reports[0]
    assert isinstance(secured, wire.Secured)
    assert (secured.connection, secured.version, secured.sni) == (7, "TLSv1.3", "mail.example.org")
    assert [item.partition(b"=")[0] for item in secured.variables] == [
        b"SSL_PROTOCOL", b"SSL_CIPHER", b"SSL_TLS_SNI_SERVERNAME",
    ]  # fmt: skip


def test_the_variables_of_ucspi_ssl_come_where_they_are_asked_for(rig: Rig) -> None:
    rig.add(described=True).shake_hands()
    secured = rig.reports[0]
    assert isinstance(secured, wire.Secured)
    variables = dict(item.split(b"=", 1) for item in secured.variables)
    assert variables[b"SSL_SERVER_S_DN"] == b"mail"
    assert variables[b"SSL_CLIENT_VERIFY"] == b"NONE"
    assert variables[b"SSL_CIPHER_USEKEYSIZE"] == b"128"


@pytest.mark.parametrize("junk", [b"EHLO a\r\n", b"\0" * 50])
def test_a_client_that_does_not_speak_tls_is_reported_and_its_program_gets_nothing(
    rig: Rig, junk: bytes
) -> None:
    one = rig.add()
    one.sock.send(junk)
    assert one.over()
    (report,) = rig.reports
    assert isinstance(report, wire.NotSecured)
    assert one.program.recv(1) == b""


def test_a_handshake_has_its_time_and_no_more(rig: Rig) -> None:
    one, other = rig.add(1, timeout=0), rig.add(2)
    assert one.over()
    assert other.session.phase is TlsPhase.HANDSHAKE
    assert rig.reports == [wire.NotSecured(1, "no handshake within 0s")]


def test_a_client_that_asks_for_a_name_that_there_is_not(rig: Rig) -> None:
    made, rig.number = contexts("mail", sni="strict")
    found = made.get(rig.number)
    assert found is not None
    rig.context = found
    for name, why in (
        ("other.example", "no certificate has the name other.example"),
        (None, "it asked for no name"),
    ):
        one = rig.add()
        one.tls = client().wrap_bio(one.incoming, one.outgoing, server_hostname=name)
        with pytest.raises(ssl.SSLError):
            one.shake_hands()
        report = rig.reports.pop()
        assert isinstance(report, wire.NotSecured)
        assert report.reason == why


# Programs that ask for TLS


@pytest.mark.parametrize("command", [b"y", b"Y"])
def test_nothing_is_read_of_the_client_before_its_program_has_asked(rig: Rig, command: bytes) -> None:
    one = rig.add(starttls=True)
    one.sock.send(b"STARTTLS\r\n")
    rig.rounds()
    assert one.session.sockets()[0].recv(100) == b"STARTTLS\r\n"  # as the program does, on the same socket
    one.control.send(command)
    one.shake_hands()
    one.send(b"secret")
    assert one.program.recv(100) == b"secret"
    told = one.control.recv(4096)
    assert told.endswith(b"\0\0") == (command == b"Y")
    assert (b"SSL_PROTOCOL=TLSv1.3\0" in told) == (command == b"Y")
    assert one.control.recv(1) == b""
    assert isinstance(rig.reports[0], wire.Secured)


@pytest.mark.parametrize("command", [b"", b"n", b"x"])
def test_a_program_that_does_not_ask_goes_on_without_us(rig: Rig, command: bytes) -> None:
    one = rig.add(starttls=True)
    if command:
        one.control.send(command)
    else:
        one.control.close()
    assert one.over()
    assert rig.reports == []
    assert one.program.recv(1) == b""


def test_a_handshake_that_a_program_has_asked_for_and_that_fails_is_an_end_on_both_its_sockets(
    rig: Rig,
) -> None:
    one = rig.add(starttls=True)
    one.control.send(b"Y")
    rig.rounds()
    one.sock.send(b"junk junk junk\r\n")
    assert one.over()
    assert one.program.recv(1) == b""
    assert one.control.recv(1) == b""
    assert isinstance(rig.reports[0], wire.NotSecured)


# The end


def test_a_client_that_takes_nothing_after_its_program_has_ended_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "LINGER", 0.0)
    one = rig.add(4)
    one.shake_hands()
    one.program.close()
    assert one.over()
    assert rig.reports[1:] == [
        wire.SecureEnd(PeerEnd.VANISHED, 4, 0, 0, "it took nothing, and did not end, for 0s")
    ]


def test_a_client_that_goes_on_taking_is_not_given_up(rig: Rig) -> None:
    one = rig.add()
    one.shake_hands()
    one.program.close()
    rig.rounds()
    deadline = one.session.deadline
    assert deadline is not None
    one.sock.send(b"")
    one.session.relay.client.taken += 1  # type: ignore[union-attr]
    one.session.late(deadline)
    assert one.session.phase is TlsPhase.OPEN
    assert one.session.deadline == deadline + session_module.LINGER


def test_a_client_that_only_sends_after_its_program_is_gone_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "LINGER", 0.0)
    one = rig.add()
    one.shake_hands()
    one.program.close()
    while one.session.phase is not TlsPhase.OVER:
        one.tls.write(b"and more")
        one.sock.send(one.outgoing.read())
        rig.rounds(1)
    assert isinstance(rig.reports[-1], wire.SecureEnd)


def test_a_program_that_sends_no_more_reads_on_for_as_long_as_it_likes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "LINGER", 0.0)
    one = rig.add()
    one.shake_hands()
    one.program.shutdown(socket.SHUT_WR)
    for _ in range(3):
        assert not one.over()
        one.send(b"and more")
        assert one.program.recv(100) == b"and more"
    one.program.close()
    assert one.over()


def test_only_so_many_linger_and_the_first_is_the_first_to_go(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MAX_LINGERING", 2)
    clients = [rig.add(number) for number in (1, 2, 3)]
    for one in clients:
        one.shake_hands()
        one.program.close()
        rig.rounds()
    assert [one.session.phase is TlsPhase.OVER for one in clients] == [True, False, False]
    last = rig.reports[-1]
    assert isinstance(last, wire.SecureEnd)
    assert (last.connection, last.reason) == (1, "too many clients did not end when their programs did")


def test_data_without_close_notify_are_reported_as_truncated(rig: Rig) -> None:
    one = rig.add(9)
    one.shake_hands()
    one.send(b"half")
    one.sock.shutdown(socket.SHUT_WR)
    rig.rounds()
    assert one.program.recv(100) == b"half"
    assert one.program.recv(100) == b""
    one.program.send(b"bye")
    one.program.close()
    assert one.over()
    assert rig.reports[1:] == [wire.SecureEnd(PeerEnd.TRUNCATED, 9, 4, 3, "")]


# Who goes first


def hello(one: "Client") -> None:
    with pytest.raises(ssl.SSLWantReadError):
        one.tls.do_handshake()
    one.sock.send(one.outgoing.read())


def test_established_connections_are_served_before_each_step_of_a_handshake(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "HANDSHAKE_TIME", 0.0)
    one = rig.add(1)
    one.shake_hands()
    for number in range(2, 40):
        hello(rig.add(number))
    rig.steps.clear()
    for number in range(2, 40):
        one.tls.write(b"hello")
        one.sock.send(one.outgoing.read())
        rig.rounds(1)
        assert one.program.recv(100) == b"hello"
        assert rig.steps == list(range(2, number + 1))


def test_handshakes_get_as_much_time_as_established_connections_take(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "HANDSHAKE_TIME", 1000.0)
    one = rig.add(1)
    one.shake_hands()
    for number in range(2, 20):
        hello(rig.add(number))
    now, real = 0.0, TlsSession.turn

    def turn(session: TlsSession, at: float) -> bool:
        nonlocal now
        now += 5.0 if session.connection == 1 else 1.0
        return real(session, at)

    monkeypatch.setattr(TlsSession, "turn", turn)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one.tls.write(b"hello")
    one.sock.send(one.outgoing.read())
    rig.steps.clear()
    rig.rounds(1)
    assert rig.steps == [2, 3, 4, 5, 6]
    rig.rounds(1)
    assert rig.steps == [2, 3, 4, 5, 6, 7]


def test_of_handshakes_that_wait_for_their_turn_nothing_is_heard_again_and_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [rig.add(number) for number in range(1, 20)]
    rig.rounds(len(clients))
    for one in clients:
        hello(one)
    heard: list[int] = []
    real = TlsSession.heard

    def hear(session: TlsSession) -> None:
        heard.append(session.connection)
        real(session)

    monkeypatch.setattr(TlsSession, "heard", hear)
    rig.rounds(len(clients))
    assert heard == list(range(1, 20))
    for one in clients:
        one.shake_hands()


def test_a_session_that_has_ended_is_not_kept_for_its_deadline(rig: Rig) -> None:
    one = rig.add(timeout=60_000)
    one.sock.close()
    assert one.over()
    assert len(rig.sessions) == 0


def test_a_name_that_is_not_text_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _problem: None)
    one = rig.add()
    with pytest.raises(ssl.SSLWantReadError):
        one.tls.do_handshake()
    one.sock.send(one.outgoing.read().replace(b"mail.example.org", b"mail.\xff\xffample.org"))
    assert one.over()
    assert rig.reports == [wire.NotSecured(1, "it asked for a name that is not text")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=60)), min_size=1, max_size=5),
    st.booleans(),
)
def test_whatever_a_client_sends_ends_its_connection_at_most(
    changes: list[tuple[int, bytes]], established: bool
) -> None:
    rig = Rig()
    one, other = rig.add(1), rig.add(2)
    other.shake_hands()
    if established:
        one.shake_hands()
        one.tls.write(b"hello")
    else:
        with pytest.raises(ssl.SSLWantReadError):
            one.tls.do_handshake()
    data = bytearray(one.outgoing.read())
    for place, junk in changes:
        data[place : place + len(junk)] = junk
    one.sock.send(data)
    rig.rounds(3)
    one.sock.close()
    rig.rounds()
    other.send(b"still here")
    assert other.program.recv(100) == b"still here"
    reasons = [getattr(report, "reason", "") for report in rig.reports]
    assert not [reason for reason in reasons if "internal error" in reason]
    rig.close()


def test_a_bug_ends_one_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = rig.add(1), rig.add(2)
    one.shake_hands()
    other.shake_hands()
    monkeypatch.setattr(Relay, "turn", lambda *_, **_options: 1 / 0)
    one.program.close()
    assert one.over()
    last = rig.reports[-1]
    assert isinstance(last, wire.SecureEnd)
    assert last.reason.startswith("internal error: ZeroDivisionError")
    monkeypatch.undo()
    other.send(b"x")
    assert other.program.recv(1) == b"x"


@pytest.mark.timeout(20)
def test_what_a_turn_has_left_is_copied_before_anything_is_waited_for(rig: Rig) -> None:
    """All that came is in the process's memory then: the kernel has nothing to report of it."""
    client = rig.add()
    client.shake_hands()
    count = 500
    for _ in range(count):
        client.tls.write(b"x")
    client.sock.send(client.outgoing.read())
    received = b""
    while len(received) < count:
        rig.sessions.run_once()
        with contextlib.suppress(BlockingIOError):
            received += client.program.recv(count)
    assert received == b"x" * count
