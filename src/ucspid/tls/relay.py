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

CHUNK = 32 * 1024
"""Bytes that are read from a socket at a time."""

ROUNDS = 4
"""How often a turn copies before others get theirs."""

READ, WRITE = 1, 4
"""What is waited for: as select.POLLIN and POLLOUT, and select.EPOLLIN and EPOLLOUT."""


class End(enum.Enum):
    """How a connection ended, as far as its peer goes."""

    CLOSED = "closed"
    """The peer has said that it sends no more (close_notify)."""
    TRUNCATED = "truncated"
    """The peer's data ended without that: it may have been cut off by somebody else."""
    VANISHED = "vanished"
    """The connection broke."""
    BROKEN = "broken"
    """The peer has sent what is not TLS, or what TLS forbids."""


class Relay:
    """One connection: each turn() goes on with the handshake, and then with the data of a program."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        """Begin a handshake on a connected socket that does not block; it is the relay's from now on."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._sock = sock
        self._plain: socket.socket | None = None
        self.shaken = False
        """Whether the handshake is done."""
        self.end: End | None = None
        """How the peer's data ended, once it has."""
        self.problem = ""
        """What was wrong, in words, where end is VANISHED or BROKEN."""
        self.done = False
        """Whether there is nothing more to copy: close() is next."""
        self.received = self.sent = 0
        """Bytes of the program's, each way."""
        self._encrypted = memoryview(b"")
        self._decrypted = memoryview(b"")
        self._unwritten = memoryview(b"")
        """What the program has sent and TLS has not taken yet: it takes a record at a time."""
        self._socket_ended = False
        self._silent = False
        """Whether the connection is shut for writing."""
        self._plain_ended = False
        self._plain_gone = False
        self._notified = False
        self._shut = False

    # Who waits for what

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._sock.fileno()

    def attach(self, plain: socket.socket) -> None:
        """Copy from and to the other end of a socket pair that a program has; it is the relay's from now on.

        It must not block. Called once, after the handshake.
        """
        self._plain = plain

    def wants(self) -> tuple[int, int]:
        """Return what to wait for on the connection, and on the program's side: READ, WRITE, both or nothing.

        Where it is nothing, the descriptor must not be waited for at all: a hang-up is reported to
        everybody who waits.
        """
        if self.done:
            return 0, 0
        sending = bool(self._encrypted)
        secure = WRITE if sending else 0
        if self._takes_input():
            secure |= READ
        if self._plain is None:
            return secure, 0
        plain = WRITE if self._decrypted else 0
        if not (sending or self._unwritten or self._plain_ended):
            plain |= READ
        return secure, plain

    @property
    def lingers(self) -> bool:
        """Whether the program has sent its last, and all that is waited for is the peer's end."""
        return self._silent and not self.done

    def _takes_input(self) -> bool:
        if self.end is not None:
            return not self._socket_ended
        return not (self._socket_ended or self._decrypted or self._incoming.pending)

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
        elif self._plain is not None:
            moved |= self._decrypt()
            moved |= self._to_program(self._plain)
            moved |= self._from_program(self._plain)
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
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            self._broke(End.VANISHED, problem.strerror or str(problem))
            return True
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
            sent = self._sock.send(self._encrypted)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            self._encrypted = memoryview(b"")
            self._broke(End.VANISHED, problem.strerror or str(problem))
            return True
        self._encrypted = self._encrypted[sent:]
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
            self._broke(End.VANISHED, "the connection ended in the handshake")
            return
        self._send()
        words = (
            problem.verify_message if isinstance(problem, ssl.SSLCertVerificationError) else problem.reason
        )
        self._broke(End.BROKEN, (words or str(problem)).lower().replace("_", " "))

    def _decrypt(self) -> bool:
        """Take data out of TLS, if the program has taken what came before."""
        if self._decrypted or self.end is not None:
            return False
        try:
            data = self.tls.read(CHUNK)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            data = b""  # raised in place of that when our own close_notify is sent
        except ssl.SSLEOFError:
            self.end = End.TRUNCATED
            return True
        except ssl.SSLError as problem:
            self._failed(problem)
            return True
        if data:
            self.received += len(data)
            if not self._plain_gone:
                self._decrypted = memoryview(data)
        else:
            self.end = End.CLOSED
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

    def _notify(self) -> bool:
        """Say that no more data comes, once the program has said so and everything else is sent.

        unwrap() also looks for the peer's close_notify, and loses data that it finds in its place: so it is
        called only when there is none.
        """
        unread = self._incoming.pending or self._decrypted or self.tls.pending()
        waits = self._unwritten or (unread and self.end is None)
        if not self._plain_ended or self._notified or waits:
            return False
        self._notified = True
        # What it finds instead of the peer's close_notify is not of interest any more.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return True

    # The program

    def _to_program(self, plain: socket.socket) -> bool:
        if self._decrypted:
            try:
                taken = plain.send(self._decrypted)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._plain_gone = True
                self._decrypted = memoryview(b"")
                return True
            self._decrypted = self._decrypted[taken:]
            return True
        if self.end is not None and not self._shut:
            self._shut = True
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_WR)
            return True
        return False

    def _from_program(self, plain: socket.socket) -> bool:
        if self._plain_ended or self._unwritten or self._encrypted or self._outgoing.pending:
            return False
        try:
            data = plain.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""  # it ended without reading all that it was sent
        if data:
            self.sent += len(data)
            self._unwritten = memoryview(data)
            return True
        self._plain_ended = True
        try:
            plain.send(b"")
        except OSError:
            self._plain_gone = True  # it has not only shut its side for writing: it takes nothing more
            self._decrypted = memoryview(b"")
        return True

    # The end

    def _broke(self, end: End, problem: str) -> None:
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
        self.done = self.end is not None and (self._shut or self._plain_gone) and not self._decrypted

    def close(self) -> None:
        """Close both sockets: the program's side ends, if it has not."""
        self._sock.close()
        if self._plain is not None:
            self._plain.close()
