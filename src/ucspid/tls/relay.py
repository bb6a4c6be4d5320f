"""One TLS connection, copied between its socket and a program's: handshake, data both ways, the ends.

Never blocks. Whoever owns a relay waits until a descriptor is ready for what wants() says, then calls
turn(). TLS is done in memory (ssl.SSLObject), not on the socket: so it is known at each moment what has come
and what was sent, and one direction can be closed while the other goes on, which SSLSocket cannot do
without losing data.

Bounds: of what comes from the network at most CHUNK bytes are held, of what a program sends at most RECORD,
and what TLS adds. Nothing is read from a side while the other has not taken what was read before.
"""

import contextlib
import enum
import socket
import ssl

from ucspid.tls.client_side import ClientSide
from ucspid.tls.program_side import HANG_UP, READ, RECORD, WRITE, ProgramSide
from ucspid.tls.truncation import is_truncation

ROUNDS = 4
"""Records that a turn copies each way before others get their turn."""


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
        "_notified",
        "client", "done", "end", "problem", "program", "received", "sent", "shaken", "tls",
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

    def wants(self) -> tuple[int, int]:
        """Return what to wait for on the connection, and on the program's side.

        Where it is nothing, the descriptor must not be waited for: of a hang-up all hear who wait.
        """
        if self.done:
            return 0, 0
        sending = bool(self.client.unsent)
        client = WRITE if sending else 0
        if self._takes_input():
            client |= READ
        if not self.shaken:
            return client, 0
        program = WRITE if self.program.waiting else 0
        if not self.program.ended:
            program |= 0 if sending else READ
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
        if self.client.unsent:
            self.client.send()
        # A chunk may be more records than a turn copies: what is left of it is copied first.
        if client and self._takes_input() and not (self.end is None and self.client.incoming.pending):
            self.client.receive(wanted=self.end is None)
        if not (self.shaken or self._shake_hands()):
            self._finish()
            return False
        again = self._to_program()
        if program:
            again |= self._from_program()
        if self.program.ended:
            self._notify()
        self._finish()
        return again and not self.done

    # TLS

    def _shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.client.send()
        except ssl.SSLError as problem:
            self._failed(problem)
        else:
            self.shaken = True
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
        try:
            taken = _taken(self.tls)
        except ssl.SSLError as problem:
            self._failed(problem)
            return True
        if taken is None:
            return False
        if isinstance(taken, PeerEnd):
            self.end = taken
        else:
            self.received += len(taken)
            self.program.take(taken)
        return True

    # Data

    def _to_program(self) -> bool:
        """Copy what has come from the client; return whether there may be more."""
        program, client = self.program, self.client
        if program.waiting:
            program.deliver(ended=False)
        for _ in range(ROUNDS):
            if program.waiting or self.end is not None or self.done:
                break
            if not (client.incoming.pending or client.ended or self.tls.pending()) or not self._decrypt():
                return False
            if program.waiting:
                program.deliver(ended=False)
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
        if self._notified or self.client.unsent:
            return
        if self.end is None and (self.client.incoming.pending or self.program.waiting or self.tls.pending()):
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


def _taken(tls: ssl.SSLObject) -> bytes | PeerEnd | None:
    """Take data out of TLS; return how they ended if they have, None if there are none now."""
    try:
        return tls.read(RECORD) or PeerEnd.CLOSED
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLZeroReturnError:
        return PeerEnd.CLOSED  # raised in place of no data when our own close_notify is sent
    except ssl.SSLError as problem:
        if is_truncation(problem):
            return PeerEnd.TRUNCATED
        raise


def _in_words(problem: ssl.SSLError) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return problem.verify_message.lower()
    return (problem.reason or str(problem)).lower().replace("_", " ")
