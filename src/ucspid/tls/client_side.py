"""A client's side of a TLS connection: what goes between its socket and the memory that TLS is done in.

Never blocks, and does not depend on the descriptor's mode, which a program may share.
"""

import contextlib
import socket
import ssl

from ucspid.tls.program_side import CHUNK

_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class ClientSide:
    """Encrypted data, both ways."""

    __slots__ = ("broken", "ended", "incoming", "outgoing", "progress", "silent", "sock", "taken", "unsent")

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
        self.unsent = memoryview(b"")
        """What the kernel has not taken yet of what TLS wrote before."""
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

    def receive(self, *, wanted: bool) -> None:
        """Take what has come; what is not wanted is dropped."""
        try:
            data = self.sock.recv(CHUNK, _NOW)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as problem:
            self._break(problem)
            return
        self.progress += 1
        if not data:
            self.ended = True
            self.incoming.write_eof()
        elif wanted:
            self.incoming.write(data)

    def send(self) -> None:
        """Send what TLS has written, as far as the kernel takes it."""
        if not self.unsent:
            if not self.outgoing.pending:
                return
            self.unsent = memoryview(self.outgoing.read())
        try:
            sent = self.sock.send(self.unsent, _NOW)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as problem:
            self._break(problem)
            return
        self.unsent = self.unsent[sent:]
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
        self.unsent = memoryview(b"")
