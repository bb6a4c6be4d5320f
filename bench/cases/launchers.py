"""The two launchers side by side, with tcpserver: what starting a program costs the server itself."""

from functools import partial

from bench import measure
from bench.cases.common import compare, served
from bench.contest import Measured, Result, Settings
from bench.daemon import Ucspid, UcspidPeer
from bench.load import Clients, Load
from bench.peers import Tcpserver
from bench.server import Peer, Server, Workload

FULL = {1: 800, 20: 2000, 200: 2000}
"""Connections in a round by the number of clients at once."""


def launchers(settings: Settings, at_once: int) -> Result:
    """Compare the native launcher, the one in Python, and tcpserver."""
    clients = Clients(settings.size(FULL[at_once], max(30, at_once)), at_once)
    peers: list[Peer] = [
        UcspidPeer("ucspid native", config={"launcher": "native"}),
        UcspidPeer("ucspid python", config={"launcher": "python"}),
        Tcpserver(),
    ]
    return compare(
        settings,
        f"launchers-{at_once}",
        f"either launcher, trivial program, {at_once} at once",
        peers,
        Workload(program=(settings.programs.trivial,), files=settings.files),
        partial(_by_role, settings, clients),
    )


def _by_role(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    """Put a load on a server; return also what loop and launchers used themselves, and their memory."""
    before = _own(server)
    figures, done = served(settings, clients, server)
    if isinstance(server, Ucspid):
        figures |= {
            f"{role} µs": (used - before[role]) / done.started * 1e6 for role, used in _own(server).items()
        }
        pids = server.roles()["launcher"]
        figures |= {"launchers": len(pids), "launcher PSS MB": measure.pss_of(pids) / len(pids) / 1e6}
    return figures, done


def _own(server: Server) -> dict[str, float]:
    if not isinstance(server, Ucspid):
        return {}
    return {role: measure.running_time_of(pids) for role, pids in server.roles().items() if role != "master"}
