"""A client's side of a TLS connection: what goes between its socket and the memory that TLS is done in.

Never blocks, and does not depend on the descriptor's mode, which a program may share.
"""

import contextlib
import socket
import ssl

from ucspid.tls.program_side import CHUNK

_BUFFER = memoryview(bytearray(CHUNK))
"""What was received last: TLS takes all of it at once."""

_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class ClientSide:
    """Encrypted data, both ways."""

    __slots__ = (
        "broken", "ended", "full", "incoming", "outgoing", "progress", "silent", "sock", "taken", "unsent",
    )  # fmt: skip

    def __init__(self, sock: socket.socket) -> None:
        """Use a connected socket, and own it.

        It is sent whole chunks: Nagle's algorithm would have the last of them wait for the peer's ACK.
        """
        self.sock = sock
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = ssl.MemoryBIO()
        """What TLS reads."""
        self.outgoing = ssl.MemoryBIO()
        """What TLS writes."""
        self.unsent = b""
        """What the kernel has not taken yet of what TLS wrote before."""
        self.full = False
        """Whether as much has come as is read at a time: there may be more."""
        self.ended = False
        """Whether the peer's data have ended."""
        self.silent = False
        """Whether it is shut for writing."""
        self.broken: str | None = None
        """Why it is of no more use, once it is not."""
        self.progress = 0
        """Grows with each piece that the peer has sent or taken."""
        self.taken = 0
        """Bytes that the kernel has taken for the peer."""

    def receive(self, *, wanted: bool) -> bool:
        """Take what has come; what is not wanted is dropped. Return whether there was something new."""
        self.full = False
        try:
            size = self.sock.recv_into(_BUFFER, CHUNK, _NOW)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            self._break(problem)
            return True
        self.progress += 1
        if not size:
            self.ended = True
            self.incoming.write_eof()
        elif wanted:
            self.incoming.write(_BUFFER[:size])
            self.full = size == CHUNK
        return True

    def send(self) -> None:
        """Send what TLS has written, as far as the kernel takes it."""
        data = self.unsent
        if not data:
            if not self.outgoing.pending:
                return
            data = self.unsent = self.outgoing.read()
        try:
            sent = self.sock.send(data, _NOW)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as problem:
            self._break(problem)
            return
        self.unsent = data[sent:]  # a copy: what is sent needs no memory any more
        self.progress += 1
        self.taken += sent

    def shut(self) -> None:
        """Say that nothing more is sent, when all is."""
        if not (self.silent or self.unsent or self.outgoing.pending):
            self.silent = True
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def _break(self, problem: OSError) -> None:
        self.broken = problem.strerror or str(problem)
        self.ended = True
        self.unsent = b""
