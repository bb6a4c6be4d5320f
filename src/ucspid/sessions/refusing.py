"""A connection gets no program: it is counted, closed with its message, and logged, alone or in a summary."""

import asyncio
import time

from structlog.typing import FilteringBoundLogger

from ucspid.admission.connection import NO_DESCRIPTOR, Connection
from ucspid.admission.listener import send_away
from ucspid.admission.stage import HEALTH_CHECK, Refused
from ucspid.ipc.counters import REFUSED
from ucspid.observe import events
from ucspid.plan import Service as Settings
from ucspid.policy.connection_states import Event
from ucspid.policy.refusal_summary import WINDOW, Refusals
from ucspid.sessions.sessions import Sessions


class Refusing:
    """Refuses connections of one service."""

    __slots__ = ("_log", "_sessions", "window")

    def __init__(self, sessions: Sessions, log: FilteringBoundLogger) -> None:
        """Count in the service's sessions."""
        self.window = Refusals()
        """Which refusals are logged one by one."""
        self._sessions = sessions
        self._log = log

    def refuse(self, connection: Connection, refused: Refused, settings: Settings) -> None:
        """Close a client's connection; a slot that it has is free again."""
        now, sessions = time.monotonic(), self._sessions
        connection.take(Event.REFUSED)
        sessions.count(REFUSED[refused.reason])
        if sessions.lines is not None:
            sessions.lines.refused(connection, refused, settings)
        send_away(connection.descriptor, b"" if connection.awaits_tls else refused.message.encode())
        connection.descriptor = NO_DESCRIPTOR
        if refused.reason == HEALTH_CHECK:
            events.health_check(self._log, sessions.name, connection.remote)
        elif self.window.note(refused.reason, now):
            events.connection_refused(
                self._log, settings, connection, refused.reason, refused.rule, refused.detail
            )
        elif self.window.unreported == 1:
            asyncio.get_running_loop().call_later(self.window.ends - now, self.summarise)
        waited = connection in sessions.waiting
        sessions.waiting.pop(connection, None)
        if sessions.earlier:
            sessions.passed(connection)
        if connection.slot is not None:
            sessions.release(connection.slot)
        elif waited:
            sessions.released()

    def summarise(self) -> None:
        """Log how many refusals were not logged one by one, unless that is done already."""
        if self.window.unreported:
            seconds = round(time.monotonic() - self.window.ends + WINDOW, 3)
            events.connections_refused(self._log, self._sessions.name, seconds, self.window.summary())
