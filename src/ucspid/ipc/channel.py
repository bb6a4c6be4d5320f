"""One end of a SEQPACKET pair between two processes of the daemon.

Sends never block: what the kernel does not take waits in order. Received descriptors are
close-on-exec from birth (socket.recv_fds ignores its flags, so it is not used). Imported by
launchers: the standard library's socket and no more.
"""

import collections
import mmap
import os
import socket
import struct
from collections.abc import Iterable

from ucspid.errors import WireError
from ucspid.ipc.messages import MAX_PACKET

MAX_DESCRIPTORS = 250
"""Descriptors in one packet; the kernel's SCM_MAX_FD is 253."""

_CUT_OFF = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_RECEIVE = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_BUFFER = memoryview(mmap.mmap(-1, MAX_PACKET, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
"""For receiving, whatever the channel: no process of the daemon receives in two threads.

It takes as much memory as the longest packet that came, unlike a bytearray, which is filled with zeros."""
_SPACE = socket.CMSG_SPACE(4 * MAX_DESCRIPTORS)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def seqpacket(descriptor: int) -> socket.socket:
    """Return one end of a channel that another process had made, or an earlier image of this one."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)


class Channel:
    """Packets out and in, each with any descriptors that go with it."""

    __slots__ = ("_waiting", "sock")

    def __init__(self, sock: socket.socket, waiting: Iterable[tuple[bytes, tuple[int, ...]]] = ()) -> None:
        """Own the socket, and packets with their descriptors that are to be sent first."""
        self.sock = sock
        self._waiting = collections.deque(waiting)

    def fileno(self) -> int:
        """Return the descriptor, to poll on."""
        return self.sock.fileno()

    @property
    def backed_up(self) -> bool:
        """Whether packets wait for the other end to read."""
        return bool(self._waiting)

    @property
    def backlog(self) -> int:
        """How many packets wait for the other end to read."""
        return len(self._waiting)

    @property
    def waiting(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """The packets that wait for the other end to read, and their descriptors."""
        return list(self._waiting)

    def close(self) -> None:
        """Close the socket, and the descriptors of what was never taken."""
        self.sock.close()
        while self._waiting:
            close_all(self._waiting.popleft()[1])

    def send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send, or keep until flush(); the descriptors may be closed when this returns.

        A peer that is gone takes nothing and raises nothing: its end is seen when receiving.
        Raises OSError where the system has no memory or no descriptors for it.
        """
        if self._waiting or not self._send(packet, descriptors):
            self._waiting.append((packet, tuple(os.dup(descriptor) for descriptor in descriptors)))

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        while self._waiting and self._send(*self._waiting[0]):
            close_all(self._waiting.popleft()[1])

    def _send(self, packet: bytes, descriptors: tuple[int, ...]) -> bool:
        """Return False if the kernel takes nothing now."""
        try:
            if descriptors:
                rights = struct.pack(f"{len(descriptors)}i", *descriptors)
                self.sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _SEND)
            else:
                self.sock.send(packet, _SEND)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True
        return True

    def receive(self) -> "tuple[bytes, list[int]] | None":
        """Return a packet and its descriptors, or None if there is none now.

        An empty packet is the end: the peer is gone. Raises WireError for a packet that was
        cut off; the descriptors that came with it are closed.
        """
        return self._receive(_SPACE)

    def receive_packet(self) -> "bytes | None":
        """Receive from a peer that is not trusted and has no descriptors to give, and take none from it.

        Returns as receive() does. Raises WireError also where descriptors came; the kernel
        has closed them.
        """
        received = self._receive(0)
        return None if received is None else received[0]

    def _receive(self, space: int) -> "tuple[bytes, list[int]] | None":
        try:
            size, ancillary, flags, _ = self.sock.recvmsg_into([_BUFFER], space, _RECEIVE)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The peer went without reading all that it was sent. The kernel says so once, and
            # before it gives what the peer had said.
            return self._receive(space)
        descriptors: list[int] = []
        for _level, _kind, data in ancillary:
            descriptors += struct.unpack(f"{len(data) // 4}i", data)
        if flags & _CUT_OFF:
            close_all(descriptors)
            raise WireError("a packet was cut off: too long, or with descriptors for which there was no room")
        return bytes(_BUFFER[:size]), descriptors


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
