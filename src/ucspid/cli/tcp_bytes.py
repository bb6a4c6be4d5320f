"""How many bytes clients have sent and been sent: the kernel's word for each TCP connection of this host.

The daemon has no clients' sockets, which are the programs'; but sock_diag(7) says of all what tcp(7) has as
TCP_INFO, to anybody in the same network namespace.
"""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ucspid.net.endpoint import endpoint

_SOCK_DIAG, _BY_FAMILY, _REQUEST_ALL, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_INFO = 2
"""INET_DIAG_INFO: the attribute with TCP_INFO."""
_STATES = 0xFFF & ~(1 << 6 | 1 << 10)
"""All but those that wait for time to pass, and those that listen."""
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
_REMOTE_PORT, _REMOTE = 6, slice(24, 40)
_MESSAGE_SIZE = 72
_ATTRIBUTE = struct.Struct("=HH")
_ACKED_AND_RECEIVED = struct.Struct("=QQ")
_ACKED_AT = 120
_BUFFER = 1 << 16
_TIMEOUT = 5.0


class Traffic(NamedTuple):
    """Bytes that came from a client, and that it has confirmed to have."""

    received: int
    sent: int


def traffic() -> dict[str, Traffic]:
    """Return it by the clients' address and port; nothing where the kernel does not say.

    A client with two connections from the same port, to two ports here, is left out.
    """
    found: dict[str, Traffic] = {}
    twice = set()
    try:
        for remote, counts in [*_of(socket.AF_INET), *_of(socket.AF_INET6)]:
            if remote in found:
                twice.add(remote)
            found[remote] = counts
    except OSError:
        return {}
    return {remote: counts for remote, counts in found.items() if remote not in twice}


def _of(family: int) -> Iterator[tuple[str, Traffic]]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _STATES)
    head = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST_ALL, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as sock:
        sock.settimeout(_TIMEOUT)
        sock.send(head + request)
        while True:
            data = memoryview(sock.recv(_BUFFER))
            while len(data) >= _HEADER.size:
                size, kind, *_ = _HEADER.unpack_from(data)
                if kind in (_DONE, _ERROR) or size < _HEADER.size:
                    return
                counts = _counts(data[_HEADER.size + _MESSAGE_SIZE : size])
                if kind == _BY_FAMILY and counts is not None:
                    yield _remote(family, data[_HEADER.size :]), counts
                data = data[(size + 3) & ~3 :]


def _remote(family: int, message: memoryview) -> str:
    packed = bytes(message[_REMOTE])
    ip = socket.inet_ntop(family, packed[:4] if family == socket.AF_INET else packed)
    return endpoint(ip, int.from_bytes(message[_REMOTE_PORT : _REMOTE_PORT + 2]))


def _counts(attributes: memoryview) -> Traffic | None:
    """Return the counts of TCP_INFO among the attributes; None if it is not there, or of an old kernel."""
    while len(attributes) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(attributes)
        if size < _ATTRIBUTE.size:
            return None
        value = attributes[_ATTRIBUTE.size : size]
        if kind == _INFO and len(value) >= _ACKED_AT + _ACKED_AND_RECEIVED.size:
            acked, received = _ACKED_AND_RECEIVED.unpack_from(value, _ACKED_AT)
            return Traffic(received, acked)
        attributes = attributes[(size + 3) & ~3 :]
    return None
