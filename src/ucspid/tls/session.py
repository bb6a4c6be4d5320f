"""One connection of a TLS process: awaits its program's command, shakes hands, is copied, lingers, ends."""

import contextlib
import enum
import socket
import ssl
from collections.abc import Callable

from ucspid.ipc import messages as wire
from ucspid.tls.contexts import ServerContext
from ucspid.tls.handshake_facts import Facts
from ucspid.tls.program_side import READ
from ucspid.tls.relay import PeerEnd, Relay

LINGER = 30.0
"""Seconds that a client may take for the next piece of what its program has sent last, or for its own end."""

_NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_NAME_REFUSED = "callback failed"
"""How OpenSSL puts it that contexts.ServerContext has refused the name that a client asks for."""

_START, _START_WITH_VARIABLES = b"y", b"Y"

ONCE = 1 << 30
"""As EPOLLONESHOT: of a handshake's news is heard once, so that many that wait cost nothing meanwhile."""

DISARMED = -1
"""What is waited for on a descriptor of which was heard once."""

CLIENT, PROGRAM = 1, 2
"""Which side is ready, added up."""

Reporting = Callable[[bytes], None]
"""Sends the event loop a packet."""


class TlsPhase(enum.Enum):
    """What a session is at."""

    COMMAND = "its program has not asked for TLS yet"
    HANDSHAKE = "the handshake"
    OPEN = "data are copied"
    OVER = "nothing more is to be done"


