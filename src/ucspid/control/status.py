"""What `ucspid status` shows: the loop's counts, services and processes as plain values."""

import asyncio
import collections
import contextlib
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ucspid import __version__
from ucspid.admission.obstacles import Hold
from ucspid.control.serving import Server
from ucspid.observe.log import LogOutput
from ucspid.policy.histogram import Timings
from ucspid.policy.last_failures import LastFailure
from ucspid.sessions.service import LiveService
from ucspid.sessions.sessions import Sessions
from ucspid.spawn import STUCK_AFTER

if TYPE_CHECKING:
    from ucspid.control.master_client import MasterClient

_NO_TIMINGS = Timings().to_state()
"""Of services that have had no session, which of a thousand are most."""


async def status(link: "MasterClient", config: str, began: float, output: LogOutput) -> dict[str, Any]:
    """Return the reply to the control verb status; docs/protocol-control.md describes it.

    A new loop knows the earlier sessions within a moment, and answers only then, unless that takes long.
    """
    server = link.server
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.opening.known.wait(), STUCK_AFTER)
    services = [
        *(_in_plan(service) for service in server.services.by_number.values()),
        *(_service(sessions, Hold.CLOSED) for sessions in server.services.retired.values()),
    ]
    return {
        "version": __version__,
        "uptime": round(time.monotonic() - began, 3),
        "generation": link.generation,
        "config": config,
        "processes": processes(server),
        "services": services,
        "listeners": [
            {"service": service.name, "address": listener.text}
            for service in server.services.by_number.values()
            for listener in service.acceptor.listeners
        ],
        "rules_files": server.services.rules_files.status(),
        "certificates": _certificates(server.certificates_end),
        "denied": len(server.services.bans),
        "tails": len(output.tails),
        "loop_uptime": round(time.monotonic() - link.began, 3),
        "log_dropped": output.dropped,
        "master_events": dict(link.master_events),
        "process_deaths": dict(link.process_deaths),
        "dns": {} if server.names is None else dict(server.names.outcomes),
        "totals": _totals(server, services),
    }


def _certificates(ends: Mapping[str, float]) -> list[dict[str, Any]]:
    """Describe when the first certificate of each service with TLS ends."""
    now = time.time()
    return [
        {
            "service": name,
            "not_after": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
            "left": round(at - now, 3),
        }
        for name, at in ends.items()
    ]


def processes(server: Server) -> list[dict[str, Any]]:
    """Describe the daemon's processes."""
    return [
        _process("master", os.getppid(), [], 0, draining=server.draining),
        _process("loop", os.getpid(), [], server.services.live, draining=server.draining),
        *(
            _process(
                "launcher",
                launcher.pid,
                sorted(server.launchers.served_by(launcher.number, server.services.by_number.values())),
                len(launcher.running),
                draining=launcher.draining,
            )
            | {"kind": server.launchers.kinds[launcher.number]}
            for launcher in server.launchers.by_number.values()
        ),
        *(_process("tls", pid, [], 0, draining=draining) for pid, draining in server.tls.processes),
    ]


def _process(role: str, pid: int, services: list[str], running: int, *, draining: bool) -> dict[str, Any]:
    """Describe a process; its user is a number, the user database being too slow for an event loop."""
    try:
        user = str(os.stat(f"/proc/{pid}").st_uid)
    except FileNotFoundError:
        user = ""
    return {
        "role": role,
        "pid": pid,
        "services": services,
        "user": user,
        "running": running,
        "draining": draining,
    }


def _in_plan(service: LiveService) -> dict[str, Any]:
    own = {
        "max_connections": service.settings.max_connections,
        "planned_max_connections": service.operator_limit.planned,
        "waiting": service.acceptor.clients_waiting,
    }
    return _service(service.sessions, state_of(service)) | own


def _service(sessions: Sessions, state: str) -> dict[str, Any]:
    counts = sessions.counts
    return {
        "name": sessions.name,
        "live": sessions.live,
        "max_connections": 0,
        "planned_max_connections": None,
        "waiting": 0,
        "accepted": counts.accepted,
        "served": counts.served,
        "ended": dict(counts.ended),
        "refused": dict(counts.refused),
        "failed": dict(counts.failed),
        "timings": _NO_TIMINGS if sessions.timings is None else sessions.timings.to_state(),
        "last_failures": [_failure(kind, failure) for kind, failure in sessions.failures.items()],
        "state": state,
    }


def _failure(kind: str, failure: LastFailure) -> dict[str, Any]:
    ago = time.monotonic() - failure.at
    return {
        "kind": kind,
        "what": failure.what,
        "remote": failure.remote,
        "conn": f"{failure.connection:x}" if failure.connection else "",
        "time": datetime.fromtimestamp(time.time() - ago, UTC).isoformat(timespec="seconds"),
        "ago": round(ago, 3),
    }


def state_of(service: LiveService) -> str:
    """Return why a service accepts nothing now; a throttled one only finds out when a client comes."""
    if service.acceptor.held is None and service.throttle.throttled:
        return Hold.THROTTLED
    return service.acceptor.held or "listening"


def _totals(server: Server, services: list[dict[str, Any]]) -> dict[str, Any]:
    by_reason: dict[str, collections.Counter[str]] = {
        outcome: collections.Counter() for outcome in ("ended", "refused", "failed")
    }
    for service in services:
        for outcome, counts in by_reason.items():
            counts.update(service[outcome])
    return {
        "live": server.services.live,
        "max_connections": server.services.limits.max_connections,
        "accepted": sum(service["accepted"] for service in services),
        "served": sum(service["served"] for service in services),
        **{outcome: dict(counts) for outcome, counts in by_reason.items()},
    }
