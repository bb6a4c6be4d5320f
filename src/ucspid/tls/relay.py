"""One TLS connection, copied between its socket and a program's: handshake, data both ways, the ends.

Never blocks. Whoever owns a relay waits until a descriptor is ready for what wants() says, then calls
turn(). TLS is done in memory (ssl.SSLObject), not on the socket: so it is known at each moment what has come
and what was sent, and one direction can be closed while the other goes on, which SSLSocket cannot do
without losing data.

Bounds: each direction holds at most CHUNK bytes, and what TLS adds to that. Nothing is read from a side while
the other has not taken what was read before.
"""

import contextlib
import enum
import socket
import ssl

from ucspid.tls.program_side import CHUNK, READ, WRITE, ProgramSide

ROUNDS = 4
"""How often a turn copies before others get theirs."""

_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class PeerEnd(enum.IntEnum):
    """How a connection ended, as far as its peer goes."""

    CLOSED = 0
    """The peer has said that it sends no more (close_notify)."""
    TRUNCATED = 1
    """The peer's data ended without that: it may have been cut off by somebody else."""
    VANISHED = 2
    """The connection broke."""
    BROKEN = 3
    """The peer has sent what is not TLS, or what TLS forbids."""


class Relay:
    """One connection: each turn() goes on with the handshake, and then with the data of a program."""

    __slots__ = (
        "_encrypted", "_incoming", "_notified", "_outgoing", "_silent", "_sock", "_socket_ended",
        "_unwritten", "done", "end", "problem", "program", "progress", "received", "sent", "shaken", "tls",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        program: socket.socket,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
    ) -> None:
        """Begin a handshake on a connected socket, as the server, or as the client of a server of a name.

        program is one end of a socket pair, of which a program has the other. Both sockets are the
        relay's from now on.
        """
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server, server_hostname)
        self._sock = sock
        self.program = ProgramSide(program)
        self.shaken = False
        """Whether the handshake is done."""
        self.end: PeerEnd | None = None
        """How the peer's data ended, once it has."""
        self.problem = ""
        """What was wrong, in words, where end is VANISHED or BROKEN."""
        self.done = False
        """Whether there is nothing more to copy: close() is next."""
        self.received = self.sent = 0
        """Bytes of the program's, each way."""
        self.progress = 0
        """Grows with each piece that the peer has sent or taken."""
        self._encrypted = memoryview(b"")
        self._unwritten = memoryview(b"")
        """What the program has sent and TLS has not taken yet: it takes a record at a time."""
        self._socket_ended = False
        self._silent = False
        """Whether the connection is shut for writing."""
        self._notified = False

    def wants(self) -> tuple[int, int]:
        """Return what to wait for on the connection, and on the program's side: READ, WRITE, both or nothing.

        Where it is nothing, the descriptor must not be waited for at all: a hang-up is reported to
        everybody who waits. In the handshake, the program's is waited for in spite of that: a program
        that is gone has no use for a handshake.
        """
        if self.done:
            return 0, 0
        sending = bool(self._encrypted)
        secure = WRITE if sending else 0
        if self._takes_input():
            secure |= READ
        if not self.shaken:
            return secure, 0
        program = WRITE if self.program.waiting else 0
        if not (sending or self._unwritten or self.program.ended):
            program |= READ
        return secure, program

    @property
    def lingers(self) -> bool:
        """Whether the program has sent its last: what remains is up to the peer."""
        return self.program.ended and not self.done

    def _takes_input(self) -> bool:
        if self.end is not None:
            return not self._socket_ended
        return not (self._socket_ended or self.program.waiting or self._incoming.pending)

    def turn(self) -> bool:
        """Copy what can be copied now; return whether to call this again without waiting for anything.

        That is so after ROUNDS, when there may be more.
        """
        for _ in range(ROUNDS):
            if self.done or not self._round():
                return False
        return not self.done

    def _round(self) -> bool:
        """Take every step that is possible; return whether any was."""
        moved = self._send()
        moved |= self._receive()
        if not self.shaken:
            moved |= self._shake_hands()
        else:
            moved |= self._decrypt()
            moved |= self.program.deliver(ended=self.end is not None)
            moved |= self._from_program()
            moved |= self._encrypt()
            moved |= self._notify()
        moved |= self._send()
        self._finish()
        return moved

    # The connection

    def _receive(self) -> bool:
        """Take what has come from the peer, if TLS is done with what came before."""
        if not self._takes_input():
            return False
        try:
            data = self._sock.recv(CHUNK, _NOW)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            self.broke(PeerEnd.VANISHED, problem.strerror or str(problem))
            return True
        self.progress += 1
        if not data:
            self._socket_ended = True
            self._incoming.write_eof()
        elif self.end is None:
            self._incoming.write(data)
        return True

    def _send(self) -> bool:
        """Send what TLS has made, as far as the kernel takes it."""
        if not self._encrypted and self._outgoing.pending:
            self._encrypted = memoryview(self._outgoing.read())
        if not self._encrypted:
            return False
        try:
            sent = self._sock.send(self._encrypted, _NOW)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            self._encrypted = memoryview(b"")
            self.broke(PeerEnd.VANISHED, problem.strerror or str(problem))
            return True
        self._encrypted = self._encrypted[sent:]
        self.progress += 1
        return True

    # TLS

    def _shake_hands(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as problem:
            self._failed(problem)
            return True
        self.shaken = True
        return True

    def _failed(self, problem: ssl.SSLError) -> None:
        """End: an alert that says why may wait to be sent, and is tried once."""
        if isinstance(problem, ssl.SSLEOFError):
            self.broke(PeerEnd.VANISHED, "the connection ended in the handshake")
            return
        self._send()
        words = problem.reason or str(problem)
        if isinstance(problem, ssl.SSLCertVerificationError):
            words = problem.verify_message
        self.broke(PeerEnd.BROKEN, words.lower().replace("_", " "))

    def _decrypt(self) -> bool:
        """Take data out of TLS, if the program has taken what came before."""
        if self.program.waiting or self.end is not None:
            return False
        try:
            data = self.tls.read(CHUNK)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            data = b""  # raised in place of that when our own close_notify is sent
        except ssl.SSLEOFError:
            self.end = PeerEnd.TRUNCATED
            return True
        except ssl.SSLError as problem:
            self._failed(problem)
            return True
        if data:
            self.received += len(data)
            self.program.take(data)
        else:
            self.end = PeerEnd.CLOSED
        return True

    def _from_program(self) -> bool:
        """Take what the program has sent, if all that it sent before is on its way."""
        if self.program.ended or self._unwritten or self._encrypted or self._outgoing.pending:
            return False
        data = self.program.receive()
        if data is None:
            return False
        self.sent += len(data)
        self._unwritten = memoryview(data)
        return True

    def _encrypt(self) -> bool:
        if not self._unwritten or self.done:
            return False
        try:
            taken = self.tls.write(self._unwritten)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as problem:
            self._failed(problem)
            return True
        self._unwritten = self._unwritten[taken:]
        return True

    # The end

    def _notify(self) -> bool:
        """Say that no more data comes, once the program has said so and everything else is sent.

        unwrap() also looks for the peer's close_notify, and loses data that it finds in its place: so it is
        called only when there is none.
        """
        if self._notified or not self.program.ended or self._unwritten:
            return False
        if self.end is None and (self._incoming.pending or self.program.waiting or self.tls.pending()):
            return False
        self._notified = True
        # What it finds instead of the peer's close_notify is not of interest any more.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return True

    def broke(self, end: PeerEnd, problem: str) -> None:
        """Be done: the connection is of no more use."""
        if self.end is None:
            self.end, self.problem = end, problem
        self._socket_ended = True
        self.done = True

    def _finish(self) -> None:
        """Be done when the data of both sides has ended and is delivered.

        The connection is shut for writing first, so that its peer gets all of it: a close while there is
        something unread would be a reset, which may overtake what was sent.
        """
        if not self._notified or self._encrypted or self._outgoing.pending or self.done:
            return
        if not self._silent:
            self._silent = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        delivered = (self.program.shut or self.program.gone) and not self.program.waiting
        self.done = self.end is not None and delivered

    def close(self) -> None:
        """Close both sockets: the program's side ends, if it has not."""
        self._sock.close()
        self.program.sock.close()
