"""The loop's end of the channel to the master: takes plans and orders, asks, answers.

What the master sends is JSON with a key "do" that says what, and descriptors beside it; it is
trusted. What the loop sends has a fixed layout, so that the master need not parse much.
docs/internals.md lists the messages.
"""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ucspid import plain, plan
from ucspid.control.condition import condition
from ucspid.control.plan_parts import OrderTable, PlanParts
from ucspid.control.requests import Requests
from ucspid.control.serving import Server
from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.channel import Channel
from ucspid.ipc.counters import Counters
from ucspid.observe import events
from ucspid.observe.log import LogOutput

ROLES = ("loop", "launcher", "tls", "web")
"""Of processes that the master starts again when they die."""

if TYPE_CHECKING:
    from ucspid.lookup.names import Names


class MasterClient:
    """Carries out the master's orders and sends it the loop's notes."""

    def __init__(
        self,
        channel: Channel,
        output: LogOutput,
        names: "Names | None",
        counters: Counters,
        finished: Callable[[], None],
        alone: Callable[[], None],
    ) -> None:
        """Speak over the channel.

        finished() is called when the loop has nothing more to do, alone() when the master is gone.
        """
        self.generation = 0
        self.began = time.monotonic()
        self.planned: Callable[[], None] = lambda: None
        """Called when the first plan is there."""
        self.server = Server(output.logger, self, names, counters, time.time(), output.transcript)
        self._channel = channel
        self._output = output
        self._log = output.logger
        self._finished, self._alone = finished, alone
        self._parts = PlanParts(self.server, output)
        self.requests = Requests(self._note)
        self.adopt: Callable[[socket.socket], None] = socket.socket.close
        """Called with a connection whose other end may look."""
        self.master_events, self.process_deaths = Counter[str](), dict.fromkeys(ROLES, 0)
        """How often the master has had each event logged here; and of process_died, by role."""
        self._handing_over: asyncio.Task[None] | None = None
        self._orders: OrderTable = {
            **self._parts.orders,
            orders.AddLookers: self._lookers,
            orders.TakePlan: self._plan,
            orders.Stop: self._stop,
            orders.HandOver: self._begin_handover,
            orders.ReportCondition: self._report_condition,
            orders.LogEvent: self._log_event,
            orders.Answer: self._answered,
            orders.TakeStage: lambda order, _descriptors: self.requests.at(order.stage),
        }
        asyncio.get_running_loop().add_reader(channel.fileno(), self._receive)

    @property
    def descriptors(self) -> set[int]:
        """The reading ends of the pipes for programs' standard error."""
        return self._parts.descriptors

    # What the loop says

    def more_launchers(self, profile: int) -> None:
        """Ask for another launcher of a profile."""
        self._note(wire.NOTE_MORE, profile)

    def broken_launcher(self, number: int) -> None:
        """Ask for a launcher to be replaced."""
        self._note(wire.NOTE_BROKEN, number)

    def silent_tls(self, number: int) -> None:
        """Ask whether a TLS process hangs."""
        self._note(wire.NOTE_TLS_SILENT, number)

    def allow_variables(self, service: int) -> None:
        """Have the launchers allow the variables that the rules file of a service sets."""
        self._note(wire.NOTE_VARIABLES, service)

    def settled(self) -> None:
        """Say that no connection is on its way any more that has met an earlier plan."""
        self._note(wire.NOTE_SETTLED, self.generation)

    def drained(self) -> None:
        """Finish: the last session has ended."""
        self._finished()

    def _note(self, kind: int, number: int = 0, token: int = 0) -> None:
        self._channel.send(wire.Note.head(kind, number, token))

    # What the master says

    def _receive(self) -> None:
        try:
            received = self._channel.receive()
        except WireError as problem:
            # For want of descriptors, say: another process of the loop is sent everything again.
            events.internal_error(self._log, {"message": "an order of the master", "exception": problem})
            self._finished()
            return
        self._channel.flush()
        if received is None:
            return
        packet, descriptors = received
        if packet:
            order = orders.unpack(packet)
            self._orders[type(order)](order, descriptors)
            return
        self._go_on_alone()

    def _lookers(self, _order: orders.AddLookers, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            self.adopt(socket.socket(fileno=descriptor))

    def _plan(self, order: orders.TakePlan, descriptors: list[int]) -> None:
        with os.fdopen(descriptors[0], encoding="utf-8") as memory:
            memory.seek(0)
            frame = plain.read(plan.PlanFrame, plain.from_json(memory.readline()))
            planned = [plain.read(plan.PlannedService, plain.from_json(line)) for line in memory]
        first = self.generation == 0
        self.generation = order.generation
        self._output.set_level(order.log_level)
        endings = {(number, name): ending for number, name, ending in frame.gone}
        self.server.take(frame.max_connections, planned, frame.kept, endings)
        self._parts.follow_stderr()
        if first:
            self.server.begin()
            self.planned()
        self._note(wire.NOTE_TAKEN, self.generation)
        self.server.watch_earlier()

    def _stop(self, order: orders.Stop, _descriptors: list[int]) -> None:
        if order.alone:
            self._go_on_alone()
            self._note(wire.NOTE_ALONE)
        else:
            self.server.drain(at_once=order.at_once)

    def _go_on_alone(self) -> None:
        """See the sessions to their end without the master."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self.requests.fail("the master is gone")
        self._alone()
        self.server.drain(at_once=False, deadline=False)

    def _begin_handover(self, _order: orders.HandOver, descriptors: list[int]) -> None:
        self._handing_over = asyncio.get_running_loop().create_task(self._hand_over(descriptors))

    async def _hand_over(self, descriptors: list[int]) -> None:
        try:
            await self.server.hand_over(descriptors[0] if descriptors else None)
        finally:
            self._finished()

    def _report_condition(self, _order: orders.ReportCondition, _descriptors: list[int]) -> None:
        self._note(wire.NOTE_CONDITION, *condition(self.server).to_note())

    def _log_event(self, order: orders.LogEvent, _descriptors: list[int]) -> None:
        self.master_events[order.event] += 1
        if order.event == "process_died" and order.fields.get("role") in self.process_deaths:
            self.process_deaths[order.fields["role"]] += 1
        events.from_master(self._log, order.level, order.event, order.fields)
        self._note(wire.NOTE_LOGGED)

    def _answered(self, order: orders.Answer, _descriptors: list[int]) -> None:
        self.requests.answered(order)
