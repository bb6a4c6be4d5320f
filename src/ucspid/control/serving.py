"""The event loop's services and launchers put together, and the orders of the master carried out on them."""

import asyncio
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

from structlog.typing import FilteringBoundLogger

from ucspid import plan
from ucspid.admission.connection import Connection
from ucspid.admission.tls_channels import TlsChannels
from ucspid.control.launchers import LauncherMaster, Launchers
from ucspid.control.opening import Opening
from ucspid.control.services import Services
from ucspid.control.tls_reporter import TlsReporter
from ucspid.ipc import orders
from ucspid.ipc.counters import Counters
from ucspid.observe import events
from ucspid.observe.transcript import Transcript
from ucspid.recovery.handover import HandoverState, stop_listening, write
from ucspid.recovery.takeover import Takeover
from ucspid.sessions.service import Shared

if TYPE_CHECKING:
    from ucspid.lookup.names import Names


class LoopMaster(LauncherMaster, Protocol):
    """What the loop may ask of the master."""

    def allow_variables(self, service: int) -> None:
        """Have the launchers allow the variables that the rules file of a service sets."""

    def silent_tls(self, number: int) -> None:
        """Ask whether a TLS process hangs, which should have said something."""

    def settled(self) -> None:
        """Say that no connection is on its way any more that has met an earlier plan."""

    def drained(self) -> None:
        """Say that the last session has ended."""


class Server:
    """Applies plans, adds launchers, takes over from an earlier loop, drains."""

    def __init__(
        self,
        log: FilteringBoundLogger,
        master: LoopMaster,
        names: "Names | None",
        counters: Counters,
        now: float,
        transcript: Transcript | None = None,
    ) -> None:
        """Begin with nothing; plans and launchers come from the master.

        Without names no service may want any looked up. transcript is for the lines of tcpserver, if they
        are wanted. now is seconds of the epoch: see Takeover.
        """
        self.draining = False
        self.names = names
        self.services = Services(log, counters, master.allow_variables, self._slot_released, transcript)
        self.takeover = Takeover(self.services.owner, counters, log, now)
        self.launchers = Launchers(log, master, self.takeover, self._heard)
        self.opening = Opening(self.services, self.launchers, self.takeover, log)
        self._log = log
        self._master = master
        self._handover = HandoverState(log)
        self.tls = TlsChannels(TlsReporter(log, master.silent_tls))
        self.certificates_end: dict[str, float] = {}
        """When the first certificate of a service ends, by its name, in seconds since 1970."""
        self._shared = Shared(
            log=log,
            limits=self.services.limits,
            counters=counters,
            turns=self.services.turns,
            reserve=self.services.reserve,
            names=names,
            tls=self.tls,
            transcript=transcript,
            follow=self.services.rules_files.follow,
            next_connection=self.takeover.next_connection,
            handed_over=self.launchers.watch,
            slot_released=self._slot_released,
            passed=self.services.passed,
            earlier=self.services.earlier,
            bans=self.services.bans,
        )

    def take(
        self,
        max_connections: int,
        changed: list[plan.PlannedService],
        kept: Iterable[int] = (),
        endings: Mapping[tuple[int, str], plan.Ending] | None = None,
    ) -> None:
        """Go over to a plan: its listeners and launchers are known."""
        services = self.services
        served = services.served()
        taken = services.take(
            max_connections, changed, kept, self.launchers.pool, self._shared, endings or {}
        )
        for service in taken:
            self._handover.take_up(service)  # an earlier session may have made it known already
        services.serve(taken)
        self.launchers.release(services.profiles)
        services.report_listeners(served)
        services.turns.go_on()

    def watch_earlier(self) -> None:
        """Report the plan as settled as soon as no connection on its way in has an earlier one."""
        self.services.when_settled(self._in_flight(), self._master.settled)

    def _in_flight(self) -> list[Connection]:
        return [
            process.protocol
            for launcher in self.launchers.by_number.values()
            for process in launcher.in_flight.values()
            if isinstance(process.protocol, Connection)
        ]

    def add_launcher(self, order: orders.AddLauncher, sock: socket.socket) -> None:
        """Add a launcher; the sessions that it already runs are taken over first."""
        self.launchers.add(order, sock)

    def begin(self) -> None:
        """Accept as soon as all launchers have reported what they run: the first plan is complete."""
        self._handover.forget()
        self.opening.begin()

    # Another loop before, another loop after

    def inherit(self, memory: int) -> None:
        """Read what the previous loop has handed over; before the first plan."""
        self.takeover.go_on_after(self._handover.read(memory))

    async def hand_over(self, memory: int | None) -> None:
        """Stop accepting; write down the state for the next loop. Sessions go on."""
        services = list(self.services.by_number.values())
        await stop_listening(services, self.launchers.by_number.values())
        if memory is not None:
            write(memory, services, self.takeover.last_connection)

    # The end

    def drain(self, *, at_once: bool, deadline: bool = True) -> None:
        """Stop accepting; wait for the sessions to end, for drain_timeout at most if there is a deadline.

        At once, or after that, programs get SIGTERM, and after kill_timeout SIGKILL. While
        earlier sessions are not all counted, it waits until they are.
        """
        if not self.opening.known.is_set():
            self.opening.first(partial(self.drain, at_once=at_once, deadline=deadline))
            if not self.opening.begun:
                self.begin()
            return
        if not self.draining:
            self.draining = True
            longest = max((item.drain_timeout for item in self.services.all_sessions()), default=0.0)
            events.draining(self._log, self.services.live, 0.0 if at_once else longest if deadline else None)
            served = self.services.served()
            self.services.close()
            self.services.report_listeners(served)
        for sessions in self.services.all_sessions():
            if at_once:
                sessions.end_all()
            elif deadline:
                asyncio.get_running_loop().call_later(sessions.drain_timeout, sessions.end_all)
        self._finish_if_drained()

    def _heard(self) -> None:
        self.opening.heard()

    def _slot_released(self) -> None:
        if self.services.turns.waiting:
            self.services.turns.go_on()
        if self.services.retired and self.opening.known.is_set():
            self.services.forget_retired()
        if self.draining:
            self._finish_if_drained()

    def _finish_if_drained(self) -> None:
        if self.services.live:
            return
        for service in self.services.by_number.values():
            service.refusing.summarise()
        self.launchers.drain()
        events.drained(self._log)
        self._master.drained()
