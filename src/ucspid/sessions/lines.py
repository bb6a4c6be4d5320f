"""The lines of tcpserver for the connections of one service, where the log has that format."""

from typing import Protocol

from ucspid.admission.connection import Connection
from ucspid.admission.stage import HEALTH_CHECK, NO_RULES, Refused
from ucspid.ipc.messages import STATUS_UNKNOWN
from ucspid.limits import ServiceLimits
from ucspid.observe.transcript import LoggedEnds, Transcript
from ucspid.plan import RulesFile
from ucspid.plan import Service as Settings
from ucspid.policy.client_facts import ClientFacts


class Living(Protocol):
    """The sessions of a service, as far as lines say anything of them."""

    program: str
    by_number: dict[int, Connection]
    limits: ServiceLimits


class TcpserverLines:
    """Writes the lines of one service. What it is called for is the same as what events are logged for."""

    def __init__(self, sessions: Living, transcript: Transcript) -> None:
        """Write of these sessions."""
        self._sessions = sessions
        self._transcript = transcript

    def status(self) -> None:
        """Say how many sessions there are."""
        self._transcript.status(*self._places())

    def begins(self, connection: Connection, local: tuple[str, int]) -> None:
        """Keep what is known of the ends of a connection that goes to a launcher, until its program runs."""
        if self._transcript.logs_connections:
            connection.ends = self._ends(connection, local, connection.found)

    def started(self, connection: Connection, pid: int) -> None:
        """Say that a program runs."""
        self._transcript.started(pid, connection.ends)
        connection.ends = None

    def ended(self, connection: Connection) -> None:
        """Say that a program has ended; it still counts."""
        process = connection.process
        assert process is not None
        status = STATUS_UNKNOWN if process.status is None else process.status
        self._transcript.ended(process.pid, status, *self._places(without=1))

    def failed(self, connection: Connection, reason: int) -> None:
        """Say that a program could not be started: an errno. The connection still counts."""
        pid = 0 if connection.process is None else connection.process.pid
        places = self._places(without=1)
        self._transcript.not_started(pid, connection.ends, self._sessions.program, reason, places)

    def refused(self, connection: Connection, refused: Refused, settings: Settings) -> None:
        """Say that a client got no program; its socket is still there."""
        if refused.reason == HEALTH_CHECK:
            return
        ends = self._ends(connection, connection.local(), connection.found)
        if refused.reason == NO_RULES and isinstance(settings.rules, RulesFile):
            self._transcript.unreadable(ends, settings.rules.path, refused.number, self._places())
        else:
            note = "" if refused.reason == "denied" else refused.reason
            self._transcript.refused(ends, note, self._places())

    def _ends(self, connection: Connection, local: tuple[str, int], found: ClientFacts) -> LoggedEnds:
        return LoggedEnds(local, (connection.ip, connection.port), found)

    def _places(self, without: int = 0) -> tuple[int, int]:
        """Return how many sessions there are, and how many there may be."""
        return len(self._sessions.by_number) - without, self._sessions.limits.max_connections
