"""The services of the plan in force, and the sessions of those that it has no more."""

from collections.abc import Callable, Iterable, Mapping

from structlog.typing import FilteringBoundLogger

from ucspid import plan
from ucspid.admission.connection import Connection
from ucspid.admission.listener import Listener, Reserve
from ucspid.admission.rules_files import RulesFiles
from ucspid.admission.turns import Turns
from ucspid.errors import WireError
from ucspid.ipc.counters import ROWS, Counters
from ucspid.limits import Limits, ServiceLimits
from ucspid.observe import events
from ucspid.observe.transcript import Transcript
from ucspid.policy.bans import BanTable
from ucspid.policy.service_rates import NoLimits
from ucspid.pool import Pool
from ucspid.sessions.service import LiveService, Shared
from ucspid.sessions.sessions import Sessions

UNKNOWN = plan.Ending(drain_timeout=30.0, kill_timeout=5.0, max_lifetime=None)
"""How sessions end if only launchers name their service, and no plan does."""

PoolOf = Callable[[int], tuple[Pool, Turns]]
"""Returns the pool of a profile, by its number, and the turns of the services that wait for it."""


class Services:
    """Everything that has connections."""

    def __init__(
        self,
        log: FilteringBoundLogger,
        counters: Counters,
        allow_variables: Callable[[int], None],
        slot_released: Callable[[], None],
        transcript: Transcript | None = None,
    ) -> None:
        """Begin with none.

        allow_variables() is called when the rules file of a service, by its number, sets variables that
        launchers do not know, slot_released() when a slot is free of a service that is not in the plan.
        """
        self.by_number: dict[int, LiveService] = {}
        self.retired: dict[tuple[int, str], Sessions] = {}
        """Of services that the plan has no more, by number and name."""
        self.listeners: dict[int, Listener] = {}
        self.limits = Limits(0)
        self.turns = Turns(lambda: not self.limits.full)
        self.reserve = Reserve()
        self.bans = BanTable()
        """Whom an operator has denied."""
        self._log = log
        self._transcript = transcript
        self._counters = counters
        self.rules_files = RulesFiles(log, allow_variables)
        self._slot_released = slot_released
        self._planned: dict[int, plan.PlannedService] = {}
        self._endings: Mapping[tuple[int, str], plan.Ending] = {}
        self.earlier: set[Connection] = set()
        """Connections on their way that have met an earlier plan."""
        self._settled: Callable[[], None] | None = None

    @property
    def live(self) -> int:
        """How many connections there are: sessions, and those on their way to be one."""
        return sum(sessions.live for sessions in self.all_sessions())

    def all_sessions(self) -> list[Sessions]:
        """Return the sessions of each service: of those of the plan, and of those that have only sessions."""
        return [*(service.sessions for service in self.by_number.values()), *self.retired.values()]

    # Plans

    def take(
        self,
        max_connections: int,
        changed: list[plan.PlannedService],
        kept: Iterable[int],
        pool_of: PoolOf,
        shared: Shared,
        endings: Mapping[tuple[int, str], plan.Ending],
    ) -> list[LiveService]:
        """Go over to a plan: its listeners are there. Return the services that are new or changed.

        The services whose numbers are kept go on as they are, however many they are. endings say how
        sessions end of services that the plan has no more.
        """
        self.limits.max_connections = max_connections
        self._endings = endings
        self._planned = {number: self._planned[number] for number in kept}
        self._planned |= {item.number: item for item in changed}
        self.rules_files.change((item.number, item.settings) for item in self._planned.values())
        for number in self.by_number.keys() - self._planned:
            self._retire(self.by_number.pop(number))
        for old in self.by_number.values():
            old.reloaded()
        taken = []
        for item in changed:
            pool, turns = pool_of(item.profile)
            service = self.by_number.get(item.number)
            if service is None:
                sessions = self.retired.pop((item.number, item.settings.name), None)
                service = LiveService(item.number, item.settings, pool, turns, shared, sessions)
                self.by_number[item.number] = service
            else:
                service.change(item.settings, pool, turns)
            taken.append(service)
        for which, sessions in self.retired.items():
            if which in endings:
                sessions.change(endings[which])
        return taken

    def serve(self, services: Iterable[LiveService]) -> None:
        """Have services listen as planned."""
        for service in services:
            numbers = self._planned[service.number].listeners
            service.acceptor.serve([self.listeners[number] for number in numbers])

    @property
    def profiles(self) -> set[int]:
        """The profiles that services have."""
        return {item.profile for item in self._planned.values()}

    # Listeners

    def served(self) -> dict[int, str]:
        """Return the names of services by the numbers of their listeners."""
        return {
            listener.number: service.name
            for service in self.by_number.values()
            for listener in service.acceptor.listeners
        }

    def report_listeners(self, before: Mapping[int, str]) -> None:
        """Log which listeners were added and removed since served() returned them; close the removed ones."""
        now = self.served()
        for number, service in now.items():
            if before.get(number) != service:
                events.listening(self._log, service, self.listeners[number].text)
                self._tell_status(service)
        for number in self.listeners.keys() - now.keys():
            listener = self.listeners.pop(number)
            listener.sock.close()
            events.not_listening(self._log, before.get(number, ""), listener.text)

    def _tell_status(self, name: str) -> None:
        for service in self.by_number.values():
            if service.name == name and service.sessions.lines is not None:
                service.sessions.lines.status()

    # Services that are no more

    def close(self) -> None:
        """Accept nothing more for any service; sessions go on to their end."""
        for service in self.by_number.values():
            service.close()

    def _retire(self, service: LiveService) -> None:
        service.close()
        if service.limits.live:
            self.retired[service.number, service.name] = service.sessions

    def forget_retired(self) -> None:
        """Forget services that have neither a place in the plan nor connections."""
        for which in [which for which, sessions in self.retired.items() if not sessions.limits.live]:
            del self.retired[which]

    def owner(self, number: int, name: str) -> Sessions:
        """Return the sessions of a service, which the plan may not have any more.

        Raises WireError for what cannot be: a launcher made it up.
        """
        service = self.by_number.get(number)
        owner = self.retired.get((number, name)) if service is None else service.sessions
        if owner is None and number in range(ROWS):
            ending = self._endings.get((number, name), UNKNOWN)
            limits = ServiceLimits(self.limits, NoLimits())
            owner = Sessions(number, name, limits, ending, self._counters, self._log, self._transcript)
            owner.released = self._slot_released
            self.retired[number, name] = owner
        if owner is None or owner.name != name:
            raise WireError(f"service {number} is not called {name!r}")
        return owner

    # Connections that met an earlier plan

    def when_settled(self, in_flight: Iterable[Connection], settled: Callable[[], None]) -> None:
        """Call settled() when no connection is on its way any more that has met an earlier plan.

        Those are the ones that wait in a service, and those whose start no launcher has answered
        yet. Only then may what they were promised be taken away: variables, programs.
        """
        waiting = (connection for sessions in self.all_sessions() for connection in sessions.waiting)
        self.earlier.clear()
        self.earlier.update(waiting, in_flight)
        self._settled = settled
        self._settle()

    def passed(self, connection: Connection) -> None:
        """Take note that a connection has been refused, or its start answered."""
        self.earlier.discard(connection)
        self._settle()

    def _settle(self) -> None:
        if self._settled is not None and not self.earlier:
            settled, self._settled = self._settled, None
            settled()
