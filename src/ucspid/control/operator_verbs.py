"""The control verbs of an operator: list and end sessions, pause and resume services, set the log's level."""

import asyncio
import math
import time
from collections.abc import Iterator
from typing import Any

from ucspid.admission.connection import Connection
from ucspid.control.selection import MEMBERS, Selection, selection
from ucspid.control.services import Services
from ucspid.errors import PeerError
from ucspid.observe import events
from ucspid.observe.log import LogOutput
from ucspid.policy.connection_states import ConnectionState
from ucspid.sessions.service import LiveService
from ucspid.sessions.sessions import Sessions

AT_A_TIME = 200
"""Sessions that are looked at before the event loop does other work."""

MAX_CONNECTIONS = 65536
"""Sessions that a service may be allowed: as many as the file may."""

LEVELS = ("debug", "info", "warning", "error")

STATES = {ConnectionState.HANDED: "starting"}
"""Words for states, where they are not the states' own."""


class OperatorVerbs:
    """What operators ask of a running daemon; nothing of it is in the file."""

    def __init__(self, services: Services, output: LogOutput) -> None:
        """Take what has the sessions, and the log."""
        self._services = services
        self._output = output
        self._log = output.logger

    async def sessions(self, args: dict[str, Any]) -> dict[str, Any]:
        """List the sessions that are selected, the oldest first within each service; those that wait, too."""
        wanted = self._selection(args, MEMBERS | {"most"})
        most = args.get("most", math.inf)
        if isinstance(most, bool) or not isinstance(most, int | float) or most < 0:
            raise PeerError("most is a number of sessions")
        found: list[dict[str, Any]] = []
        more = 0
        now = time.monotonic()
        for looked_at, (sessions, connection) in enumerate(list(self._all(waiting=True)), 1):
            if wanted.holds(sessions.name, connection.ip, connection.began, connection.number, now):
                if len(found) < most:
                    found.append(_described(sessions, connection, now))
                else:
                    more += 1
            if looked_at % AT_A_TIME == 0:
                await _turn()
        return {"sessions": found, "more": more}

    async def kill(self, args: dict[str, Any]) -> dict[str, Any]:
        """Send SIGTERM to the programs of the sessions that are selected, and SIGKILL after kill_timeout.

        With `now` SIGKILL follows at once.
        """
        wanted = self._selection(args, MEMBERS | {"now"})
        if wanted.everything:
            raise PeerError("kill needs a connection, a service, an ip or an age")
        at_once = args.get("now") is True
        ended = []
        now = time.monotonic()
        for sessions, connection in list(self._all(waiting=False)):
            if wanted.holds(sessions.name, connection.ip, connection.began, connection.number, now):
                ended.append(_described(sessions, connection, now))
                connection.end(0.0 if at_once else sessions.kill_timeout)
        if ended:
            events.kill_requested(self._log, len(ended), now=at_once)
        return {"sessions": ended}

    async def drain(self, args: dict[str, Any]) -> dict[str, Any]:
        """Accept nothing more for a service, until it is resumed; its sessions go on."""
        service = self._service(args)
        if not service.acceptor.paused:
            events.service_paused(self._log, service.name)
        service.acceptor.pause(paused=True)
        return {"live": service.sessions.live}

    async def resume(self, args: dict[str, Any]) -> dict[str, Any]:
        """Accept for a service again."""
        service = self._service(args)
        was_paused = service.acceptor.paused
        if was_paused:
            events.service_resumed(self._log, service.name)
        service.acceptor.pause(paused=False)
        return {"was_paused": was_paused}

    async def limit(self, args: dict[str, Any]) -> dict[str, Any]:
        """Have a service take so many sessions at most, until the next reload or another event loop."""
        wanted = args.get("max_connections")
        if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= MAX_CONNECTIONS:
            raise PeerError(f"max_connections is a whole number from 1 to {MAX_CONNECTIONS}")
        service = self._service({name: args[name] for name in args.keys() - {"max_connections"}})
        service.operator_limit.set(wanted)
        events.service_limited(self._log, service.name, wanted)
        return {"live": service.sessions.live, "planned": service.operator_limit.planned}

    async def log_level(self, args: dict[str, Any]) -> dict[str, Any]:
        """Log from this level on, until the next reload or another event loop."""
        level = args.get("level")
        if args.keys() != {"level"} or level not in LEVELS:
            raise PeerError(f"args has one member, level: {', '.join(LEVELS)}")
        self._output.set_level("warning")  # so that the change itself is logged whatever the level is
        events.log_level_set(self._log, level)
        self._output.set_level(level)
        return {"level": level}

    def _selection(self, args: dict[str, Any], members: frozenset[str]) -> Selection:
        if unknown := sorted(args.keys() - members):
            raise PeerError(f"unknown member of args: {', '.join(unknown)!r:.80}")
        return selection(args, {sessions.name for sessions in self._services.all_sessions()})

    def _service(self, args: dict[str, Any]) -> LiveService:
        names = {service.name: service for service in self._services.by_number.values()}
        match args:
            case {"service": str(name), **rest} if not rest and name in names:
                return names[name]
            case {"service": str(name), **rest} if not rest:
                raise PeerError(f"there is no service {name!r:.40}: {', '.join(sorted(names))}")
        raise PeerError("args has one member, service")

    def _all(self, *, waiting: bool) -> Iterator[tuple[Sessions, Connection]]:
        for sessions in self._services.all_sessions():
            for connection in sessions.by_number.values():
                yield sessions, connection
            for connection in sessions.waiting if waiting else ():
                yield sessions, connection


async def _turn() -> None:
    """Let the event loop do other work."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn


def _described(sessions: Sessions, connection: Connection, now: float) -> dict[str, Any]:
    return {
        "service": sessions.name,
        "conn": f"{connection.number:x}" if connection.number else "",
        "state": STATES.get(connection.state, connection.state.value),
        "pid": connection.process.pid or None if connection.process is not None else None,
        "remote": connection.remote,
        "balancer": connection.balancer,
        "rule": None if connection.rule is None else connection.rule.where,
        "age": round(now - connection.began, 3),
        "ending": connection.ending,
    }
