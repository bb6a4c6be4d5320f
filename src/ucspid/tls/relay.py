"""One TLS connection, copied between its socket and a program's: handshake, data both ways, the ends.

Never blocks. Whoever owns a relay waits until a descriptor is ready for what wants() says, then calls
turn(). TLS is done in memory (ssl.SSLObject), not on the socket: so it is known at each moment what has come
and what was sent, and one direction can be closed while the other goes on, which SSLSocket cannot do
without losing data.

Bounds: of what comes from the network at most CHUNK bytes are held, once encrypted and once decrypted, of
what a program sends at most RECORD, and what TLS adds. Nothing is read from a side while the other has not
taken what was read before.
"""

import contextlib
import enum
import socket
import ssl

from ucspid.tls.client_side import ClientSide
from ucspid.tls.program_side import CHUNK, HANG_UP, READ, RECORD, WRITE, ProgramSide
from ucspid.tls.truncation import is_truncation

ROUNDS = 4
"""Records from the program that a turn copies before others get theirs; to it so many times two chunks."""

_BUFFER = memoryview(bytearray(CHUNK))
"""What was decrypted last: programs are sent all of it at once."""


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
    """One connection: each turn() goes on with the handshake, and then with a program's data."""

    __slots__ = (
        "_first", "_notified", "client", "done", "end", "problem", "program", "received", "sent", "shaken",
        "tls",
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

        program is one end of a pair, of which a program has the other. Both are the relay's from now on.
        """
        self.client = client = ClientSide(sock)
        self.program = ProgramSide(program)
        server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = context.wrap_bio(client.incoming, client.outgoing, server, server_hostname)
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
        self._notified = False
        self._first = not server  # whether the handshake is ours to begin, and has not begun

    def wants(self) -> tuple[int, int]:
        """Return what to wait for on the connection, and on the program's side.

        Where it is nothing, the descriptor must not be waited for: of a hang-up all hear who wait.
        """
        if self.done:
            return 0, 0
        side, waiting = self.client, self.program.waiting
        client = WRITE if side.unsent else 0
        if not (side.ended or (waiting and self.end is None)):
            client |= READ
        if not self.shaken:
            return client, 0
        program = WRITE if waiting else 0
        if not self.program.ended:
            program |= 0 if side.unsent else READ
        elif not self.alone:
            program |= HANG_UP  # it reads on, until it goes
        return client, program

    @property
    def alone(self) -> bool:
        """Whether the program sends no more and takes no more: the rest is up to the peer."""
        return self.program.ended and (self.program.gone or self.program.shut)

    def _takes_input(self) -> bool:
        return not (self.client.ended or (self.end is None and self.program.waiting))

    def turn(self, *, client: bool = True, program: bool = True) -> bool:
        """Copy what can be copied now, of those that may be readable; return whether there is more."""
        side, going_on = self.client, self.end is None
        if side.unsent:
            side.send()
        # A chunk may be more records than a turn copies: what is left of it is copied first.
        news = self._first
        if client and self._takes_input() and not (going_on and side.incoming.pending):
            news |= side.receive(wanted=going_on)
        if not (self.shaken or (news and self._shake_hands())):
            self._finish()
            return False
        again = self._to_program()
        if going_on and self.end is not None and not side.ended:
            side.receive(wanted=False)  # the end of the connection mostly comes with that of the data
        if program:
            again |= self._from_program()
        if self.program.ended:
            self._notify()
        self._finish()
        return again and not self.done

    # TLS

    def _shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done."""
        self._first = False
        try:
            self.tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as problem:
            self._failed(problem)
            return False
        self.client.send()
        return self.shaken

    def _failed(self, problem: ssl.SSLError) -> None:
        """End: an alert that says why may wait to be sent, and is tried once."""
        if is_truncation(problem):
            self.broke(PeerEnd.VANISHED, "the connection ended in the handshake")
            return
        self.client.send()
        self.broke(PeerEnd.BROKEN, _in_words(problem))

    def _decrypt(self) -> bool:
        """Take data out of TLS for the program; return whether there were any, or their end."""
        size, end = _decrypted(self.tls, self.client.incoming)
        if size:
            self.received += size
            self.program.take(_BUFFER[:size])
        if isinstance(end, PeerEnd):
            self.end = end
        elif end is not None:
            self._failed(end)
        return size > 0 or end is not None

    # Data

    def _to_program(self) -> bool:
        """Copy what has come from the client; return whether there may be more."""
        program, client = self.program, self.client
        if program.waiting:
            program.deliver(ended=False)
        for _ in range(2 * ROUNDS):
            if program.waiting or self.end is not None or self.done:
                break
            coming = client.incoming.pending or client.ended or self.tls.pending()
            if not (coming and self._decrypt()) and not (client.full and client.receive(wanted=True)):
                return False
        if self.end is not None and not program.waiting:
            program.deliver(ended=True)
        return not program.waiting and self.end is None

    def _from_program(self) -> bool:
        """Copy what the program has sent, while nothing waits to be sent; return whether more may come."""
        if self.program.ended and not self.alone:
            self.program.receive()  # it may be gone
        for _ in range(ROUNDS):
            if self.program.ended or self.client.unsent:
                return False
            data = self.program.receive()
            if not data:
                return False
            self.sent += len(data)
            try:
                self.tls.write(data)  # all of it: it is no more than a record
            except ssl.SSLError as problem:
                self._failed(problem)
                return False
            self.client.send()
            if len(data) < RECORD:
                return False
        return not self.client.unsent

    # The end

    def _notify(self) -> None:
        """Say that no more data comes, once the program has said so and everything else is sent.

        unwrap() loses data that it finds in place of the peer's close_notify: so there may be none.
        """
        more = self.client.incoming.pending or self.program.waiting or self.tls.pending()
        if self._notified or self.client.unsent or (self.end is None and more):
            return
        self._notified = True
        # What it finds instead of the peer's close_notify is not of interest any more.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.client.send()

    def broke(self, end: PeerEnd, problem: str) -> None:
        """Be done: the connection is of no more use."""
        if self.end is None:
            self.end, self.problem = end, problem
        self.done = True

    def _finish(self) -> None:
        """Be done when the data of both sides has ended and is delivered, or the connection is broken.

        It is shut for writing first: a close while something is unread is a reset, which may overtake data.
        """
        if self.client.broken is not None:
            self.broke(PeerEnd.VANISHED, self.client.broken)
        if not self._notified or self.done:
            return
        self.client.shut()
        delivered = (self.program.shut or self.program.gone) and not self.program.waiting
        self.done = self.client.silent and self.end is not None and delivered

    def close(self) -> None:
        """Close both sockets: the program's side ends, if it has not."""
        self.client.sock.close()
        self.program.sock.close()


def _decrypted(tls: ssl.SSLObject, incoming: ssl.MemoryBIO) -> tuple[int, PeerEnd | ssl.SSLError | None]:
    """Take records out of TLS into _BUFFER; return how many bytes, and how they ended if they have."""
    size = 0
    try:
        for _ in range(ROUNDS):
            taken: object = tls.read(RECORD, _BUFFER[size:])  # with a buffer, it is a number
            assert isinstance(taken, int)
            if not taken:
                return size, PeerEnd.CLOSED
            size += taken
            if size > CHUNK - RECORD or not (incoming.pending or tls.pending()):
                break
    except ssl.SSLWantReadError:
        pass
    except ssl.SSLZeroReturnError:
        return size, PeerEnd.CLOSED  # raised in place of no data when our own close_notify is sent
    except ssl.SSLError as problem:
        return size, PeerEnd.TRUNCATED if is_truncation(problem) else problem
    return size, None


def _in_words(problem: ssl.SSLError) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return problem.verify_message.lower()
    return (problem.reason or str(problem)).lower().replace("_", " ")
