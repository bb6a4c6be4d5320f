"""A listening socket in the event loop, and how a client that gets no program is sent away.

A Unix socket has clients in whose place of an address stands who they are: see net.unix.
"""

import contextlib
import os
import select
import socket
import struct
import sys

from ucspid.net.address import plain
from ucspid.net.endpoint import Endpoint, endpoint
from ucspid.net.unix import PREFIX, UnixClient

_POLITE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_DRAIN = 4096
_WAITING = slice(24, 28)
"""Where TCP_INFO has tcpi_unacked: of a listening socket, the length of its queue."""

_CREDENTIALS = struct.Struct("iII")
"""SO_PEERCRED: a process, its user and its group."""


class Listener:
    """A listening socket, with what is the same for all connections that it accepts."""

    __slots__ = ("_end", "_poll", "armed", "number", "sock", "text")

    def __init__(self, number: int, descriptor: int) -> None:
        """Own the descriptor of a listening socket; number is the master's name for it."""
        self.number = number
        self.sock = socket.socket(fileno=descriptor)
        self.armed = False
        self._poll: select.poll | None = None
        """Made for the first client: most listeners of many have none for long."""
        self._end, self.text = self._place()

    def _place(self) -> tuple[tuple[str, int] | None, str]:
        """Return where connections come in, if that is the same for all, and where it listens, as text."""
        ip, port = self.sock.getsockname()[:2]
        wildcard = ip in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        dual = wildcard and ":" in ip and not self.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return None if wildcard else (ip, port), str(Endpoint("" if dual else ip, port))

    def accept(self) -> tuple[int, tuple[str, int]]:
        """Accept a connection: return its descriptor, blocking and close-on-exec, and the client's end.

        What the socket module's accept() adds costs more than the system call, and nobody here
        needs a socket object. Raises OSError.
        """
        descriptor, address = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        return descriptor, (plain(address[0]), address[1])

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


class UnixListener(Listener):
    """A listening Unix socket. The end at which connections come in is unix: and its name, and port 0."""

    __slots__ = ()

    def _place(self) -> tuple[tuple[str, int] | None, str]:
        name = self.sock.getsockname()
        text = os.fsdecode(name) if isinstance(name, str) else f"@{os.fsdecode(name[1:])}"
        return (f"{PREFIX}{text}", 0), f"{PREFIX}{text}"

    def accept(self) -> tuple[int, tuple[str, int]]:
        """Accept a connection: return its descriptor, blocking and close-on-exec, and who the client is."""
        descriptor, _ = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - see Listener
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
        try:
            found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except BaseException:
            sock.close()
            raise
        sock.detach()
        pid, uid, gid = _CREDENTIALS.unpack(found)
        return descriptor, (UnixClient.of(uid, gid, pid), 0)

    @property
    def backlog(self) -> int:
        """Whether somebody waits in the kernel, as 1: it does not say how many."""
        return int(self.sock.fileno() >= 0 and self.waited_for)


def listener_of(number: int, descriptor: int) -> Listener:
    """Return a listener; it owns the descriptor of a listening socket."""
    sock = socket.socket(fileno=descriptor)
    family = sock.family
    sock.detach()
    return (UnixListener if family == socket.AF_UNIX else Listener)(number, descriptor)


class Reserve:
    """A reserved descriptor, so that a client can be closed when no other descriptor is free."""

    def __init__(self) -> None:
        """Take one."""
        self.descriptor: int | None = None
        self._take()

    def send_one_away(self, listener: Listener) -> str | None:
        """Accept one client and close it; return its address, or None if there was none.

        Another process may take the descriptor that is closed here, if the whole system has no
        descriptors left; then there is none in reserve until one can be opened again.
        """
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        try:
            descriptor, address = listener.accept()
        except OSError:
            return None
        else:
            os.close(descriptor)
            return endpoint(*address)
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
