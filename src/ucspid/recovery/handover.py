"""What an exiting event loop hands over to the next: its policies' state, as lines of JSON in a memfd.

Rates, throttling and refusal windows of each service, and the last number of a connection. Times
are monotonic, the same in every process. Sessions are not in it: launchers know them. The next
loop checks each value, since this one met the network.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from structlog.typing import FilteringBoundLogger

from ucspid.observe import events
from ucspid.policy import validate
from ucspid.sessions.service import LiveService
from ucspid.spawn import LauncherClient

MAX_CONNECTION = (1 << 64) - 1

GRACE = 2.0
"""Seconds for connections that are being looked up when the loop exits: none are accepted meanwhile."""


async def stop_listening(services: Iterable[LiveService], launchers: Iterable[LauncherClient]) -> None:
    """Accept nothing more, and give those on their way in a moment; then listen to launchers no more.

    So each of their reports is counted here or by the next loop.
    """
    await asyncio.gather(*(service.drain(GRACE) for service in services))
    for launcher in launchers:
        asyncio.get_running_loop().remove_reader(launcher.fileno())


def write(descriptor: int, services: Iterable[LiveService], connection: int) -> None:
    """Write the state, one line for each service, as many as there is room for.

    The memory has its size already, and cannot grow. Raises OSError.
    """
    room = os.fstat(descriptor).st_size - 1  # a NUL follows the last line
    now = time.monotonic()
    position = 0
    for line in _lines(services, connection, now):
        if position + len(line) <= room:
            position += os.pwrite(descriptor, line, position)


def _lines(services: Iterable[LiveService], connection: int, now: float) -> Iterator[bytes]:
    yield _line({"connection": connection})
    for service in services:
        yield _line({"service": service.name, "state": service.to_state(now)})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def read(descriptor: int) -> tuple[int, dict[str, Any]]:
    """Return the last number of a connection, and what is to be checked of each service, by its name.

    Raises ValueError for what is not as write() makes it; 0 and nothing if nothing was written.
    """
    extent = min(os.lseek(descriptor, 0, os.SEEK_HOLE), os.fstat(descriptor).st_size)
    text = os.pread(descriptor, extent, 0).rstrip(b"\0")
    first, *rest = text.split(b"\n")
    if not first:
        return 0, {}
    (connection,) = validate.members(_parsed(first), "connection")
    states = {}
    for line in filter(None, rest):
        name, state = validate.members(_parsed(line), "service", "state")
        states[str(name)] = state
    return validate.whole(connection, 0, MAX_CONNECTION), states


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class HandoverState:
    """What was handed over, until each service has restored its part."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        """Begin with nothing."""
        self._log = log
        self._states: dict[str, Any] = {}

    def read(self, descriptor: int) -> int:
        """Read the memory; return the last number of a connection."""
        try:
            connection, self._states = read(descriptor)
        except ValueError as problem:
            events.handover_refused(self._log, "", str(problem))
            return 0
        return connection

    def forget(self) -> None:
        """Drop the state that no service of the first plan has used."""
        self._states.clear()

    def take_up(self, service: LiveService) -> None:
        """Restore the state of a service of the first plan."""
        state = self._states.pop(service.name, None)
        try:
            if state is not None:
                service.from_state(state, time.monotonic())
        except ValueError as problem:
            events.handover_refused(self._log, service.name, str(problem))
