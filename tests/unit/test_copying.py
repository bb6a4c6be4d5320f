"""The copying of a client's relay: when it ends though the server does not."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import tls_servers
from tls_servers import NAME
from ucspid.tls import truncation
from ucspid.tls.relay import PeerEnd, Relay
from ucspid.tools.copying import Copying, ready

TIMEOUT = 60.0
SOON = 0.05
PIECE = bytes(65536)
MAX_PIECES = 2000
"""More than the kernel and the relay hold, and less than a server sends in half a minute."""


class Tunnelled:
    """A relay of a client after its handshake; the server is a thread."""

    def __init__(self, talk: Callable[[ssl.SSLSocket], None]) -> None:
        ours, theirs = socket.socketpair()
        relay_end, self.program = socket.socketpair()
        serving = tls_servers.context()
        self.server = ThreadPoolExecutor(1).submit(self._serve, serving, theirs, talk)
        trusting = ssl.create_default_context(cafile=tls_servers.authority())
        truncation.reveal(trusting)
        self.relay = Relay(ours, relay_end, trusting, server_hostname=NAME)
        self.reports: list[bool] = []
        while not self.relay.shaken:
            self.relay.turn(program=False)
            assert not self.relay.done
            ready(self.relay, SOON)

    def _serve(
        self, context: ssl.SSLContext, sock: socket.socket, talk: Callable[[ssl.SSLSocket], None]
    ) -> None:
        sock.settimeout(TIMEOUT)
        with context.wrap_socket(sock, server_side=True) as secured:
            talk(secured)

    def copy(self, linger: float = TIMEOUT) -> None:
        """Copy to the end, and close."""
        Copying(self.relay, self.reports.append, linger).run()
        self.relay.close()


@pytest.fixture
def stopped() -> Iterator[threading.Event]:
    """Return what servers wait for that do nothing; set at the end."""
    event = threading.Event()
    yield event
    event.set()


def test_a_server_that_does_not_end_has_so_much_time(stopped: threading.Event) -> None:
    def wait(_client: ssl.SSLSocket) -> None:
        stopped.wait(TIMEOUT)

    tunnelled = Tunnelled(wait)
    tunnelled.program.close()
    tunnelled.copy(SOON)
    assert (tunnelled.relay.end, tunnelled.reports) == (None, [])
    stopped.set()
    tunnelled.server.result(TIMEOUT)


def test_a_program_that_goes_after_it_has_sent_its_last_is_noticed(stopped: threading.Event) -> None:
    """It waited for an answer: until it goes, the server has all the time that it takes."""
    heard = threading.Event()

    def hear(client: ssl.SSLSocket) -> None:
        assert client.recv(1) == b""
        heard.set()
        stopped.wait(TIMEOUT)

    tunnelled = Tunnelled(hear)
    tunnelled.program.shutdown(socket.SHUT_WR)

    def go() -> None:
        heard.wait(TIMEOUT)
        tunnelled.program.close()

    thread = threading.Thread(target=go)
    thread.start()
    tunnelled.copy(SOON)
    thread.join()
    assert heard.is_set()
    stopped.set()
    tunnelled.server.result(TIMEOUT)


def test_a_server_that_goes_on_when_the_program_is_gone_is_cut_off() -> None:
    sent = 0

    def babble(client: ssl.SSLSocket) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            while sent <= MAX_PIECES:
                client.sendall(PIECE)
                sent += 1

    tunnelled = Tunnelled(babble)
    tunnelled.program.close()
    tunnelled.copy()
    tunnelled.server.result(TIMEOUT)
    assert sent < MAX_PIECES


def test_a_server_that_is_slow_to_take_what_was_sent_last_gets_it_all() -> None:
    """Each piece that it takes gives it more time."""
    got = bytearray()

    def take(client: ssl.SSLSocket) -> None:
        while data := client.recv(4096):
            got.extend(data)

    tunnelled = Tunnelled(take)
    large = bytes(range(256)) * 10000

    def send() -> None:
        with tunnelled.program:
            tunnelled.program.sendall(large)

    thread = threading.Thread(target=send)
    thread.start()
    tunnelled.copy()
    thread.join()
    tunnelled.server.result(TIMEOUT)
    assert (got == large, tunnelled.relay.end) == (True, PeerEnd.TRUNCATED)
    assert tunnelled.reports == [True], "the program was gone, so that does not matter"
