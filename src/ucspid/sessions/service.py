"""One service in the event loop: from its listeners through the stages to its sessions."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from ucspid.admission.acceptor import Acceptor
from ucspid.admission.connection import Connection
from ucspid.admission.listener import Listener, Reserve
from ucspid.admission.pipeline import Pipeline
from ucspid.admission.rules_file import FollowedRules
from ucspid.admission.stage import CLOSED, Refused, Resources
from ucspid.admission.stages.client_limits import over_limit
from ucspid.admission.tls_channels import TlsChannels
from ucspid.admission.turns import Turns
from ucspid.ipc.counters import ACCEPTED, DESCRIPTORS, FAILED, Counters
from ucspid.limits import Limits, Refusal, ServiceLimits
from ucspid.observe import events
from ucspid.observe.transcript import Transcript
from ucspid.plan import RulesFile
from ucspid.plan import Service as Settings
from ucspid.policy import validate
from ucspid.policy.bans import BanTable
from ucspid.policy.connection_states import Event
from ucspid.policy.last_failures import NOT_STARTED, LastFailure
from ucspid.policy.throttle import Throttle
from ucspid.pool import Pool
from ucspid.records import dataclass, replace
from ucspid.rules.networks import YamlRules
from ucspid.rules.rule import Rules
from ucspid.sessions.operator_limit import OperatorLimit
from ucspid.sessions.refusing import Refusing
from ucspid.sessions.sessions import Sessions
from ucspid.sessions.starts import Starts

if TYPE_CHECKING:
    from ucspid.lookup.names import Names


@dataclass(frozen=True, slots=True)
class Shared:
    """What all services of the loop share."""

    log: FilteringBoundLogger
    limits: Limits
    counters: Counters
    turns: Turns
    reserve: Reserve
    names: "Names | None"
    tls: TlsChannels
    transcript: Transcript | None
    follow: Callable[[RulesFile], FollowedRules]
    next_connection: Callable[[], int]
    handed_over: Callable[[], None]
    slot_released: Callable[[], None]
    passed: Callable[[Connection], None]
    earlier: set[Connection]
    bans: BanTable


class LiveService:
    """A service's state. At any moment accepted = served + refused + failed + live."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        pool: Pool,
        pool_turns: Turns,
        shared: Shared,
        sessions: Sessions | None = None,
    ) -> None:
        """Begin without listeners, with the sessions that are there already, if any.

        pool_turns are those of services that wait for the pool.
        """
        self.number = number
        self.name = settings.name
        self.settings = settings
        self.followed: FollowedRules | None = None
        """The rules file, if the rules are in one."""
        self.pool = pool
        self.pool_turns = pool_turns
        self.sessions = sessions or Sessions(
            number,
            settings.name,
            ServiceLimits(shared.limits, settings),
            settings.ending,
            shared.counters,
            shared.log,
            shared.transcript,
        )
        self.sessions.released = self._released
        self.sessions.passed = shared.passed
        self.sessions.earlier = shared.earlier
        self.limits: ServiceLimits = self.sessions.limits
        self.throttle: Throttle = self.sessions.throttle
        self.acceptor = Acceptor(self, shared.limits, shared.turns, shared.reserve, shared.log)
        self.operator_limit = OperatorLimit(self)
        self.pipeline = Pipeline(self)
        self._shared = shared
        self._log = shared.log
        self._starts = Starts(
            self.sessions, shared.next_connection, shared.tls, shared.handed_over, shared.log
        )
        self.refusing = Refusing(self.sessions, shared.log)
        self._reading: asyncio.Task[None] | None = None
        self._resources: Resources
        self._apply()

    def change(self, settings: Settings, pool: Pool, pool_turns: Turns) -> None:
        """Take new settings. Connections on their way, and programs that run, keep what they met."""
        self.settings = settings
        self.pool = pool
        self.pool_turns = pool_turns
        self._apply()

    def reloaded(self) -> None:
        """End what an operator has set, and the throttling: a reload may follow a repair of the program."""
        self.operator_limit.clear()
        if self.throttle.throttled:
            self.throttle.change(self.settings.throttle)
            self.acceptor.reevaluate()

    def _apply(self) -> None:
        settings = self.settings
        self.limits.change(settings)
        self.sessions.file = settings.executable
        self.sessions.program = settings.argv[0] if settings.argv else ""
        self.sessions.change(settings.ending)
        self.throttle.change(settings.throttle)
        rules: Callable[[], Rules | None] | None = None
        self.followed = None
        if isinstance(settings.rules, RulesFile):
            followed = self.followed = self._shared.follow(settings.rules)
            rules = lambda: followed.rules  # noqa: E731 - what the file says when it is asked
        elif settings.rules is not None:
            table = YamlRules(settings.rules, settings.default_action)
            rules = lambda: table  # noqa: E731 - as above
        shared = self._shared
        self._resources = Resources(
            settings, self.limits, shared.names, rules, shared.tls, shared.next_connection,
            self.followed, shared.bans.asking(self.number),
        )  # fmt: skip
        self.pipeline.change(self._resources)

    def bans_changed(self) -> None:
        """Ask whether clients are denied, or do so no more."""
        self._resources = replace(self._resources, banned=self._shared.bans.asking(self.number))
        self.pipeline.restage(self._resources)

    # Connections in

    def arrived(self, descriptor: int, ip: str, port: int, listener: Listener) -> None:
        """Take an accepted connection: it is admitted, or refused by a stage."""
        self.sessions.count(ACCEPTED)
        connection = Connection(self.sessions, ip, port, time.monotonic())
        connection.descriptor = descriptor
        connection.listener = listener
        self.pipeline.enter(connection)

    def pends(self, connection: Connection) -> None:
        """Take note that a stage makes a connection wait."""
        self.sessions.waiting[connection] = None

    def admitted(self, connection: Connection) -> None:
        """Begin the session of a connection that all stages have let through, or have it wait for a slot."""
        assert connection.slot is not None
        if connection.slot.session:
            self.start(connection)  # the acceptor made sure of all else before it accepted
        else:
            connection.take(Event.ADMITTED)
            self.sessions.waiting[connection] = None
            self.acceptor.enqueue(connection)

    def settled(self) -> None:
        """Note that a connection no longer waits for a stage: there is room for another."""
        self.acceptor.reevaluate()

    def wait_for_rules(self) -> None:
        """Go on when the rules file has been read."""
        if self._reading is None and self.followed is not None:
            self._reading = asyncio.get_running_loop().create_task(self._wait_for(self.followed))

    async def _wait_for(self, followed: FollowedRules) -> None:
        try:
            await followed.read()
        finally:
            self._reading = None
            self.acceptor.reevaluate()

    def start(self, connection: Connection) -> None:
        """Begin the session of a connection that has all it needs."""
        self._starts.start(connection, self.settings, self.pool)

    def _released(self) -> None:
        """Give away a released slot: services that wait for the daemon's limit come first."""
        self._shared.slot_released()
        acceptor = self.acceptor
        if acceptor.held is not None or acceptor.queue:
            acceptor.reevaluate()

    # Connections that get no program

    def refuse_full(self, connection: Connection) -> None:
        """Refuse an admitted connection: there is no slot for its session."""
        self.refuse(connection, over_limit(Refusal.FULL, connection.rule, self.settings))

    def refuse(self, connection: Connection, refused: Refused) -> None:
        """Close a client's connection; a slot that it has is free again."""
        self.refusing.refuse(connection, refused, self.settings)

    def dropped(self, remote: str, reason: str) -> None:
        """Count a connection that was accepted only to be closed, for want of descriptors."""
        self.sessions.count(ACCEPTED)
        self.sessions.count(FAILED[DESCRIPTORS])
        self.sessions.failures.note(NOT_STARTED, LastFailure(reason, remote, 0, time.monotonic()))
        events.connection_dropped(self._log, self.name, remote, reason)

    # The end, and the next loop

    def close(self) -> None:
        """Stop accepting, and refuse waiting connections; sessions go on to their end."""
        self.acceptor.serve([])
        self.pipeline.close()
        for connection in self.acceptor.empty():
            self.refuse(connection, Refused(CLOSED))

    async def drain(self, grace: float) -> None:
        """Stop accepting; connections on their way in have so many seconds. Another loop takes over."""
        self.acceptor.serve([])
        await self.pipeline.drain(grace)
        self.close()
        self.refusing.summarise()

    def to_state(self, now: float) -> dict[str, Any]:
        """Return what from_state() takes: what the next loop should know beyond the sessions."""
        return {
            "rates": self.limits.rates.to_state(now),
            "throttle": self.throttle.to_state(),
            "refusals": self.refusing.window.to_state(),
            "failures": self.sessions.failures.to_state(),
            "paused": self.acceptor.paused,
        }

    def from_state(self, state: Any, now: float) -> None:
        """Restore an earlier loop's state. Raises ValueError for invalid parts; the rest is restored."""
        rates, throttle, refusals, failures, paused = validate.members(
            state, "rates", "throttle", "refusals", "failures", "paused"
        )
        self.acceptor.pause(paused=paused is True)
        self.limits.rates.from_state(rates, now)
        self.throttle.from_state(throttle, now)
        self.refusing.window.from_state(refusals, now)
        self.sessions.failures.from_state(failures, now)
