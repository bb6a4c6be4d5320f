"""From accept to a slot: the stages of a service, one after the other, under one deadline.

A stage that decides at once costs a call; one that waits gets a task. A connection goes on
under the stages, and so under the plan, that it met.
"""

import asyncio
import math
from collections.abc import Coroutine
from functools import partial
from typing import Protocol

from ucspid.admission.connection import Connection
from ucspid.admission.stage import BUG, CLOSED, TIMED_OUT, Make, Outcome, Refused, Resources, Stage
from ucspid.admission.stages import (
    address_rules,
    bans,
    client_limits,
    client_names,
    first_words,
    fresh_rules,
    name_rules,
    proxy_header,
    tls_handshake,
)
from ucspid.policy.connection_states import Event

STAGES: tuple[Make, ...] = (
    proxy_header.make,
    bans.make,
    first_words.make,
    fresh_rules.make,
    address_rules.make,
    client_limits.make,
    tls_handshake.make,
    client_names.make,
    name_rules.make,
)
"""In this order, so that what costs least comes first. Another stage is a module, and its make() here."""

LATE = 1.0
"""Seconds beyond its deadline after which a connection whose stage has not come to a result is refused."""


class Admitting(Protocol):
    """What becomes of a connection."""

    def pends(self, connection: Connection) -> None:
        """Take note that a stage makes a connection wait."""

    def admitted(self, connection: Connection) -> None:
        """Take a connection that all stages have let through."""

    def refuse(self, connection: Connection, refused: Refused) -> None:
        """Close a connection that a stage has refused."""

    def settled(self) -> None:
        """Take note that a connection that was waited for has come to its result."""


class Pipeline:
    """The way into one service."""

    __slots__ = ("_closed", "_max_pending", "_service", "_tasks", "_timeout", "_tls", "crowded", "stages")

    def __init__(self, service: Admitting) -> None:
        """Start without stages; change() sets them."""
        self._service = service
        self.stages: tuple[Stage, ...] = ()
        """Those that a connection which is accepted now will pass."""
        self._timeout = 0.0
        self._closed = self._tls = False
        self._tasks: dict[asyncio.Task[None], Connection] = {}
        self._max_pending = math.inf
        self.crowded = False
        """Whether as many connections wait as may: only services with PROXY headers or TLS bound them."""

    def change(self, resources: Resources) -> None:
        """Use the stages that the settings ask for, for connections that are accepted from now on."""
        self._closed = False
        self._timeout = resources.settings.lookup.timeout
        proxy, tls = resources.settings.proxy, resources.settings.tls
        self._max_pending = min(
            math.inf if proxy is None else proxy.max_pending,
            math.inf if tls is None else tls.max_handshakes,
        )
        self._tls = tls is not None and tls.mode == "implicit"
        self.crowded = len(self._tasks) >= self._max_pending
        self.restage(resources)

    def restage(self, resources: Resources) -> None:
        """Use other stages under the same settings: bans have one only while somebody is denied."""
        made = (make(resources) for make in STAGES)
        self.stages = tuple(stage for stage in made if stage is not None)

    @property
    def pending(self) -> list[Connection]:
        """The connections that a stage makes wait."""
        return list(self._tasks.values())

    def enter(self, connection: Connection) -> None:
        """Take an accepted connection on its way: to the end, if nothing must be waited for."""
        connection.awaits_tls = self._tls
        self._go_on(connection, self.stages)

    async def drain(self, grace: float) -> None:
        """Give waiting connections so many seconds to be admitted, and refuse the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Refuse all waiting connections."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    def _go_on(self, connection: Connection, stages: tuple[Stage, ...]) -> None:
        try:
            for place, stage in enumerate(stages):
                outcome = stage.enter(connection)
                if outcome is None:
                    continue
                if isinstance(outcome, Refused):
                    self._service.refuse(connection, outcome)
                else:
                    self._wait(connection, outcome, stages[place + 1 :])
                return
            if self._closed:
                self._service.refuse(connection, Refused(CLOSED))
            else:
                self._service.admitted(connection)
        except Exception as bug:  # noqa: BLE001 - reported to the loop's handler, which logs it
            self._fail(connection, bug)

    def _wait(
        self, connection: Connection, result: Coroutine[None, None, Outcome], rest: tuple[Stage, ...]
    ) -> None:
        connection.take(Event.WAITS)
        connection.deadline = connection.deadline or connection.began + self._timeout
        self._service.pends(connection)
        task = asyncio.get_running_loop().create_task(self._finish(connection, result, rest))
        self._tasks[task] = connection
        self.crowded = len(self._tasks) >= self._max_pending
        task.add_done_callback(partial(self._finished, connection, result))

    async def _finish(
        self, connection: Connection, result: Coroutine[None, None, Outcome], rest: tuple[Stage, ...]
    ) -> None:
        outcome: Outcome
        try:
            async with asyncio.timeout_at(connection.deadline + LATE):
                outcome = await result
        except TimeoutError:
            outcome = Refused(TIMED_OUT)
        except Exception as bug:  # noqa: BLE001 - see _go_on()
            self._fail(connection, bug)
            return
        if outcome is not None:
            self._service.refuse(connection, outcome)
            return
        connection.take(Event.GOES_ON)
        self._go_on(connection, rest)

    def _finished(
        self, connection: Connection, result: Coroutine[None, None, Outcome], task: asyncio.Task[None]
    ) -> None:
        """Forget a task; if it was cancelled, perhaps before it started, refuse its client."""
        self._tasks.pop(task, None)
        self.crowded = len(self._tasks) >= self._max_pending
        if task.cancelled():
            result.close()
            self._service.refuse(connection, Refused(CLOSED))
        self._service.settled()

    def _fail(self, connection: Connection, bug: Exception) -> None:
        """Refuse the client if a stage has a bug."""
        context = {"message": "a connection on its way in", "exception": bug}
        asyncio.get_running_loop().call_exception_handler(context)
        self._service.refuse(connection, Refused(BUG))
