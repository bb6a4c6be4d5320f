"""What the small clients have in common: connect, send one request, show what comes back."""

from __future__ import annotations

import _socket
import os

from ucspid.tools.connecting import ConnectSettings, UnreachableError, connect
from ucspid.tools.messages import ToolError, write_line
from ucspid.tools.streams import PIECE, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ucspid.tools.streams import Converter

EXIT_NOT_SHOWN = 1
"""What came back could not be read or written."""


def argument(argv: list[bytes], place: int, default: bytes) -> bytes:
    """Return a word of the command line, or a default if there are not so many."""
    return argv[place] if place < len(argv) else default


def fetch(host: bytes, port: bytes, request: bytes, *through: Converter) -> int:
    """Send a request, write what comes back to descriptor 1, and return the exit code.

    It is 0 though nobody answers: the originals are pipelines, whose last command it is not that fails.
    """
    try:
        sock = connect(ConnectSettings(), host, port)
    except UnreachableError:
        return 0
    except ToolError as error:
        write_line(error.text)
        return 0
    return exchange(sock, request, *through)


def exchange(sock: _socket.socket, request: bytes, *through: Converter) -> int:
    """Send a request, write what comes back to descriptor 1, and return the exit code. Raises ToolError."""
    _send(sock, request)
    return show(sock, *through)


def show(sock: _socket.socket, *through: Converter) -> int:
    """Write what comes from a socket to descriptor 1, through converters, and return the exit code.

    A connection that breaks ends what is shown, as one that is closed.
    """
    while data := _receive(sock):
        for converter in through:
            data = converter.feed(data)
        write(data)
    rest = b""
    for converter in through:
        rest = converter.feed(rest) + converter.finish()
    write(rest)
    return 0


def write(data: bytes) -> None:
    """Write to descriptor 1. Raises ToolError, in the words of the originals' cat."""
    try:
        write_all(1, data)
    except OSError as error:
        raise cat_error(b"write error", error) from None


def cat_error(what: bytes, error: OSError) -> ToolError:
    """Return what cat would have said."""
    return ToolError(EXIT_NOT_SHOWN, b"cat: ", what, b": ", os.strerror(error.errno or 0).encode())


def _send(sock: _socket.socket, request: bytes) -> None:
    try:
        sock.sendall(request, _socket.MSG_NOSIGNAL)
    except OSError:
        return  # there may be an answer all the same


def _receive(sock: _socket.socket) -> bytes:
    try:
        return sock.recv(PIECE)
    except OSError:
        return b""


def become_descriptors(sock: _socket.socket, *descriptors: int) -> None:
    """Have a socket under other descriptors; it is not closed."""
    for descriptor in descriptors:
        os.dup2(sock.fileno(), descriptor)
