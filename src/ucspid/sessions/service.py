"""One service in the event loop: its sessions and its counts, behind its gate."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from ucspid.admission.acceptor import Gate, Hold, Turns
from ucspid.admission.listener import Listener, Reserve, send_away
from ucspid.admission.pipeline import Arrival, Entrance
from ucspid.admission.rules_file import Followed
from ucspid.ipc import session_tag
from ucspid.ipc.counters import (
    ACCEPTED,
    DESCRIPTORS,
    FAILED,
    REFUSED,
    SERVED,
    Counters,
    Counts,
    failed_column,
)
from ucspid.ipc.messages import START, START_HEAD
from ucspid.limits import Limits, ServiceLimits, Slot
from ucspid.net.address import plain
from ucspid.observe import events
from ucspid.plan import RulesFile
from ucspid.plan import Service as Settings
from ucspid.policy import validate
from ucspid.policy.backoff import GRACE, Throttle
from ucspid.policy.environ import local_variables, variables
from ucspid.policy.exit_status import in_words
from ucspid.policy.outcome import outcome
from ucspid.policy.refusal_detail import Rule
from ucspid.policy.refusal_summary import WINDOW, Refusals
from ucspid.sessions.session import Session
from ucspid.spawn import Pool

if TYPE_CHECKING:
    from ucspid.lookup.names import Names

FAILURES = frozenset({111, 126, 127})
"""Exit statuses that mean that a program could not do its work: UCSPI's 111, the shell's 126 and 127."""

CRASHES = frozenset({-4, -6, -7, -8, -11, -31})
"""Deaths by SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV and SIGSYS."""

NOT_TAKEN = errno.ENOBUFS
"""What a start fails with that the kernel did not take from the loop; no fault of the program's."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all services of the loop share."""

    log: FilteringBoundLogger
    limits: Limits
    counters: Counters
    turns: Turns
    reserve: Reserve
    names: "Names | None"
    follow: Callable[[RulesFile], Followed]
    next_connection: Callable[[], int]
    handed_over: Callable[[], None]
    session_ended: Callable[[], None]


