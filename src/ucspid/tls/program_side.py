"""A program's side of a TLS connection: our end of the pair that the program has in place of its client.

Never blocks, and does not depend on the descriptor's mode.
"""

import contextlib
import socket

RECORD = 16 * 1024
"""Bytes that are read from a program at a time: as many as TLS puts into one record at most.

A client that reads nothing costs what waits for it, and OpenSSL's memory, which keeps a third more than was
ever in it.
"""

CHUNK = 2 * (RECORD + 22)
"""Bytes that are read from the network at a time: two full records of TLS 1.3, where a client sends such.

With less, the second would be cut off, and be asked for in vain.
"""

READ, WRITE, HANG_UP = 1, 4, 16
"""What is waited for: as select.POLLIN, POLLOUT and POLLHUP, and those of epoll(7)."""

_BUFFER = memoryview(bytearray(RECORD))
"""What a program has sent last: it is encrypted at once."""

_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class ProgramSide:
    """What goes to a program, and what comes from it."""

    __slots__ = ("ended", "gone", "shut", "sock", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        """Use our end, and own it."""
        self.sock = sock
        self.waiting = b""
        """What the program has not taken yet."""
        self.ended = False
        """Whether the program has sent its last."""
        self.gone = False
        """Whether it takes nothing more, either."""
        self.shut = False
        """Whether it was sent the end of what the client sends."""

    def take(self, data: memoryview) -> None:
        """Send it data, since it has taken all that came before, and keep what it does not take."""
        if self.gone:
            return
        try:
            taken = self.sock.send(data, _NOW)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError:
            self._lose()
            return
        if taken < len(data):
            self.waiting = bytes(data[taken:])

    def deliver(self, *, ended: bool) -> bool:
        """Send it what waits, and then, if the client sends no more, the end; return whether it moved."""
        if self.waiting:
            try:
                taken = self.sock.send(self.waiting, _NOW)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._lose()
                return True
            self.waiting = self.waiting[taken:]
            return True
        if ended and not self.shut:
            self.shut = True
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
            return True
        return False

    def receive(self) -> memoryview | None:
        """Return what it has sent, until the next call: empty at the end, None if there is nothing now."""
        try:
            size = self.sock.recv_into(_BUFFER, RECORD, _NOW)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            size = 0  # it ended without reading all that it was sent
        if not size:
            self.ended = True
            if not (self.shut or self.gone):
                self._look()
        return _BUFFER[:size]

    def _look(self) -> None:
        """Lose it if it has not only shut its side for writing."""
        try:
            self.sock.send(b"", _NOW)
        except OSError:
            self._lose()

    def _lose(self) -> None:
        self.gone = True
        self.waiting = b""
