"""What the event loop does of the master's orders, and when."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any, cast

import structlog

from inprocess import TIMEOUT, settings
from ucspid.control.master_client import MasterClient
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.counters import SIZE, Counters
from ucspid.linux.memfd import sealed_memory
from ucspid.observe.log import LogOutput
from ucspid.plain import to_json
from ucspid.plan import PlanFrame, PlannedService

LOGGER = structlog.wrap_logger(None, processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])


async def test_control_clients_wait_for_the_first_plan() -> None:
    ours, theirs = map(Channel, pair())
    output = SimpleNamespace(logger=LOGGER, transcript=None, set_level=lambda _level: None)
    nothing: Any = lambda: None  # noqa: E731
    counters = Counters(sealed_memory("counters", SIZE))
    link = MasterClient(theirs, cast("LogOutput", output), None, counters, nothing, nothing)
    planned = asyncio.get_running_loop().create_future()
    link.planned = lambda: planned.set_result([item.name for item in link.server.services.by_number.values()])
    service = PlannedService(number=1, profile=1, settings=settings("a"), listeners=())
    frame = PlanFrame(max_connections=1, kept=(), gone=())
    with os.fdopen(os.memfd_create("plan"), "w") as memory, ours.sock, theirs.sock:
        memory.write(f"{to_json(frame)}\n{to_json(service)}\n")
        memory.flush()
        ours.send(orders.pack(orders.TakePlan(generation=1, log_level="info")), (memory.fileno(),))
        assert await asyncio.wait_for(planned, TIMEOUT) == ["a"]
        asyncio.get_running_loop().remove_reader(theirs.fileno())
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_it_says_that_an_event_of_the_master_is_logged() -> None:
    ours, theirs = map(Channel, pair())
    output = SimpleNamespace(logger=LOGGER, transcript=None, set_level=lambda _level: None)
    nothing: Any = lambda: None  # noqa: E731
    counters = Counters(sealed_memory("counters", SIZE))
    MasterClient(theirs, cast("LogOutput", output), None, counters, nothing, nothing)
    with ours.sock, theirs.sock:
        ours.send(orders.pack(orders.LogEvent(level="error", event="tls_broken", fields={"reason": "x"})))
        ours.sock.setblocking(False)
        packet = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours.sock, 100), TIMEOUT)
        assert wire.Note.unpack(packet) == wire.Note(wire.NOTE_LOGGED)
        asyncio.get_running_loop().remove_reader(theirs.fileno())
