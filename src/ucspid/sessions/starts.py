"""A connection becomes a session: its START goes to a launcher, with the client's socket."""

import asyncio
import os
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from ucspid.admission.connection import Connection
from ucspid.ipc import session_tag
from ucspid.ipc.messages import Start
from ucspid.observe import events
from ucspid.policy.environ import Dialect, local_variables, variables
from ucspid.pool import Pool
from ucspid.sessions.sessions import NOT_TAKEN, Sessions


class Starts:
    """Starts sessions of one service."""

    def __init__(
        self,
        sessions: Sessions,
        next_connection: Callable[[], int],
        handed_over: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        """Number connections by next_connection(); handed_over() is called after each start."""
        self._sessions = sessions
        self._next_connection = next_connection
        self._handed_over = handed_over
        self._log = log

    def start(self, connection: Connection, dialect: Dialect, pool: Pool) -> None:
        """Begin the session of a connection that has all it needs: hand it to a launcher of the pool."""
        sessions = self._sessions
        number, now = self._next_connection(), time.monotonic()
        descriptor, proxied = connection.descriptor, connection.proxied
        local = connection.local()
        if sessions.lines is not None:
            sessions.lines.begins(connection, local)
        tag = session_tag.pack(connection.began, connection.ip, connection.port, sessions.name)
        packet = Start.head(sessions.number, number, tag) + variables(
            local_variables(*local, dialect),
            connection.ip,
            connection.port,
            number,
            dialect,
            connection.found,
            connection.env if proxied is None else (*proxied.variables, *connection.env),
        )
        if sessions.waiting:
            sessions.waiting.discard(connection)
        connection.hand(number, now)
        sessions.add(connection)
        if sessions.throttle.failures and sessions.throttle.starting(now):
            events.service_recovered(self._log, sessions.name)
        reason = _send(connection, packet, descriptor, pool)
        os.close(descriptor)
        if reason:
            # Not at once: the slot that it gives back may let in the next, and so on without end.
            asyncio.get_running_loop().call_soon(connection.start_failed, reason)
        self._handed_over()


def _send(connection: Connection, packet: bytes, client: int, pool: Pool) -> int:
    """Send a connection to a launcher; return 0, or the errno of why it could not be."""
    launcher = pool.choose()
    try:
        taken = launcher is not None and launcher.start(connection.number, packet, client, connection)
    except OSError as problem:
        return problem.errno or NOT_TAKEN
    pool.ask_for_more()
    return 0 if taken else NOT_TAKEN
