"""All services of the event loop, the launchers that serve them, and the drain.

Carries out what the master says: takes plans and launchers, finds the sessions of before,
stops. Decides nothing about files or addresses.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from ucspid import events, plan, tags
from ucspid.errors import WireError
from ucspid.followed import Followed
from ucspid.gate import Hold, Turns
from ucspid.handover import Inheritance, stop_listening, write
from ucspid.limits import Limits
from ucspid.listener import Listener, Reserve
from ucspid.lookup.names import Names
from ucspid.service import Service, Shared
from ucspid.session import Session
from ucspid.spawn import STUCK_AFTER, Launcher, Pool

_SEQUENCE_BITS = 30
"""Connection ids begin at the loop's start in seconds, shifted: a loop's ids never meet an earlier one's."""

_CLOCK_SLACK = 86_400.0
"""Seconds by which the clock may have been set back since an earlier loop numbered its connections."""

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

    def __init__(self, log: FilteringBoundLogger, master: Master, names: Names) -> None:
        """Begin with nothing; plans and launchers come from the master."""
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
        self._connection = int(time.time()) << _SEQUENCE_BITS
        self._shared = Shared(
            log=log,
            limits=self.limits,
            turns=self._turns,
            reserve=Reserve(),
            names=names,
            follow=self._follow,
            next_connection=self._next_connection,
            handed_over=self._watch,
            session_ended=self._session_ended,
        )
        self._planned: dict[int, Planned] = {}
        self._followed: dict[plan.RulesFile, Followed] = {}
        self._inheritance = Inheritance(log)
        self._retired: dict[str, Service] = {}
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
        self._allow_variables([item.settings for item in self._planned.values()])
        for number in self.services.keys() - self._planned:
            self._retire(self.services.pop(number))
        for item in changed:
            pool, turns = self._pool(item.profile)
            service = self.services.get(item.number) or self._retired.pop(item.settings.name, None)
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

    def _allow_variables(self, services: list[plan.Service]) -> None:
        """Let rules files set what the launchers of all services that name them know of."""
        files: dict[plan.RulesFile, list[frozenset[bytes]]] = {}
        for service in services:
            if isinstance(service.rules, plan.RulesFile):
                names = frozenset(os.fsencode(name) for name in service.rule_env)
                files.setdefault(service.rules, []).append(names)
        for file in self._followed.keys() - files:
            del self._followed[file]
        for file, allowed in files.items():
            followed = self._follow(file)
            followed.allow(frozenset.intersection(*allowed))

    def _follow(self, file: plan.RulesFile) -> Followed:
        """Return the rules of a file, the same for all services that name it."""
        if file not in self._followed:
            self._followed[file] = Followed(file, self._log, self._master.reload_for_rules)
        return self._followed[file]

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
            self._retired[service.name] = service

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
        launcher = Launcher(number, sock, self._found, partial(self._changed, turns))
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
        if not self._settled:
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
        if not self._settled:
            self._settle()
        turns.go_on()

    # Sessions of before

    def begin(self) -> None:
        """Begin to accept as soon as all launchers have said what runs there: the first plan is complete."""
        self._begun = True
        self._inheritance.forget()
        self._settle()
        if not self._settled:
            loop = asyncio.get_running_loop()
            loop.call_later(STUCK_AFTER, self._replace_silent)
            loop.call_later(GIVE_UP_AFTER, self._open)

    def _settle(self) -> None:
        if self._begun and all(launcher.synced for launcher in self.launchers.values()):
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

    def _found(self, service: int, connection: int, tag: bytes) -> Session:
        """Count in a session that an earlier loop began."""
        began, ip, port, name = tags.unpack(tag)
        if connection > self._latest_connection():
            raise WireError(f"connection {connection:x} cannot be yet")
        owner = self.services.get(service)
        if owner is None or owner.name != name:
            owner = self._retired.get(name)
        if owner is None:
            pool = Pool(lambda: None)
            owner = Service(service, plan.retired(name), pool, self._turns, self._shared)
            self._retired[name] = owner
        if connection in owner.sessions:
            raise WireError(f"connection {connection:x} is another launcher's")
        session = owner.found(connection, ip, port, began)
        self._connection = max(self._connection, connection)
        return session

    # Connections come and go

    @staticmethod
    def _latest_connection() -> int:
        return int(time.time() + _CLOCK_SLACK + 1) << _SEQUENCE_BITS

    def _next_connection(self) -> int:
        self._connection += 1
        return self._connection

    def _session_ended(self) -> None:
        self._turns.go_on()
        if self._settled:
            self._forget_retired()
        if self.draining and not self.live:
            self._finish()

    def _forget_retired(self) -> None:
        """Let go of services that have neither a place in the plan nor connections.

        Not before a new loop has its plan: until then all are here, with their counts.
        """
        for name in [name for name, service in self._retired.items() if not service.limits.live]:
            del self._retired[name]

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
        if busy:
            self._watch()

    # Another loop before, another loop after

    def inherit(self, memory: int) -> None:
        """Take up what a loop that left has handed over; before the first plan."""
        last = self._inheritance.read(memory)
        self._connection = max(self._connection, min(last, self._latest_connection()))

    async def leave(self, memory: int | None) -> None:
        """Leave all that lives to another loop, which goes on from what is written into the memory."""
        await stop_listening(self.all_services(), self.launchers.values())
        if memory is not None:
            write(memory, self.services.values(), self._connection)

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
            events.draining(self._log, self.live)
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
