"""The daemon's check of its own counts: the control verb verify.

The loop counts again from scratch. It compares the result with its counters, with what launchers run and
with what the kernel says. Nothing is repaired. Programs start and end during the check, so a difference
is checked again after a moment. Only what differs every time is reported.
"""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ucspid.admission.connection import NO_DESCRIPTOR, Connection
from ucspid.admission.listener import Listener
from ucspid.control.serving import Server
from ucspid.linux import procfs
from ucspid.policy.connection_states import ConnectionState
from ucspid.records import dataclass, field
from ucspid.sessions.sessions import Sessions
from ucspid.spawn import STUCK_AFTER, LauncherClient

if TYPE_CHECKING:
    from ucspid.lookup.names import Names

LOOKS = 3
"""How many looks in a row must find a difference."""

AGAIN_AFTER = 0.1
"""Seconds between two looks: the end of a program reaches the loop through the master and a launcher."""

CLOSED = -1
"""The descriptor of a channel that is closed."""

MAX_DIFFERENCES = 1000
"""Differences that are listed. The rest is a number."""


@dataclass(slots=True)
class Findings:
    """What one look found."""

    differences: list[str] = field(default_factory=list)
    sessions: int = 0
    launchers: int = 0
    processes: int = 0


class Audit:
    """Compares what one loop counts with what runs."""

    def __init__(self, server: Server, names: "Names | None", others: Callable[[], Iterable[int]]) -> None:
        """Treat the descriptors open now as the loop's own; others() returns what else may be open later."""
        self._server = server
        self._names = names
        self._others = others
        self._own = procfs.open_descriptors().keys() - {server.services.reserve.descriptor}

    async def verify(self) -> dict[str, Any]:
        """Return the reply to the control verb verify; docs/protocol-control.md describes it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.opening.known.wait(), STUCK_AFTER)
        look = await self._look()
        for _again in range(LOOKS - 1):
            if not look.differences:
                break
            before = set(look.differences)
            await asyncio.sleep(AGAIN_AFTER)  # noqa: TID251 - no event says that all processes have caught up
            look = await self._look()
            look.differences = [line for line in look.differences if line in before]
        reported = look.differences[:MAX_DIFFERENCES]
        if len(look.differences) > MAX_DIFFERENCES:
            reported.append(f"... and {len(look.differences) - MAX_DIFFERENCES} more")
        return {
            "differences": reported,
            "sessions": look.sessions,
            "launchers": look.launchers,
            "processes": look.processes,
        }

    async def _look(self) -> Findings:
        server = self._server
        launchers = list(server.launchers.by_number.values())
        look = Findings(launchers=len(launchers))
        for launcher, answer in zip(
            launchers, await asyncio.gather(*map(_call_roll, launchers)), strict=True
        ):
            look.differences += answer or ()
            if answer is None:
                look.differences.append(f"launcher {launcher.number}: has not reported what it runs")
        look.sessions = sum(len(sessions.by_number) for sessions in server.services.all_sessions())
        look.differences += self._counts() + self._listeners()
        known = self._known_descriptors()
        programs = {launcher.pid: _programs(launcher) for launcher in server.launchers.by_number.values()}
        starting = {launcher.pid for launcher in server.launchers.by_number.values() if launcher.in_flight}
        look.differences += await asyncio.to_thread(procfs.differences, os.getppid(), programs, starting)
        look.processes = 2 + len(programs) + sum(map(len, programs.values()))
        found = {} if known is None else await asyncio.to_thread(procfs.open_descriptors)
        after = self._known_descriptors()  # those that came and went meanwhile
        if known is not None and after is not None:
            look.differences += [
                f"descriptor {number}: {what} is open, but nothing owns it"
                for number, what in found.items()
                if number not in known | after
            ]
        return look

    def _counts(self) -> list[str]:
        """Compare the loop's numbers with each other."""
        server = self._server
        services = server.services.all_sessions()
        found = [f"service {service.name}: {line}" for service in services for line in _service(service)]
        taken = sum(service.limits.sessions for service in services)
        if taken != server.services.limits.live:
            found.append(f"the daemon counts {server.services.limits.live} sessions, its services {taken}")
        at_launchers: Counter[int] = Counter()
        for launcher in server.launchers.by_number.values():
            at_launchers.update(launcher.in_flight.keys())
            at_launchers.update(launcher.running.keys())
        sessions = {connection for service in services for connection in service.by_number}
        found += [f"connection {number:x}: no launcher has it" for number in sessions - at_launchers.keys()]
        found += [f"connection {number:x}: no service has it" for number in at_launchers.keys() - sessions]
        found += [
            f"connection {number:x}: two launchers have it" for number, n in at_launchers.items() if n > 1
        ]
        return found

    def _listeners(self) -> list[str]:
        """Compare the listening sockets with their services."""
        server = self._server
        found = [
            f"listener {listener.text}: does not listen"
            for listener in server.services.listeners.values()
            if not _listens(listener)
        ]
        served = Counter(
            listener.number
            for service in server.services.by_number.values()
            for listener in service.acceptor.listeners
        )
        found += [
            f"listener {listener.text}: belongs to {served[number]} services"
            for number, listener in server.services.listeners.items()
            if served[number] != 1 and not server.draining
        ]
        found += [
            f"service {service.name}: {service.acceptor.held or 'open'}, but listener {listener.text} is not"
            for service in server.services.by_number.values()
            for listener in service.acceptor.listeners
            if listener.armed != (service.acceptor.held is None)
        ]
        for service in server.services.by_number.values():
            hold = service.acceptor.waits_in_vain()
            if hold is not None:
                found.append(f"service {service.name}: waits ({hold}), but nothing holds it back")
        return found

    def _known_descriptors(self) -> set[int] | None:
        """Return what may be open; None while names are looked up: the resolver opens sockets of its own."""
        server = self._server
        waiting = [item for sessions in server.services.all_sessions() for item in sessions.waiting]
        if self._names is not None and (not self._names.idle or any(map(_may_look_up, waiting))):
            return None
        return {
            *self._own,
            *self._others(),
            *server.services.rules_files.descriptors,
            *(listener.sock.fileno() for listener in server.services.listeners.values()),
            *(launcher.fileno() for launcher in server.launchers.by_number.values()),
            *(number for connection in waiting for number in (connection.descriptor, connection.pair)),
            *server.tls.descriptors,
            server.services.reserve.descriptor if server.services.reserve.descriptor is not None else -1,
        }


def _may_look_up(connection: Connection) -> bool:
    """Say whether a stage may have opened a socket for a connection that is none of its own."""
    pending = connection.state is ConnectionState.PENDING
    return pending and not (connection.awaits_tls or connection.pair != NO_DESCRIPTOR)


async def _call_roll(launcher: LauncherClient) -> list[str] | None:
    """Return how a launcher's sessions differ from the loop's, or None if it does not answer."""
    if launcher.fileno() == CLOSED:  # it exited after the list was made
        return []
    try:
        return await asyncio.wait_for(launcher.call_roll(), STUCK_AFTER)
    except TimeoutError:
        return None


def _programs(launcher: LauncherClient) -> dict[int, str]:
    return {
        process.pid: f"launcher {launcher.number}, connection {connection:x}"
        for connection, process in launcher.running.items()
    }


def _service(sessions: Sessions) -> list[str]:
    """Count again what a service holds."""
    limits = sessions.limits
    found = limits.differences()
    missing = sessions.counts.open - sessions.live
    if missing:
        found.append(f"{missing} accepted connections are in no other count")
    if sessions.unknown:
        found.append(f"{sessions.unknown} slots have no connection")
    return found


def _listens(listener: Listener) -> bool:
    try:
        return listener.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False
