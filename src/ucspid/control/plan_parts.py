"""What plans are carried out with: the master sends it before the plan, or while one is in force.

Launchers, TLS processes, listeners, pipes for programs' standard error, the variables of rules files, the
days on which certificates end, and what the previous loop handed over.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from ucspid import plan
from ucspid.admission.listener import listener_of
from ucspid.control.serving import Server
from ucspid.ipc import orders
from ucspid.observe.log import LogOutput
from ucspid.sessions.stderr_log import StderrLog

OrderTable = dict[type[orders.Order], Callable[[Any, list[int]], None]]
"""What carries out an order with the descriptors beside it, by the order's type."""


class PlanParts:
    """Adds them to the server as they come, and removes those that the master has no more."""

    def __init__(self, server: Server, output: LogOutput) -> None:
        """Have none yet; output is where lines of programs' standard error go."""
        self.orders: OrderTable = {
            orders.AddLauncher: self._launcher,
            orders.RemoveLauncher: self._launcher_gone,
            orders.AddTls: self._add_tls,
            orders.RemoveTls: lambda order, _descriptors: server.tls.remove(order.number),
            orders.AddPipe: self._stderr_pipe,
            orders.AddListeners: self._listeners,
            orders.AllowVariables: self._allow,
            orders.TakeExpiries: self._expiries,
            orders.TakeHandover: self._handover,
        }
        self._server = server
        self._stderr: list[StderrLog] = []
        self._output = output
        self._ended = self._stderr.remove  # one object for all pipes
        self._opening: asyncio.Task[None] | None = None

    @property
    def descriptors(self) -> set[int]:
        """The reading ends of the pipes for programs' standard error."""
        return {pipe.descriptor for pipe in self._stderr}

    def follow_stderr(self) -> None:
        """Go over to a plan, and when all earlier sessions are known once more: whose lines pipes have."""
        self._follow()
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._when_all_are_known())

    async def _when_all_are_known(self) -> None:
        await self._server.opening.known.wait()
        self._follow()

    def _follow(self) -> None:
        """Set how many lines each pipe logs; and, once all earlier sessions are known, whose they are."""
        known = self._server.opening.known.is_set()
        services = {service.name: service for service in self._server.services.by_number.values()}
        for pipe in self._stderr:
            service = services.get(pipe.service)
            if service is not None:
                pipe.follow(service.settings.stderr_rate, service.sessions if known else None)

    def _launcher(self, order: orders.AddLauncher, descriptors: list[int]) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptors[0])
        self._server.add_launcher(order, sock)

    def _add_tls(self, order: orders.AddTls, descriptors: list[int]) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptors[0])
        self._server.tls.add(order.number, order.pid, sock)

    def _stderr_pipe(self, order: orders.AddPipe, descriptors: list[int]) -> None:
        log, has_room = self._output.logger, self._output.has_room
        self._stderr.append(StderrLog(log, order.service, descriptors[0], has_room, self._ended))

    def _listeners(self, order: orders.AddListeners, descriptors: list[int]) -> None:
        for number, descriptor in zip(order.numbers, descriptors, strict=True):
            self._server.services.listeners[number] = listener_of(number, descriptor)

    def _allow(self, order: orders.AllowVariables, descriptors: list[int]) -> None:
        file = plan.RulesFile(path=order.path, kind=order.kind, unusable=order.unusable)
        if descriptors:
            with os.fdopen(descriptors[0], "rb") as memory:
                memory.seek(0)
                self._server.services.rules_files.allow(file, json.load(memory))
        else:
            self._server.services.rules_files.refuse(file, order.reason or "")

    def _expiries(self, _order: orders.TakeExpiries, descriptors: list[int]) -> None:
        with os.fdopen(descriptors[0], "rb") as memory:
            memory.seek(0)
            self._server.certificates_end = json.load(memory)

    def _launcher_gone(self, order: orders.RemoveLauncher, _descriptors: list[int]) -> None:
        self._server.launchers.lose(order.number)

    def _handover(self, _order: orders.TakeHandover, descriptors: list[int]) -> None:
        self._server.inherit(descriptors[0])
        os.close(descriptors[0])
