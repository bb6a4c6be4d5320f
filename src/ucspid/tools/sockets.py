"""Sockets for connecting, and addresses as they name them: 4 or 16 bytes, IPv4 or IPv6."""

from __future__ import annotations

import _socket
import errno
import os
import select
import time

ANY = bytes(4)
"""The local IPv4 address that stands for whichever fits."""
MAX_POLL_SECONDS = 1000
"""Of one call; poll(2) takes no more than 24 days."""


def packed_ipv6(text: bytes) -> bytes | None:
    """Return the 16 bytes of an IPv6 address as text, None if it is not one; a scope is cut off."""
    if b":" not in text:
        return None
    try:
        return _socket.inet_pton(_socket.AF_INET6, text.partition(b"%")[0].decode("ascii"))
    except (OSError, UnicodeError, ValueError):
        return None


def interface_number(name: bytes) -> int:
    """Return the number of a network interface. Raises OSError if there is none of this name."""
    return _socket.if_nametoindex(os.fsdecode(name))


def text_of(address: bytes) -> bytes:
    """Return an address as text."""
    family = _socket.AF_INET if len(address) == len(ANY) else _socket.AF_INET6
    return _socket.inet_ntop(family, address).encode()


def socket_address(address: bytes, port: int, scope: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return an address and a port as sockets take them."""
    text = text_of(address).decode()
    return (text, port) if len(address) == len(ANY) else (text, port, 0, scope)


def open_socket(address: bytes) -> _socket.socket:
    """Return a socket for connecting to an address, which does not block. Raises OSError."""
    family = _socket.AF_INET if len(address) == len(ANY) else _socket.AF_INET6
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def wait(sock: _socket.socket, event: int, deadline: float) -> None:
    """Wait for an event of poll(2) until a time of time.monotonic(). Raises TimeoutError."""
    poll = select.poll()
    poll.register(sock.fileno(), event)
    while True:
        seconds = max(0.0, deadline - time.monotonic())
        if poll.poll(min(seconds, MAX_POLL_SECONDS) * 1000):
            return
        if seconds <= MAX_POLL_SECONDS:
            raise TimeoutError(errno.ETIMEDOUT, "timed out")


def finish_connecting(sock: _socket.socket, address: tuple[object, ...], seconds: float) -> None:
    """Connect, and have the socket block. Raises OSError, after so many seconds too."""
    failure = sock.connect_ex(address)
    if failure == errno.EINPROGRESS:
        wait(sock, select.POLLOUT, time.monotonic() + seconds)
        failure = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))
    sock.setblocking(True)


def packed(ip: str) -> bytes:
    """Return the 4 or 16 bytes of an address as sockets name it."""
    ip = ip.partition("%")[0]
    return _socket.inet_pton(_socket.AF_INET6 if ":" in ip else _socket.AF_INET, ip)
