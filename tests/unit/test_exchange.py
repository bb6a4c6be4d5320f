"""What a client of the tests gets from a peer that is gone before it has heard everything."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from daemon import TIMEOUT, exchange

RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER: close(2) resets the connection."""

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A client, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), TIMEOUT)
        with closing(client), closing(listener.accept()[0]) as peer:
            peer.settimeout(TIMEOUT)
            yield client, peer


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()


@pytest.mark.parametrize("data", [b"", b"unheard"])
def test_what_was_answered_before_a_reset_is_returned(pair: Pair, data: bytes) -> None:
    client, peer = pair
    peer.sendall(b"answer")
    assert client.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL) == b"answer"
    reset(peer)
    assert exchange(client, data) == b"answer"


@pytest.mark.parametrize("data", [b"", b"unheard"])
def test_a_peer_that_answers_need_not_read(pair: Pair, data: bytes) -> None:
    client, peer = pair
    client.sendall(b"this is never read")
    peer.sendall(b"answer")
    assert client.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL) == b"answer"
    peer.close()
    assert exchange(client, data) == b"answer"


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_reset_without_an_answer_is_one_error_whatever_the_kernel_calls_it(pair: Pair, data: bytes) -> None:
    client, peer = pair
    reset(peer)
    with pytest.raises(ConnectionResetError) as caught:
        exchange(client, data)
    assert caught.value.errno == errno.ECONNRESET
    assert str(caught.value).endswith(os.strerror(errno.ECONNRESET))


def test_a_peer_that_hangs_is_not_taken_for_one_that_is_gone(pair: Pair) -> None:
    client, _peer = pair
    client.settimeout(0.01)
    with pytest.raises(TimeoutError):
        exchange(client, b"x")
