"""A program that does next to nothing: what the server itself costs and how fast it is."""

from dataclasses import replace
from functools import partial

from bench.cases.common import compare, served, served_with_own
from bench.contest import Measured, Result, Settings
from bench.daemon import Ucspid, UcspidPeer
from bench.floors import Floor, TwoProcesses
from bench.load import Clients, Load
from bench.peers import Tcpserver, Tcpsvd, all_peers
from bench.server import Peer, Server, Workload

FULL = {1: 800, 20: 1500, 200: 1500}
"""Connections in a round by the number of clients at once."""

PATIENCE = 15, 5
"""Seconds after which peers have forgotten clients: xinetd's backlog is 64, and more than that get lost."""

BARE_AT_ONCE = 20

ARRIVALS = 1000
"""Connections a second in the case with a fixed rate: well below what the servers manage."""


def trivial(settings: Settings, at_once: int) -> Result:
    """Compare all servers with a fixed number of clients."""
    count = settings.size(FULL[at_once], max(30, at_once))
    return compare(
        settings,
        f"trivial-{at_once}",
        f"trivial program, {at_once} at once",
        [UcspidPeer(), *all_peers(settings)],
        Workload(program=(settings.programs.trivial,), files=settings.files),
        partial(_served, settings, Clients(count, at_once)),
    )


def _served(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    if not isinstance(server, Ucspid):
        clients = replace(clients, timeout=settings.size(*PATIENCE))
    return served_with_own(settings, clients, server)


def bare(settings: Settings) -> Result:
    """Compare those that start programs in the same way, with a program that costs as little as one can."""
    peers: list[Peer] = [Tcpserver(), Tcpsvd(), TwoProcesses(), Floor(settings.programs.floor)]
    return compare(
        settings,
        f"bare-{BARE_AT_ONCE}",
        f"bare program, {BARE_AT_ONCE} at once",
        [UcspidPeer(), *peers],
        Workload(program=(settings.programs.bare,), files=settings.files),
        partial(served, settings, Clients(settings.size(2500, 40), BARE_AT_ONCE)),
    )


def arrivals(settings: Settings) -> Result:
    """Compare latencies where clients come at a fixed rate and do not wait for the server."""
    clients = Clients(settings.size(2 * ARRIVALS, 100), rate=ARRIVALS)
    return compare(
        settings,
        "arrivals",
        f"trivial program, {ARRIVALS} clients a second, come what may",
        [UcspidPeer(), Tcpserver(), Floor(settings.programs.floor)],
        Workload(program=(settings.programs.trivial,), files=settings.files),
        partial(served, settings, clients),
    )
