"""A connection becomes a session: its START goes to a launcher, with the client's socket."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable

from structlog.typing import FilteringBoundLogger

from ucspid.admission.connection import Connection
from ucspid.admission.tls_channels import TlsChannels, secure_order
from ucspid.ipc import session_tag
from ucspid.ipc.messages import Start
from ucspid.net.unix import UnixClient
from ucspid.observe import events
from ucspid.plan import Service as Settings
from ucspid.plan import Tls
from ucspid.policy.environ import STARTTLS, local_variables, ssl_variables, variables
from ucspid.pool import Pool
from ucspid.sessions.sessions import NOT_TAKEN, Sessions


class Starts:
    """Starts sessions of one service."""

    __slots__ = ("_handed_over", "_log", "_next_connection", "_sessions", "_tls")

    def __init__(
        self,
        sessions: Sessions,
        next_connection: Callable[[], int],
        tls: TlsChannels,
        handed_over: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        """Number connections by next_connection(); handed_over() is called after each start."""
        self._sessions = sessions
        self._next_connection = next_connection
        self._tls = tls
        self._handed_over = handed_over
        self._log = log

    def start(self, connection: Connection, settings: Settings, pool: Pool) -> None:
        """Begin the session of a connection that has all it needs: hand it to a launcher of the pool."""
        sessions, dialect, tls = self._sessions, settings.env_dialect, settings.tls
        number, now = connection.number or self._next_connection(), time.monotonic()
        descriptor, proxied = connection.descriptor, connection.proxied
        local = connection.local()
        if sessions.lines is not None:
            sessions.lines.begins(connection, local)
        tag = session_tag.pack(connection.began, connection.ip, connection.port, sessions.name)
        secured = connection.over_tls is not None
        further = connection.env
        if secured or tls is not None:
            further = (*_tls_variables(connection, tls), *further)
        packet = Start.head(sessions.number, number, tag) + variables(
            local_variables(*local, dialect),
            connection.ip,
            connection.port,
            number,
            dialect,
            connection.found,
            further if proxied is None else (*proxied.variables, *further),
        )
        if sessions.waiting:
            sessions.waiting.pop(connection, None)
        connection.hand(number, now)
        sessions.add(connection)
        if sessions.throttle.failures and sessions.throttle.starting(now):
            events.service_recovered(self._log, sessions.name)
        if tls is not None and tls.mode == "starttls" and not secured:
            reason = self._send_with_tls(connection, packet, descriptor, pool, tls)
        else:
            reason = _send(connection, packet, descriptor, pool)
        os.close(descriptor)
        if reason:
            # Not at once: the slot that it gives back may let in the next, and so on without end.
            asyncio.get_running_loop().call_soon(connection.start_failed, reason)
        self._handed_over()

    def _send_with_tls(self, connection: Connection, packet: bytes, client: int, pool: Pool, tls: Tls) -> int:
        """Send a connection as _send() does, and to a TLS process as well, for when its program asks.

        The process comes first: it gives the connection up when it sees that no program has the others.
        """
        with contextlib.ExitStack() as closing:
            try:
                control, others_control = map(closing.enter_context, socket.socketpair())
                plain, others_plain = map(closing.enter_context, socket.socketpair())
                order = secure_order(tls, connection.number)
                self._tls.send(order, (client, others_plain.fileno(), others_control.fileno()))
            except OSError as problem:
                return problem.errno or NOT_TAKEN
            return _send(connection, packet, client, pool, (control.fileno(), plain.fileno()))


def _tls_variables(connection: Connection, tls: Tls | None) -> Iterable[tuple[bytes, bytes]]:
    """Return what the program is told of TLS. The connection may have met earlier settings than these."""
    secured = connection.over_tls
    if secured is None:
        return STARTTLS if tls is not None and tls.mode == "starttls" else ()
    if tls is None or tls.env == "s6" or isinstance(connection.ip, UnixClient):
        return secured.variables
    own = ssl_variables(secured.local, connection.ip, connection.port, connection.found)
    return (*own, *secured.variables)


def _send(
    connection: Connection,
    packet: bytes,
    client: int,
    pool: Pool,
    others: tuple[int, ...] = (),
) -> int:
    """Send a connection to a launcher; return 0, or the errno of why it could not be."""
    launcher = pool.choose()
    try:
        taken = launcher is not None and launcher.start(connection.number, packet, client, connection, others)
    except OSError as problem:
        return problem.errno or NOT_TAKEN
    pool.ask_for_more()
    return 0 if taken else NOT_TAKEN