class TlsSession:
    """One connection, with one end of its program's pair; both are the session's own."""

    __slots__ = (
        "_client", "_context", "_described", "_program", "_report", "_timeout", "_with_variables", "command",
        "connection", "context_number", "deadline", "descriptors", "masks", "number", "phase", "ready",
        "relay", "taken",
    )  # fmt: skip

    def __init__(
        self,
        order: wire.Secure,
        sockets: tuple[socket.socket, socket.socket],
        command: socket.socket | None,
        context: ServerContext,
        report: Reporting,
    ) -> None:
        """Begin with the client's socket and the program's end.

        With command, our end of a pair on which the program says when (UCSPI-TLS), nothing is read from the
        client before.
        """
        self.number = 0
        """Among all of the process; see TlsSessions."""
        self.connection = order.connection
        self.context_number = order.context
        self.command = command
        self.relay: Relay | None = None
        self.deadline: float | None = None
        """When its time is up, on the monotonic clock, unless it makes progress."""
        self.taken = 0
        """Bytes that the client had taken when the deadline was set."""
        self.phase = TlsPhase.COMMAND
        self._client, self._program = sockets
        own = (*sockets, command) if command else sockets
        self.descriptors = tuple([sock.fileno() for sock in own])
        """The client's, the program's, and that of the command until that has come."""
        self.masks = (0,) * len(own)
        """For what each of them is waited; see TlsSessions."""
        self.ready = 0
        """Which sides have something now."""
        self._context = context
        self._report = report
        self._timeout = order.timeout / 1000
        self._described = order.described
        self._with_variables = False

    def begin(self, now: float) -> None:
        """Begin the handshake."""
        self.phase = TlsPhase.HANDSHAKE
        self.deadline = now + self._timeout
        self.relay = Relay(self._client, self._program, self._context.default)

    def wants(self) -> tuple[int, ...]:
        """Return what to wait for on each of the descriptors; nothing where one must not be waited for."""
        if self.relay is None:
            return (0, 0, READ)
        both = self.relay.wants()
        if self.phase is TlsPhase.HANDSHAKE:
            both = both[0] | ONCE, both[1]
        return both if len(self.descriptors) == len(both) else (*both, 0)

    def heard(self) -> None:
        """Take note that the client has news, and that it is not waited for any more: see ONCE."""
        self.masks = (DISARMED, *self.masks[1:])

    def turn(self, now: float) -> bool:
        """Do what can be done now; return whether to call this again without waiting for anything."""
        ready, self.ready = self.ready, 0
        relay = self.relay
        if relay is None:
            return self._take_command(now)
        if self.phase is TlsPhase.HANDSHAKE:
            again = relay.turn(program=False)
            if relay.shaken:
                self._shaken(relay.tls)
        else:
            again = relay.turn(client=ready & CLIENT > 0, program=ready & PROGRAM > 0)
        if relay.done:
            self._ended(relay)
            return False
        if relay.alone and self.deadline is None:
            self._linger(now, relay)
        return again

    def late(self, now: float) -> None:
        """Take note that the deadline has passed."""
        relay = self.relay
        assert relay is not None
        if self.phase is TlsPhase.HANDSHAKE:
            relay.broke(PeerEnd.VANISHED, f"no handshake within {self._timeout:g}s")
            self._ended(relay)
        elif relay.client.taken != self.taken:
            self._linger(now, relay)
        else:
            relay.broke(PeerEnd.VANISHED, f"it took nothing, and did not end, for {LINGER:g}s")
            self._ended(relay)

    @property
    def lingers(self) -> bool:
        """Whether its program has ended, and only the client is waited for."""
        return self.phase is TlsPhase.OPEN and self.deadline is not None

    def cut_short(self) -> None:
        """End: too many linger."""
        assert self.relay is not None
        self.relay.broke(PeerEnd.VANISHED, "too many clients did not end when their programs did")
        self._ended(self.relay)

    def _linger(self, now: float, relay: Relay) -> None:
        self.deadline, self.taken = now + LINGER, relay.client.taken

    def _take_command(self, now: float) -> bool:
        """Take the program's byte, or its end: then the session goes on in clear, without us.

        Return whether the handshake begins.
        """
        assert self.command is not None
        try:
            command = self.command.recv(1, _NOW)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            command = b""
        if command not in (_START, _START_WITH_VARIABLES):
            self.phase = TlsPhase.OVER
            return False
        self._with_variables = command == _START_WITH_VARIABLES
        self.begin(now)
        return True

    def _shaken(self, tls: ssl.SSLObject) -> None:
        self.phase, self.deadline = TlsPhase.OPEN, None
        described = self._context.described[tls.context] if self._described else None
        facts = Facts.of(tls, getattr(tls, "server_name", None), described)
        self._report(facts.packet(self.connection))
        if self.command is not None:
            if self._with_variables:
                strings = b"".join(item + b"\0" for item in facts.variables)
                with contextlib.suppress(OSError):
                    self.command.send(strings + b"\0", _NOW)
            self.command.close()
            self.command = None
            self.descriptors, self.masks = self.descriptors[:2], self.masks[:2]

    def _ended(self, relay: Relay) -> None:
        if self.phase is TlsPhase.HANDSHAKE:
            reason = relay.problem
            if reason == _NAME_REFUSED:
                reason = _name_refused(relay.tls)
            self._report(wire.NotSecured(self.connection, reason).pack())
        elif relay.end is not PeerEnd.CLOSED:
            assert relay.end is not None
            end = wire.SecureEnd(relay.end, self.connection, relay.received, relay.sent, relay.problem)
            self._report(end.pack())
        self.phase = TlsPhase.OVER

    def fail(self, bug: Exception) -> None:
        """End: a bug of ours."""
        reason = f"internal error: {type(bug).__name__}: {bug}"
        if self.phase is TlsPhase.HANDSHAKE:
            self._report(wire.NotSecured(self.connection, reason).pack())
        else:
            self._report(wire.SecureEnd(PeerEnd.BROKEN, self.connection, 0, 0, reason).pack())
        self.phase = TlsPhase.OVER

    def sockets(self) -> list[socket.socket]:
        """Return those that it has."""
        return [sock for sock in (self._client, self._program, self.command) if sock is not None]

    def close(self) -> None:
        """Close everything."""
        for sock in self.sockets():
            sock.close()


def _name_refused(tls: ssl.SSLObject) -> str:
    """Return why contexts.ServerContext has refused a name; it is not asked what ssl cannot decode."""
    if not hasattr(tls, "server_name"):
        return "it asked for a name that is not text"
    return (
        "it asked for no name"
        if tls.server_name is None
        else f"no certificate has the name {tls.server_name}"
    )
