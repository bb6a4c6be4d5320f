"""A listening socket in the event loop, and how a client that gets no program is sent away."""

import contextlib
import os
import select
import socket
import sys

from ucspid.net.address import plain
from ucspid.net.endpoint import Endpoint, endpoint

_POLITE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_DRAIN = 4096
_WAITING = slice(24, 28)
"""Where TCP_INFO has tcpi_unacked: of a listening socket, the length of its queue."""


class Listener:
    """A listening socket, with what is the same for all connections that it accepts."""

    __slots__ = ("_end", "_poll", "armed", "number", "sock", "text")

    def __init__(self, number: int, descriptor: int) -> None:
        """Own the descriptor of a listening TCP socket; number is the master's name for it."""
        self.number = number
        self.sock = socket.socket(fileno=descriptor)
        self.armed = False
        self._poll: select.poll | None = None
        """Made for the first client: most listeners of many have none for long."""
        ip, port = self.sock.getsockname()[:2]
        wildcard = ip in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        self._end = None if wildcard else (ip, port)
        dual = wildcard and ":" in ip and not self.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self.text = str(Endpoint("" if dual else ip, port))

    def accept(self) -> tuple[int, tuple[str, int]]:
        """Accept a connection: return its descriptor, blocking and close-on-exec, and the client's end.

        What the socket module's accept() adds costs more than the system call, and nobody here
        needs a socket object. Raises OSError.
        """
        descriptor, address = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        return descriptor, address[:2]

    @property
    def waited_for(self) -> bool:
        """Whether another client waits: a tenth of the price of an accept(2) that finds none."""
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def backlog(self) -> int:
        """How many clients wait in the kernel, by its word for it: tcp(7), TCP_INFO."""
        try:
            information = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.stop)
        except OSError:
            return 0  # it is closed, or no TCP
        return int.from_bytes(information[_WAITING], sys.byteorder)

    def end(self, descriptor: int) -> tuple[str, int]:
        """Return the address and port at which a connection came in."""
        if self._end is not None:
            return self._end
        sock = socket.socket(self.sock.family, self.sock.type, self.sock.proto, descriptor)
        try:
            ip, port = sock.getsockname()[:2]
        finally:
            sock.detach()
        return plain(ip), port


class Reserve:
    """A reserved descriptor, so that a client can be closed when no other descriptor is free."""

    def __init__(self) -> None:
        """Take one."""
        self.descriptor: int | None = None
        self._take()

    def send_one_away(self, listener: socket.socket) -> str | None:
        """Accept one client and close it; return its address, or None if there was none.

        Another process may take the descriptor that is closed here, if the whole system has no
        descriptors left; then there is none in reserve until one can be opened again.
        """
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        try:
            sock, address = listener.accept()
        except OSError:
            return None
        else:
            sock.close()
            return endpoint(*address[:2])
        finally:
            self._take()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            self.descriptor = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def send_away(descriptor: int, message: bytes) -> None:
    """Close a client's connection, after the message, if any, without ever waiting.

    What the client has sent so far is read first: a close with unread data would be a reset,
    and a reset may overtake the message.
    """
    if not message:
        os.close(descriptor)
        return
    with socket.socket(fileno=descriptor) as sock:
        with contextlib.suppress(OSError):
            sock.recv(_DRAIN, socket.MSG_DONTWAIT)
        with contextlib.suppress(OSError):
            sock.send(message, _POLITE)
            sock.shutdown(socket.SHUT_WR)
