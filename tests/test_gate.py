import asyncio
import errno
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from inprocess import Rig, received, serving, settings

from ucspid.gate import BATCH, Hold
from ucspid.plan import Rate
from ucspid.spawn import IN_FLIGHT

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def start_one(rig: Rig, launcher: int = 0) -> int:
    (connection,) = await rig.starts(1)
    rig.launchers[launcher].started(connection)
    return connection


async def end_all(rig: Rig) -> None:
    """End sessions as they come, until nobody waits."""
    while rig.server.limits.live or any(service.gate.held for service in rig.server.all_services()):
        for connection in await rig.starts(1):
            rig.launchers[0].started(connection)
            rig.launchers[0].exited(connection)
        await rig.until(lambda: not rig.server.limits.live or rig.launchers[0].starts)


def ports(rig: Rig, name: str) -> list[int]:
    return [session.port for session in rig.service(name).sessions.values()]


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process without a free descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_client_over_the_limit_waits_in_the_backlog_until_a_session_ends() -> None:
    async with serving(settings("a", max_connections=1) if False else one("a")) as rig:
        rig.connect("a")
        connection = await start_one(rig)
        second = rig.connect("a")
        await rig.until(lambda: rig.service("a").gate.held is Hold.FULL)
        assert rig.service("a").accepted == 1
        rig.launchers[0].exited(connection)
        await rig.until(lambda: rig.service("a").accepted == 2 and rig.launchers[0].starts)
        assert ports(rig, "a") == [second.getsockname()[1]]
        await end_all(rig)


def one(name: str, **changed: Any) -> Any:
    return settings(name, **{"max_connections": 1, **changed})
