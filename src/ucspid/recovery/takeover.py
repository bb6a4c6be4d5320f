"""What is there of earlier loops: running sessions, used connection ids, and counts to balance."""

from collections import Counter
from collections.abc import Callable, Iterable

from structlog.typing import FilteringBoundLogger

from ucspid.admission.connection import Connection
from ucspid.errors import WireError
from ucspid.ipc import session_tag
from ucspid.ipc.counters import Counters
from ucspid.observe import events
from ucspid.sessions.sessions import Sessions

_TICKS = 1 << 10
"""Connection ids begin at the loop's start in ticks of 1/1024 second: it takes longer to start a process."""

_SEQUENCE_BITS = 20
"""Bits for counting from there: the ids of later loops differ, up to 2^30 connections a second."""

_IDS_END = 1 << 63
"""No loop numbers a connection so high before the year 2242; a launcher may make it up."""


class Takeover:
    """Takes over the sessions of earlier loops as launchers report them."""

    def __init__(
        self, owner: Callable[[int, str], Sessions], counters: Counters, log: FilteringBoundLogger, now: float
    ) -> None:
        """Begin without any; owner() returns the sessions of the service with a number and a name.

        It raises WireError where there can be none.

        now is seconds of the epoch. A clock that was set back since an earlier loop numbered its
        connections makes no trouble: ids go on after those of the sessions that are found.
        """
        self.balanced = False
        """Whether all launchers have reported, and the counts match what they run."""
        self._owner = owner
        self._counters = counters
        self._log = log
        self.last_connection = int(now * _TICKS) << _SEQUENCE_BITS

    def next_connection(self) -> int:
        """Return an id that no connection has had."""
        self.last_connection += 1
        return self.last_connection

    def go_on_after(self, connection: int) -> None:
        """Use only ids above the last id of another loop, if that id is valid."""
        if connection < _IDS_END:
            self.last_connection = max(self.last_connection, connection)

    def counted_out(self, connection: int) -> bool:
        """Say whether a session has ended, and was counted out."""
        return self._counters.counted_out(connection)

    def found(self, service: int, connection: int, tag: bytes) -> Connection:
        """Take over a session of an earlier loop. Raises WireError if no loop can have started it."""
        began, ip, port, name = session_tag.unpack(tag)
        if connection >= _IDS_END:
            raise WireError(f"connection {connection:x} is out of range")
        owner = self._owner(service, name)
        if connection in owner.by_number:
            raise WireError(f"connection {connection:x} is another launcher's")
        found = owner.found(connection, ip, port, began, counted=not self.balanced)
        self.go_on_after(connection)
        return found

    def balance(self, services: Iterable[Sessions]) -> None:
        """Once all launchers have reported, count as lost what earlier loops accepted and none runs."""
        self.balanced = True
        names = {}
        live: Counter[int] = Counter()
        for service in services:
            names[service.number] = service.name
            live[service.number] += service.limits.live
        for number in {*names, *self._counters.used()}:
            lost = self._counters.settle(number, live[number])
            if lost > 0:
                events.connections_lost(self._log, names.get(number, str(number)), lost)
