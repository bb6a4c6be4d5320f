"""Asks an ident server (RFC 1413) for the user at the other end, as the originals do."""

from __future__ import annotations

import _socket
import select
import time

from ucspid.tools.sockets import finish_connecting, open_socket, socket_address, wait

PORT = 113
COLONS = 3
"""In a reply: before the user's name."""
MAX_BYTES = 257
"""Of the name."""
_BLANKS = b" \t\r"


def ask(remote: tuple[bytes, int], local: tuple[bytes, int], scope: int, seconds: int) -> bytes | None:
    """Return the user's name, empty if the server knows none; None if there is no answer in time.

    remote and local are the address, of 4 or 16 bytes, and the port of a connection.
    """
    deadline = time.monotonic() + seconds
    try:
        sock = open_socket(remote[0])
    except OSError:
        return None
    try:
        sock.bind(socket_address(local[0], 0, scope))
        finish_connecting(sock, socket_address(remote[0], PORT, scope), seconds)
        wait(sock, select.POLLOUT, deadline)
        sock.send(b"%d , %d\r\n" % (remote[1], local[1]))
        return _read_answer(sock, deadline)
    except OSError:
        return None
    finally:
        sock.close()


class IdentAnswer:
    """The answer of a server, in whatever pieces it comes. Pure."""

    def __init__(self) -> None:
        """Begin."""
        self.name = b""
        self.complete = False
        self._colons = 0

    def feed(self, data: bytes) -> None:
        """Take a piece; blanks do not count, and what is after the end does not either."""
        for byte in data:
            if self.complete or byte in _BLANKS:
                continue
            if byte == ord("\n"):
                self.complete = True
            elif self._colons < COLONS:
                self._colons += byte == ord(":")
            else:
                self.name += bytes((byte,))
                self.complete = len(self.name) >= MAX_BYTES


def _read_answer(sock: _socket.socket, deadline: float) -> bytes | None:
    answer = IdentAnswer()
    while not answer.complete:
        wait(sock, select.POLLIN, deadline)
        piece = sock.recv(128)
        if not piece:
            return None
        answer.feed(piece)
    return answer.name
