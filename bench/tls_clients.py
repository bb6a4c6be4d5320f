"""Clients with TLS: processes that shake hands, talk to what tls_program.c answers, and count.

Each works through what it is asked for one by one, so there are as many connections at once as processes.
Their sockets have TCP_NODELAY: Nagle's algorithm and delayed ACKs would be all that is seen. Their CPU is not
counted.
"""

import contextlib
import multiprocessing
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from bench.load import BadLoadError
from bench.server import LOOPBACK

NAME = "bench.example"
"""What the server's certificate is for."""

CHUNK = 65536
TIMEOUT = 30.0
"""Seconds that any single step of a connection may take."""
TASK_TIMEOUT = 300.0
"""Seconds that all that a process is asked for at once may take."""

_HELLO = b"hello"
_MORE_THAN_ANYBODY_READS = 2**40
_NICE = 10

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Place:
    """A server: its port, and the file with the authority of its certificate."""

    port: int
    authority: str


@dataclass(frozen=True)
class Shaken:
    """What came of handshakes one after another: how many, and in how many seconds."""

    count: int
    seconds: float
    resumed: int


Connecting = Callable[[ssl.SSLSession | None], ssl.SSLSocket]

TURNS = 8
"""Questions and answers of a dialogue, as of a client that delivers a mail."""

_held: list[ssl.SSLSocket] = []
"""Of a client's process: connections that are open between two things that it is asked for."""


def _connecting(place: Place) -> Connecting:
    context = ssl.create_default_context(cafile=place.authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    def connect(session: ssl.SSLSession | None) -> ssl.SSLSocket:
        sock = socket.create_connection((LOOPBACK, place.port), TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(sock, server_hostname=NAME, session=session)

    return connect


def _request(what: bytes, count: int) -> bytes:
    return what + struct.pack("<Q", count)


def _read(sock: ssl.SSLSocket, count: int) -> None:
    """Read so many bytes. Raises ConnectionError if they end before."""
    buffer = bytearray(min(count, CHUNK))
    while count:
        got = sock.recv_into(buffer, min(count, CHUNK))
        if not got:
            raise ConnectionError("the connection has ended")
        count -= got


def _echo(sock: ssl.SSLSocket) -> None:
    sock.sendall(_request(b"e", len(_HELLO)) + _HELLO)
    _read(sock, len(_HELLO))


def _end(sock: ssl.SSLSocket) -> None:
    """End as TLS wants it; a server that does not answer with its own end is forgiven."""
    with contextlib.suppress(OSError):
        sock.unwrap()
    sock.close()


def shake_hands(place: Place, count: int, *, resume: bool) -> Shaken:
    """Connect so many times, each with an echo; resume: with the ticket of the connection before."""
    connect = _connecting(place)
    session: ssl.SSLSession | None = None
    if resume:
        session = _one(connect, None)[0]
    resumed = 0
    began = time.monotonic()
    for _ in range(count):
        following, was_resumed = _one(connect, session)
        resumed += was_resumed
        session = following if resume else None
    return Shaken(count, time.monotonic() - began, resumed)


def _one(connect: Connecting, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
    sock = connect(session)
    _echo(sock)
    found = sock.session, bool(sock.session_reused)
    _end(sock)
    return found


def mail_sessions(place: Place, count: int) -> list[float]:
    """Hold so many short dialogues in turn; return what each took from connect to end, in seconds."""
    connect = _connecting(place)
    took = []
    for _ in range(count):
        began = time.monotonic()
        sock = connect(None)
        for _turn in range(TURNS):
            _echo(sock)
        _end(sock)
        took.append(time.monotonic() - began)
    return took


def storm(place: Place, until: float) -> Shaken:
    """Shake hands as fast as the server does, until a time of the monotonic clock.

    With less than the usual priority: it is to fill the server's queue, not to take the CPU away from it.
    """
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    connect = _connecting(place)
    began, count = time.monotonic(), 0
    while time.monotonic() < until:
        _one(connect, None)
        count += 1
    return Shaken(count, time.monotonic() - began, 0)


def upload_and_download(place: Place, size: int) -> tuple[float, float]:
    """Send so many bytes, receive as many, on one connection; return the seconds of each."""
    sock = _connecting(place)(None)
    _echo(sock)
    chunk = memoryview(bytes(CHUNK))
    began = time.monotonic()
    sock.sendall(_request(b"u", size))
    for start in range(0, size, CHUNK):
        sock.sendall(chunk[: size - start])
    _read(sock, 1)
    turned = time.monotonic()
    sock.sendall(_request(b"d", size))
    _read(sock, size)
    ended = time.monotonic()
    _end(sock)
    return turned - began, ended - turned


def hold(place: Place, count: int) -> None:
    """Have so many more connections, each with an echo."""
    connect = _connecting(place)
    for _ in range(count):
        _held.append(connect(None))
        _echo(_held[-1])


def stall(count: int) -> None:
    """Ask on so many of those that are held for more than is ever read."""
    for sock in _held[:count]:
        sock.sendall(_request(b"d", _MORE_THAN_ANYBODY_READS))


def drop() -> None:
    """End those that are held."""
    while _held:
        _held.pop().close()


def echo_until(seconds: float, pause: float) -> list[float]:
    """Have the held connections echo in turn, with a pause between two; return what each took, in seconds."""
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for sock in _held:
            began = time.monotonic()
            _echo(sock)
            took.append(time.monotonic() - began)
            select.select((), (), (), pause)
    return took


class TlsClients:
    """Processes that do what is asked of them; what one holds stays with it."""

    def __init__(self, pools: Sequence[ProcessPoolExecutor]) -> None:
        """Use one process of each pool."""
        self._pools = pools

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._pools)

    def split(self, first: int) -> tuple["TlsClients", "TlsClients"]:
        """Return the first so many, and the others."""
        return TlsClients(self._pools[:first]), TlsClients(self._pools[first:])

    def begin(
        self, what: Callable[Concatenate[P], R], *arguments: P.args, **options: P.kwargs
    ) -> Callable[[], list[R]]:
        """Have each do the same, at the same time; return what waits for all and returns what each returned.

        That raises BadLoadError if a connection failed.
        """
        return partial(_results, [pool.submit(what, *arguments, **options) for pool in self._pools])

    def each(self, what: Callable[Concatenate[P], R], *arguments: P.args, **options: P.kwargs) -> list[R]:
        """Do as begin(), and wait."""
        return self.begin(what, *arguments, **options)()


def _results(futures: list[Future[R]]) -> list[R]:
    try:
        return [future.result(TASK_TIMEOUT) for future in futures]
    except OSError as problem:  # also of ssl, and a timeout
        raise BadLoadError(f"a TLS client failed: {problem}") from problem


@contextlib.contextmanager
def tls_clients(count: int) -> Iterator[TlsClients]:
    """Have so many processes."""
    context = multiprocessing.get_context("forkserver")
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(count)]
        yield TlsClients(pools)
