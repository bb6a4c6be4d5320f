"""The sessions of one service: counted in when they are handed to a launcher, counted out once at their end.

They outlive the service: one that the plan has no more is its sessions and nothing else.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from ucspid.admission.connection import Connection
from ucspid.ipc.counters import ACCEPTED, SERVED, Counters, Counts, failed_column
from ucspid.limits import ServiceLimits, Slot
from ucspid.observe import events
from ucspid.observe.transcript import Transcript
from ucspid.plan import Ending
from ucspid.policy.exit_status import in_words
from ucspid.policy.histogram import Timings
from ucspid.policy.last_failures import KINDS, NOT_STARTED, LastFailure, LastFailures
from ucspid.policy.outcome import OK, outcome
from ucspid.policy.throttle import Throttle
from ucspid.sessions.lines import TcpserverLines

NOT_TAKEN = errno.ENOBUFS
"""What a start fails with that the kernel did not take from the loop; no fault of the program's."""


class Sessions:
    """Living sessions, and the slots that connections of their service hold."""

    def __init__(
        self,
        number: int,
        name: str,
        limits: ServiceLimits,
        ending: Ending,
        counters: Counters,
        log: FilteringBoundLogger,
        transcript: Transcript | None = None,
    ) -> None:
        """Begin with none; ending says how they end, transcript writes the lines of tcpserver."""
        self.number = number
        self.name = name
        self.limits = limits
        self.throttle = Throttle(None)
        self.lines = None if transcript is None else TcpserverLines(self, transcript)
        """Writes the lines of tcpserver, where the log has them."""
        self.program = ""
        """What the program is called by."""
        self.file = ""
        """The program, for events; empty for a service that the plan has no more."""
        self.by_number: dict[int, Connection] = {}
        self.waiting: dict[Connection, None] = {}  # an empty set takes three times the memory
        """Connections that are no session yet, and wait: for a stage, a slot or a launcher."""
        self.released: Callable[[], None] = _nothing
        """Called when a slot was released, or a session has ended."""
        self.earlier: set[Connection] = set()
        """Connections on their way, of any service, that have met an earlier plan."""
        self.passed: Callable[[Connection], None] = self.earlier.discard
        """Called while there are some, when a connection has come where no earlier plan matters to it."""
        self.failures = LastFailures()
        self.timings: Timings | None = None  # made for the first session: most services have none for long
        self.ended = 0
        """How many sessions have ended in this loop, and the last one's connection."""
        self.last_ended = 0
        self._ending = ending
        self._row = counters.row(number)
        self._counters = counters
        self._log = log
        self._lifetime: asyncio.TimerHandle | None = None

    @property
    def counts(self) -> Counts:
        """What became of the service's connections, in this loop and those before it."""
        return self._counters.read(self.number)

    @property
    def kill_timeout(self) -> float:
        """Seconds between SIGTERM and SIGKILL for a program that is to end."""
        return self._ending.kill_timeout

    @property
    def drain_timeout(self) -> float:
        """Seconds that sessions may take to end by themselves when the daemon stops."""
        return self._ending.drain_timeout

    @property
    def live(self) -> int:
        """How many connections there are: those that hold a slot, and those that wait without one yet."""
        return self.limits.live + sum(connection.slot is None for connection in self.waiting)

    @property
    def unknown(self) -> int:
        """Slots without a known connection: 0, except after a bug."""
        waiting = sum(connection.slot is not None for connection in self.waiting)
        return self.limits.live - len(self.by_number) - waiting

    def change(self, ending: Ending) -> None:
        """End sessions in another way from now on."""
        self._ending = ending
        if self._lifetime is not None:
            self._lifetime.cancel()
            self._lifetime = None
        self._watch_lifetime()

    def count(self, column: str) -> None:
        """Count a connection: a column of ipc.counters."""
        self._row.add(column)

    # Sessions begin

    def add(self, connection: Connection) -> None:
        """Take in a connection that is on its way to a launcher."""
        self.by_number[connection.number] = connection
        if self.lines is not None:
            self.lines.status()
        if self._ending.max_lifetime is not None:
            self._watch_lifetime()

    def found(self, number: int, ip: str, port: int, began: float, *, counted: bool) -> Connection:
        """Take in a session that an earlier loop began; counted: which has counted it as accepted."""
        connection = Connection(self, ip, port, began)
        connection.slot = self.limits.restore(ip)
        connection.hand(number, began)
        if not counted:
            self.count(ACCEPTED)
        self.by_number[number] = connection
        return connection

    def all_found(self) -> None:
        """Put the sessions that were found in the order of their begin."""
        self.by_number = dict(sorted(self.by_number.items(), key=lambda item: item[1].began))
        self._watch_lifetime()

    # Sessions' ends

    def started(self, connection: Connection, pid: int) -> None:
        """Take note that a connection's program runs."""
        if self.throttle.failures:
            self.throttle.started(connection.handed)
        if connection.listener is not None:  # an earlier loop's have none
            timings = self.timings = self.timings or Timings()
            timings.started(connection.began, connection.handed, time.monotonic())
        events.connection_started(self._log, connection, pid)
        if self.lines is not None:
            self.lines.started(connection, pid)
        if self.earlier:
            self.passed(connection)

    def served(self, connection: Connection) -> None:
        """Count out a session whose program has ended."""
        now = time.monotonic()
        assert connection.process is not None
        code = connection.process.get_returncode()
        how = OK if code == 0 else outcome(code, asked=connection.ending)
        self._counters.count_out(self._row, SERVED[how], connection.number)
        timings = self.timings = self.timings or Timings()
        timings.served(now - connection.began, connection.process.used)
        if how in KINDS:
            self.failures.note(how, LastFailure(in_words(code), connection.remote, connection.number, now))
        events.connection_served(self._log, connection, code, now)
        if self.lines is not None:
            self.lines.ended(connection)
        if self.throttle.failures and self.throttle.ended(connection.handed):
            events.service_recovered(self._log, self.name)
        self._count_out(connection)

    def failed(self, connection: Connection, reason: int) -> None:
        """Count out a session whose program could not be started.

        A launcher that died, or a kernel that took nothing from the loop, is no fault of the program's.
        """
        now = time.monotonic()
        self._counters.count_out(self._row, failed_column(reason), connection.number)
        events.connection_failed(self._log, connection, self.file, reason, now)
        if self.lines is not None:
            self.lines.failed(connection, reason)
        cause = os.strerror(reason)
        what = f"{cause}: {self.file}" if self.file else cause
        self.failures.note(NOT_STARTED, LastFailure(what, connection.remote, connection.number, now))
        if reason not in (NOT_TAKEN, errno.EOWNERDEAD) and self.throttle.failed(now):
            events.service_throttled(self._log, self.name, self.file, cause, self.throttle.interval)
        if self.earlier:
            self.passed(connection)
        self._count_out(connection)

    def release(self, slot: Slot) -> None:
        """Release a slot, and give it to the next that waits."""
        self.limits.release(slot)
        self.released()

    def _count_out(self, connection: Connection) -> None:
        del self.by_number[connection.number]
        self.ended += 1
        self.last_ended = connection.number
        assert connection.slot is not None
        self.release(connection.slot)

    def end_all(self) -> None:
        """End all sessions: SIGTERM, then SIGKILL after kill_timeout."""
        for connection in self.by_number.values():
            if not connection.ending:
                connection.end(self.kill_timeout)

    # Sessions' lifetime

    def _watch_lifetime(self) -> None:
        """Keep one timer, for the session that has lived longest, if lifetimes are limited."""
        limit = self._ending.max_lifetime
        if limit is None or self._lifetime is not None:
            return
        oldest = next((item for item in self.by_number.values() if not item.ending), None)
        if oldest is not None:
            wait = max(0.0, oldest.handed + limit - time.monotonic())
            self._lifetime = asyncio.get_running_loop().call_later(wait, self._end_of_life, limit)

    def _end_of_life(self, limit: float) -> None:
        """End the sessions that have lived too long; the eldest come first."""
        self._lifetime = None
        now = time.monotonic()
        for connection in self.by_number.values():
            if connection.handed + limit > now:
                break
            if not connection.ending:
                events.lifetime_exceeded(self._log, connection, limit)
                connection.end(self.kill_timeout)
        self._watch_lifetime()


def _nothing() -> None:
    """Nobody waits for slots of a service that is not in the plan."""
