"""A small QMTP client for the tests: https://cr.yp.to/proto/qmtp.txt."""

import io
import socket

MAX_RESPONSE = 1000


def send(
    peer: socket.socket | tuple[str, int], message: bytes, sender: str, recipients: list[str]
) -> list[str]:
    """Send one message whose lines end with line feeds; return the response to each recipient.

    peer is a connected socket, which stays open for the next message, or the address of a
    server. A response is K, Z or D (accepted, temporary, permanent) and a text. Raises
    OSError where the connection fails, EOFError where it ends, ValueError for no netstring.
    """
    if isinstance(peer, tuple):
        with socket.create_connection(peer, timeout=10) as connected:
            return send(connected, message, sender, recipients)
    peer.sendall(package(b"\n" + message, sender, recipients))
    with peer.makefile("rb", buffering=0) as stream:
        return [read_netstring(stream).decode("ascii") for _ in recipients]


def package(encoded: bytes, sender: str, recipients: list[str]) -> bytes:
    """Return what the client sends for a message encoded already: its first byte says how lines end."""
    envelope = b"".join(netstring(recipient.encode()) for recipient in recipients)
    return netstring(encoded) + netstring(sender.encode()) + netstring(envelope)


def netstring(data: bytes) -> bytes:
    """Return the data as a netstring."""
    return b"%d:%b," % (len(data), data)


def read_netstring(stream: io.RawIOBase | io.BufferedIOBase) -> bytes:
    """Read one netstring, and not a byte more."""
    length = b""
    while (byte := _exactly(stream, 1)) != b":":
        length += byte
        if not byte.isdigit() or int(length) > MAX_RESPONSE:
            raise ValueError(f"not the length of a response: {length!r}")
    data = _exactly(stream, int(length))
    if _exactly(stream, 1) != b",":
        raise ValueError("no comma after a response")
    return data


def _exactly(stream: io.RawIOBase | io.BufferedIOBase, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
