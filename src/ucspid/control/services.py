"""All services of the event loop, the launchers that serve them, and the drain.

Carries out what the master says: takes plans and launchers, finds the sessions of before,
stops. Decides nothing about files or addresses.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from structlog.typing import FilteringBoundLogger

from ucspid import plan
from ucspid.admission.acceptor import Hold, Turns
from ucspid.admission.listener import Listener, Reserve
from ucspid.admission.rules_files import RulesFiles
from ucspid.errors import WireError
from ucspid.ipc.counters import ROWS, Counters
from ucspid.limits import Limits
from ucspid.observe import events
from ucspid.recovery.handover import Inheritance, stop_listening, write
from ucspid.recovery.takeover import Before
from ucspid.sessions.service import Service, Shared
from ucspid.spawn import STUCK_AFTER, Launcher, Pool

if TYPE_CHECKING:
    from ucspid.lookup.names import Names

GIVE_UP_AFTER = 5 * STUCK_AFTER
"""Seconds after which a new loop accepts although a launcher has not said what runs there.

That launcher could not even be killed: its program's disk hangs. Its sessions are not in the counts.
"""


class Master(Protocol):
    """What the loop may ask of the master."""

    def more_launchers(self, profile: int) -> None:
        """Ask for another launcher of a profile."""

    def broken_launcher(self, number: int) -> None:
        """Ask for a launcher to be replaced: it does not answer, or sends garbage."""

    def reload_for_rules(self) -> None:
        """Ask for a reload: a rules file sets variables that launchers do not know of yet."""

    def drained(self) -> None:
        """Say that the last session has ended."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A service as the master plans it."""

    number: int
    profile: int
    settings: plan.Service
    listeners: tuple[int, ...]