class Service:
    """A service's state. At any moment accepted = served + refused + failed + live."""

    def __init__(
        self, number: int, settings: Settings, pool: Pool, pool_turns: Turns, shared: Shared
    ) -> None:
        """Begin without listeners; pool_turns are those of services that wait for the pool."""
        self.number = number
        self.settings = settings
        self.pool = pool
        self.pool_turns = pool_turns
        self.limits = ServiceLimits(shared.limits, settings)
        self.throttle = Throttle()
        self.gate = Gate(self, shared.limits, shared.turns, shared.reserve, shared.log)
        self.entrance = Entrance(self, shared.names)
        self.sessions: dict[int, Session] = {}
        self._counts = shared.counters.row(number)
        self._shared = shared
        self._log = shared.log
        self._refusals = Refusals()
        self._lifetime: asyncio.TimerHandle | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._follow_rules()

    @property
    def name(self) -> str:
        """Return the service's name in the file."""
        return self.settings.name

    @property
    def counts(self) -> Counts:
        """Return what became of the service's connections, in this loop and those before it."""
        return self._shared.counters.read(self.number)

    def change(self, settings: Settings, pool: Pool, pool_turns: Turns) -> None:
        """Take new settings. Programs that run keep what they were started with."""
        self.settings = settings
        self.pool = pool
        self.pool_turns = pool_turns
        self.limits.change(settings)
        self._follow_rules()
        if self._lifetime is not None:
            self._lifetime.cancel()
            self._lifetime = None
        self._watch_lifetime()

    def _follow_rules(self) -> None:
        rules = self.settings.rules
        self.entrance.change(self._shared.follow(rules) if isinstance(rules, RulesFile) else None)

    # Connections in

    def arrived(self, descriptor: int, ip: str, port: int, listener: Listener) -> None:
        """Take an accepted connection: it enters, or is refused on the way."""
        self._counts.add(ACCEPTED)
        self.entrance.arrived(Arrival(descriptor, plain(ip), port, listener, time.monotonic()))

    def start_ready(self) -> None:
        """Begin sessions that only waited for a slot."""
        self.entrance.start_ready()

    @property
    def fresh(self) -> bool:
        """Whether the rules may be used as they are."""
        return self.entrance.fresh

    def refresh(self) -> None:
        """Look whether the rules have changed, and go on then."""
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            await self.entrance.refresh()
        finally:
            self._refreshing = None
            self.gate.resume(Hold.RULES)

    def may_start(self) -> bool:
        """Return whether a launcher can take a start now, and the service is not throttled."""
        return self.throttle.wait(time.monotonic()) == 0.0 and self.pool.choose() is not None

    def begun(self) -> None:
        """Let the gate open again if it was held because so many were on their way."""
        asyncio.get_running_loop().call_soon(self.gate.resume, Hold.FULL)

    def close(self) -> None:
        """Accept nothing more; sessions go on to their end."""
        self.gate.serve([])
        self.entrance.close()

    async def leave(self, patience: float) -> None:
        """Accept nothing more; those on their way in have so many seconds. Another loop goes on."""
        self.gate.serve([])
        await self.entrance.leave(patience)
        self.summarise()

    def to_state(self, now: float) -> dict[str, Any]:
        """Return what from_state() takes: what the next loop should know beyond the sessions."""
        return {
            "limits": self.limits.to_state(now),
            "throttle": self.throttle.to_state(),
            "refusals": self._refusals.to_state(),
        }

    def from_state(self, state: Any, now: float) -> None:
        """Go on where an earlier loop has left. Raises ValueError for what cannot be; the rest is taken."""
        limits, throttle, refusals = validate.members(state, "limits", "throttle", "refusals")
        self.limits.from_state(limits, now)
        self.throttle.from_state(throttle, now)
        self._refusals.from_state(refusals, now)

    def waits(self) -> None:
        """Have the gate held while connections that are in already wait for a slot."""
        self.gate.check()

    def begin(self, arrival: Arrival) -> None:
        """Begin the session of a connection that has all it needs: hand it to a launcher."""
        assert arrival.slot is not None
        session = Session(self, self._shared.next_connection(), arrival.ip, arrival.port, arrival.began)
        session.slot = arrival.slot
        session.handed = time.monotonic()
        head = START_HEAD.pack(
            START,
            self.number,
            session.connection,
            session_tag.pack(session.began, session.ip, session.port, self.name),
        )
        told = variables(
            local_variables(*arrival.listener.end(arrival.descriptor), self.settings.env_dialect),
            session.ip,
            session.port,
            session.connection,
            self.settings.env_dialect,
            arrival.found,
            arrival.env,
        )
        self.sessions[session.connection] = session
        if self.throttle.starting(session.handed):
            events.service_recovered(self._log, self.name)
        reason = self._start(session, head + told, arrival.descriptor)
        os.close(arrival.descriptor)
        if reason:
            # Not at once: the slot that it gives back may let in the next, and so on without end.
            asyncio.get_running_loop().call_soon(session.start_failed, reason)
        self._watch_lifetime()
        self._shared.handed_over()

    def _start(self, session: Session, packet: bytes, client: int) -> int:
        """Send the session to a launcher; return 0, or the errno of why it could not be."""
        launcher = self.pool.choose()
        if launcher is None:
            return NOT_TAKEN
        try:
            taken = launcher.start(session.connection, packet, client, session)
        except OSError as problem:
            return problem.errno or NOT_TAKEN
        return 0 if taken else NOT_TAKEN

    def dropped(self, remote: str, reason: str) -> None:
        """Count a connection that was accepted only to be closed, for want of descriptors."""
        self._counts.add(ACCEPTED)
        self._counts.add(FAILED[DESCRIPTORS])
        events.connection_dropped(self._log, self.name, remote, reason)

    def refuse(self, arrival: Arrival, reason: str, message: str, rule: Rule | None = None) -> None:
        """Send a client away; a slot that it has is free again."""
        now = time.monotonic()
        self._counts.add(REFUSED[reason])
        send_away(arrival.descriptor, message.encode())
        if self._refusals.note(reason, now):
            events.connection_refused(self._log, self.settings, arrival, reason, rule)
        elif self._refusals.untold == 1:
            asyncio.get_running_loop().call_later(self._refusals.ends - now, self.summarise)
        if arrival.slot is not None:
            self._release(arrival.slot)

    def summarise(self) -> None:
        """Log how many refusals were not logged one by one, unless that is done already."""
        if self._refusals.untold:
            seconds = round(time.monotonic() - self._refusals.ends + WINDOW, 3)
            events.connections_refused(self._log, self.name, seconds, self._refusals.summary())

    # Sessions' ends

    def found(self, connection: int, ip: str, port: int, began: float, *, counted: bool) -> Session:
        """Take in a session that an earlier loop began; counted: which has counted it as accepted."""
        session = Session(self, connection, ip, port, began)
        session.slot = self.limits.restore(ip)
        if not counted:
            self._counts.add(ACCEPTED)
        self.sessions[connection] = session
        return session

    def all_found(self) -> None:
        """Put the sessions that were found in the order of their begin."""
        self.sessions = dict(sorted(self.sessions.items(), key=lambda item: item[1].began))
        self._watch_lifetime()

    def started(self, session: Session, pid: int) -> None:
        """Take note that a session's program runs."""
        events.connection_started(self._log, session, pid)

    def session_served(self, session: Session) -> None:
        """Count out a session whose program has ended."""
        now = time.monotonic()
        assert session.process is not None
        returncode = session.process.get_returncode()
        how = outcome(returncode, asked=session.ending)
        self._shared.counters.count_out(self._counts, SERVED[how], session.connection)
        events.connection_served(self._log, session, now)
        if now - session.handed < GRACE and (returncode in FAILURES or returncode in CRASHES):
            # Clients that are exempt have no key, and each counts by its address.
            pause = self.throttle.started_badly(session.slot.client or session.ip, now)
            self._failing(pause, in_words(returncode))
        elif self.throttle.ended_well(session.handed):
            events.service_recovered(self._log, self.name)
        self._count_out(session)

    def session_failed(self, session: Session, reason: int) -> None:
        """Count out a session whose program could not be started."""
        now = time.monotonic()
        self._shared.counters.count_out(self._counts, failed_column(reason), session.connection)
        events.connection_failed(self._log, session, self.settings.executable, reason, now)
        if reason not in (NOT_TAKEN, errno.EOWNERDEAD):
            self._failing(self.throttle.cannot_start(now), os.strerror(reason))
        self._count_out(session)

    def _failing(self, pause: float | None, cause: str) -> None:
        if pause is not None:
            events.service_throttled(self._log, self.settings, pause, cause)

    def _count_out(self, session: Session) -> None:
        """Give a session's slots back: the one place where that happens."""
        del self.sessions[session.connection]
        self._release(session.slot)

    def _release(self, slot: Slot) -> None:
        self.limits.release(slot)
        self.entrance.start_ready()
        self.gate.resume(Hold.FULL)
        self.gate.resume(Hold.THROTTLED)
        self._shared.session_ended()

    def end_sessions(self) -> None:
        """End all sessions: SIGTERM, then SIGKILL after kill_timeout."""
        for session in self.sessions.values():
            if not session.ending:
                session.end(self.settings.kill_timeout)

    # Sessions' lifetime

    def _watch_lifetime(self) -> None:
        """Keep one timer, for the session that has lived longest, if lifetimes are limited."""
        limit = self.settings.max_lifetime
        if limit is None or self._lifetime is not None:
            return
        oldest = next((session for session in self.sessions.values() if not session.ending), None)
        if oldest is not None:
            wait = max(0.0, oldest.handed + limit - time.monotonic())
            self._lifetime = asyncio.get_running_loop().call_later(wait, self._end_of_life, limit)

    def _end_of_life(self, limit: float) -> None:
        """End the sessions that have lived too long; the eldest come first."""
        self._lifetime = None
        now = time.monotonic()
        for session in self.sessions.values():
            if session.handed + limit > now:
                break
            if not session.ending:
                events.lifetime_exceeded(self._log, session, limit)
                session.end(self.settings.kill_timeout)
        self._watch_lifetime()
