import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from ucspid.admission.listener import Listener, Reserve, send_away


def listen(family: int, host: str, *, v6only: bool = True) -> Listener:
    sock = socket.socket(family)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((host, 0))
    sock.listen()
    return Listener(7, sock.detach())


@contextmanager
def connected(listener: Listener, host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a client's end and the accepted end of a connection."""
    with listener.sock, socket.create_connection((host, listener.sock.getsockname()[1]), 10) as client:
        accepted, _ = listener.sock.accept()
        with accepted:
            yield client, accepted


def everything(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("family", "host", "v6only", "text"),
    [
        (socket.AF_INET, "127.0.0.1", True, "127.0.0.1:{}"),
        (socket.AF_INET, "0.0.0.0", True, "0.0.0.0:{}"),
        (socket.AF_INET6, "::1", True, "[::1]:{}"),
        (socket.AF_INET6, "::", True, "[::]:{}"),
        (socket.AF_INET6, "::", False, "*:{}"),
    ],
)
def test_a_listener_is_shown_as_the_file_has_it(family: int, host: str, v6only: bool, text: str) -> None:
    listener = listen(family, host, v6only=v6only)
    with listener.sock:
        assert listener.text == text.format(listener.sock.getsockname()[1])


@pytest.mark.parametrize(
    ("family", "bound", "host"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.2"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
        (socket.AF_INET6, "::", "127.0.0.3"),
    ],
)
def test_a_program_gets_the_address_that_its_client_connected_to(family: int, bound: str, host: str) -> None:
    listener = listen(family, bound, v6only=":" in host)
    with connected(listener, host) as (client, accepted):
        port = client.getpeername()[1]
        assert listener.end(accepted.fileno()) == (host, port)


@pytest.mark.parametrize("sent", [b"", b"EHLO me\r\n", b"x" * 4096])
def test_who_is_sent_away_gets_the_message_and_an_end_in_order(sent: bytes) -> None:
    with connected(listen(socket.AF_INET, "127.0.0.1"), "127.0.0.1") as (client, accepted):
        client.sendall(sent)
        send_away(accepted.detach(), b"421 later\r\n")
        assert everything(client) == b"421 later\r\n"


def test_a_client_that_does_not_read_does_not_hold_up_its_being_sent_away() -> None:
    with connected(listen(socket.AF_INET, "127.0.0.1"), "127.0.0.1") as (_, accepted):
        with suppress(BlockingIOError):
            while accepted.send(bytes(65536), socket.MSG_DONTWAIT):
                pass
        send_away(accepted.detach(), b"421 later\r\n")
        assert accepted.fileno() == -1


def test_a_client_that_is_gone_is_sent_away_all_the_same() -> None:
    with connected(listen(socket.AF_INET, "127.0.0.1"), "127.0.0.1") as (client, accepted):
        client.sendall(b"x")
        client.close()
        send_away(accepted.detach(), b"421 later\r\n")
        send_away(socket.socket().detach(), b"421 later\r\n")
        assert accepted.fileno() == -1


@contextmanager
def limit(descriptors: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def lowest_free() -> int:
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_the_reserve_sends_one_away_when_there_are_no_descriptors() -> None:
    listener = listen(socket.AF_INET, "127.0.0.1")
    reserve = Reserve()
    with listener.sock, socket.create_connection(listener.sock.getsockname()) as client:
        with limit(lowest_free()):
            with pytest.raises(OSError, match="Too many open files"):
                listener.sock.accept()
            assert reserve.send_one_away(listener) == f"127.0.0.1:{client.getsockname()[1]}"
        assert client.recv(1) == b""


def test_an_ipv4_client_that_is_sent_away_is_shown_as_ipv4() -> None:
    listener = listen(socket.AF_INET6, "::", v6only=False)
    with listener.sock, socket.create_connection(("127.0.0.1", listener.sock.getsockname()[1])) as client:
        assert Reserve().send_one_away(listener) == f"127.0.0.1:{client.getsockname()[1]}"


def test_the_reserve_is_there_again_and_again() -> None:
    listener = listen(socket.AF_INET, "127.0.0.1")
    listener.sock.setblocking(False)
    reserve = Reserve()
    with listener.sock:
        for _ in range(3):
            with socket.create_connection(listener.sock.getsockname()), limit(lowest_free()):
                assert reserve.send_one_away(listener) is not None
            assert reserve.send_one_away(listener) is None


def test_a_reserve_that_could_not_be_had_again_closes_nothing_of_others() -> None:
    listener = listen(socket.AF_INET, "127.0.0.1")
    listener.sock.setblocking(False)
    with listener.sock:
        before = lowest_free()
        reserve = Reserve()
        with limit(before):
            assert reserve.send_one_away(listener) is None
        others = os.dup(0)
        assert others == before
        assert reserve.send_one_away(listener) is None
        os.fstat(others)
        with socket.create_connection(listener.sock.getsockname()), limit(lowest_free()):
            assert reserve.send_one_away(listener) is not None
        os.close(others)