class Server:
    """The services of the event loop."""

    def __init__(
        self, log: FilteringBoundLogger, master: Master, names: "Names | None", counters: Counters, now: float
    ) -> None:
        """Begin with nothing; plans and launchers come from the master.

        Without names no service may want any looked up. now is seconds of the epoch: see Before.
        """
        self.services: dict[int, Service] = {}
        self.launchers: dict[int, Launcher] = {}
        self.listeners: dict[int, Listener] = {}
        self.draining = False
        self.known = asyncio.Event()
        """Set when all sessions of an earlier loop are counted."""
        self.limits = Limits(0)
        self._log = log
        self._master = master
        self._pools: dict[int, tuple[Pool, Turns]] = {}
        self._turns = Turns(Hold.DAEMON_FULL, lambda: not self.limits.full)
        self.before = Before(self._owner, counters, log, now)
        self.reserve = Reserve()
        self.rules_files = RulesFiles(log, master.reload_for_rules)
        self._shared = Shared(
            log=log,
            limits=self.limits,
            counters=counters,
            turns=self._turns,
            reserve=self.reserve,
            names=names,
            follow=self.rules_files.follow,
            next_connection=self.before.next_connection,
            handed_over=self._watch,
            session_ended=self._session_ended,
        )
        self._planned: dict[int, Planned] = {}
        self._inheritance = Inheritance(log)
        self._retired: dict[tuple[int, str], Service] = {}
        self._watching = False
        self._begun = False
        self._settled = False
        self._first: Callable[[], None] | None = None
        """What to do as soon as all sessions are counted, and before anything is accepted."""

    @property
    def live(self) -> int:
        """How many connections there are: sessions, and those on their way to be one."""
        return sum(service.limits.live for service in self.all_services())

    def all_services(self) -> Iterable[Service]:
        """Return the services of the plan, and those that only have sessions left."""
        return [*self.services.values(), *self._retired.values()]

    # Plans

    def take(self, max_connections: int, changed: list[Planned], kept: Iterable[int] = ()) -> None:
        """Go over to a plan: its listeners are in self.listeners, its launchers known.

        The services whose numbers are kept go on untouched, however many they are.
        """
        self.limits.max_connections = max_connections
        served = self._served()
        self._planned = {number: self._planned[number] for number in kept}
        self._planned |= {item.number: item for item in changed}
        self.rules_files.change(item.settings for item in self._planned.values())
        for number in self.services.keys() - self._planned:
            self._retire(self.services.pop(number))
        for item in changed:
            pool, turns = self._pool(item.profile)
            service = self.services.get(item.number) or self._retired.pop(
                (item.number, item.settings.name), None
            )
            if service is None:
                service = Service(item.number, item.settings, pool, turns, self._shared)
            else:
                service.change(item.settings, pool, turns)
            self._inheritance.take_up(service)  # a session of before may have made it known already
            self.services[item.number] = service
            service.gate.serve([self.listeners[number] for number in item.listeners])
        self._release_launchers({item.profile for item in self._planned.values()})
        self._tell_listeners(served)
        self._turns.go_on()

    def _served(self) -> dict[int, str]:
        return {
            listener.number: service.name
            for service in self.services.values()
            for listener in service.gate.listeners
        }

    def _tell_listeners(self, before: dict[int, str]) -> None:
        """Log which listeners came and went; close those that went."""
        now = self._served()
        for number, service in now.items():
            if before.get(number) != service:
                events.listening(self._log, service, self.listeners[number].text)
        for number in self.listeners.keys() - now.keys():
            listener = self.listeners.pop(number)
            listener.sock.close()
            events.not_listening(self._log, before.get(number, ""), listener.text)

    def _retire(self, service: Service) -> None:
        service.close()
        if service.limits.live:
            self._retired[service.number, service.name] = service

    def served_by(self, launcher: int) -> list[str]:
        """Return the services of a launcher's profile."""
        return [service.name for service in self.services.values() if launcher in service.pool.launchers]

    def _release_launchers(self, profiles: set[int]) -> None:
        """Let launchers of profiles that no service has any more leave with their last program."""
        for number in self._pools.keys() - profiles:
            pool, _turns = self._pools[number]
            for launcher in pool.launchers.values():
                launcher.leave()
            if not pool.launchers:
                del self._pools[number]

    # Launchers

    def add_launcher(self, number: int, profile: int, sock: socket.socket, *, leaving: bool) -> None:
        """Take in a launcher; its sessions of before are found first."""
        pool, turns = self._pool(profile)
        launcher = Launcher(number, sock, self.before, partial(self._changed, turns))
        self.launchers[number] = launcher
        pool.add(launcher)
        if leaving:
            launcher.leave()
        asyncio.get_running_loop().add_reader(launcher.fileno(), self._receive, launcher)

    def lose_launcher(self, number: int) -> None:
        """Let go of a launcher that has left, or that is gone and not replaced."""
        launcher = self.launchers.pop(number, None)
        if launcher is None:
            return
        asyncio.get_running_loop().remove_reader(launcher.fileno())
        for pool, _turns in self._pools.values():
            pool.launchers.pop(number, None)
        launcher.lost()
        launcher.close()
        if not self.before.balanced:
            self._settle()

    def _pool(self, profile: int) -> tuple[Pool, Turns]:
        if profile not in self._pools:
            pool = Pool(partial(self._master.more_launchers, profile))
            pool.open = self._settled
            turns = Turns(Hold.LAUNCHERS, lambda: pool.choose() is not None)
            self._pools[profile] = pool, turns
        return self._pools[profile]

    def _receive(self, launcher: Launcher) -> None:
        try:
            there = launcher.receive()
        except WireError as problem:
            events.launcher_broken(self._log, launcher.number, str(problem))
            self._master.broken_launcher(launcher.number)
        else:
            if not there:
                self.lose_launcher(launcher.number)

    def _changed(self, turns: Turns) -> None:
        if not self.before.balanced:
            self._settle()
        turns.go_on()

    # Sessions of before

    def begin(self) -> None:
        """Begin to accept as soon as all launchers have said what runs there: the first plan is complete."""
        self._begun = True
        self._inheritance.forget()
        self._settle()
        if not self.before.balanced:
            loop = asyncio.get_running_loop()
            loop.call_later(STUCK_AFTER, self._replace_silent)
            loop.call_later(GIVE_UP_AFTER, self._open)

    def _settle(self) -> None:
        if self._begun and all(launcher.synced for launcher in self.launchers.values()):
            self.before.balance(self.all_services())
            self._open()

    def _open(self) -> None:
        if self._settled:
            return
        self._settled = True
        self.known.set()
        events.loop_started(self._log, self.live)
        self._forget_retired()
        for service in self.all_services():
            service.all_found()
        if self._first is not None:
            self._first()
        for pool, turns in self._pools.values():
            pool.open = True
            turns.go_on()

    def _replace_silent(self) -> None:
        """Have the launchers replaced that do not say what runs there; what they ran goes on."""
        if self._settled:
            return
        for launcher in self.launchers.values():
            if not launcher.synced:
                events.launcher_stuck(self._log, launcher.number, launcher.pid)
                self._master.broken_launcher(launcher.number)

    def _owner(self, number: int, name: str) -> Service:
        """Return the service of a session, as one that has only sessions if the plan has it no more."""
        owner = self.services.get(number) or self._retired.get((number, name))
        if owner is None and number in range(ROWS):
            owner = Service(number, plan.retired(name), Pool(lambda: None), self._turns, self._shared)
            self._retired[number, name] = owner
        if owner is None or owner.name != name:
            raise WireError(f"service {number} is not called {name!r}")
        return owner

    # Connections come and go

    def _session_ended(self) -> None:
        self._turns.go_on()
        if self._retired and self._settled:
            self._forget_retired()
        if self.draining and not self.live:
            self._finish()

    def _forget_retired(self) -> None:
        """Let go of services that have neither a place in the plan nor connections.

        Not before a new loop has its plan: until then all are here, with their counts.
        """
        for which in [which for which, service in self._retired.items() if not service.limits.live]:
            del self._retired[which]

    def _watch(self) -> None:
        """Keep a timer while starts are in flight, to notice launchers that are stuck."""
        if not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_later(STUCK_AFTER, self._notice_stuck)

    def _notice_stuck(self) -> None:
        self._watching = False
        busy = False
        for pool, turns in self._pools.values():
            busy = busy or pool.busy
            for launcher in pool.notice_stuck():
                events.launcher_stuck(self._log, launcher.number, launcher.pid)
            turns.go_on()
        self._replace_overdue()
        if busy:
            self._watch()

    def _replace_overdue(self) -> None:
        """Have the launcher replaced whose start has been waiting longest for an answer.

        One at a time: of two that die at once nobody knows whose start a program was.
        """
        overdue = [launcher for launcher in self.launchers.values() if launcher.overdue]
        if overdue:
            launcher = min(overdue, key=lambda item: next(iter(item.in_flight)))
            self._master.broken_launcher(launcher.number)

    # Another loop before, another loop after

    def inherit(self, memory: int) -> None:
        """Take up what a loop that left has handed over; before the first plan."""
        self.before.go_on_after(self._inheritance.read(memory))

    async def leave(self, memory: int | None) -> None:
        """Leave all that lives to another loop, which goes on from what is written into the memory."""
        await stop_listening(self.all_services(), self.launchers.values())
        if memory is not None:
            write(memory, self.services.values(), self.before.last_connection)

    # The end

    def drain(self, *, at_once: bool, deadline: bool = True) -> None:
        """Accept nothing more; let the sessions end, for drain_timeout at most if there is a deadline.

        At once, or after that, programs get SIGTERM, and after kill_timeout SIGKILL. While
        sessions of before are not all counted, it waits until they are.
        """
        if not self._settled:
            self._first = partial(self.drain, at_once=at_once, deadline=deadline)
            if not self._begun:
                self.begin()
            return
        if not self.draining:
            self.draining = True
            longest = max((service.settings.drain_timeout for service in self.all_services()), default=0.0)
            events.draining(self._log, self.live, 0.0 if at_once else longest if deadline else None)
            served = self._served()
            for service in self.all_services():
                service.close()
            self._tell_listeners(served)
        for service in self.all_services():
            if at_once:
                service.end_sessions()
            elif deadline:
                asyncio.get_running_loop().call_later(service.settings.drain_timeout, service.end_sessions)
        if not self.live:
            self._finish()

    def _finish(self) -> None:
        for service in self.all_services():
            service.summarise()
        for launcher in self.launchers.values():
            launcher.leave()
        events.drained(self._log)
        self._master.drained()
