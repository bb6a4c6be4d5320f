"""Many services in one daemon, and many users: start, memory, latency."""

import contextlib
import os
import time
from functools import partial

from bench import load
from bench.cases.common import MEGABYTE, by_role, memory_of
from bench.contest import Measured, Result, Settings, alternate, latencies, of_those_measured
from bench.daemon import UcspidPeer
from bench.load import Clients
from bench.peers import Tcpserver, Xinetd
from bench.server import Peer, Server, Workload

_FIRST_USER = 20_000


def services(settings: Settings) -> Result:
    """Compare ucspid with xinetd, and with so many tcpservers, at several numbers of services."""
    counts = [1, 3, 100, 1000] if not settings.short else [1, 3, 5]
    absent = {peer.name: reason for peer in (Tcpserver(), Xinetd()) if (reason := peer.absent())}
    measures = {}
    for count in counts:
        measures[f"ucspid, {count}"] = partial(_started, settings, UcspidPeer(), count)
        if Xinetd.name not in absent:
            measures[f"xinetd, {count}"] = partial(_started, settings, Xinetd(), count)
        if Tcpserver.name not in absent:
            measures[f"tcpserver, {count}"] = partial(_many, settings, Tcpserver(), count)
    values = alternate(measures, settings.rounds, absent)
    pairs = [
        (f"ucspid, {count}", f"{other}, {count}") for other in ("xinetd", "tcpserver") for count in counts
    ]
    about = "services in one daemon (or one tcpserver for each): from start to listening, memory, latency"
    return Result("services", about, values, absent, of_those_measured(values, pairs))


def _workload(settings: Settings, count: int) -> Workload:
    return Workload(program=(settings.programs.bare,), files=settings.files, services=count)


def _started(settings: Settings, peer: Peer, count: int) -> Measured:
    """Start one server with so many services."""
    began = time.monotonic()
    with peer.start(_workload(settings, count)) as server:
        return _figures(settings, [server], time.monotonic() - began)


def _many(settings: Settings, peer: Peer, count: int) -> Measured:
    """Start a server for each service."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(peer.start(_workload(settings, 1))) for _ in range(count)]
        return _figures(settings, servers, time.monotonic() - began)


def _figures(settings: Settings, servers: list[Server], seconds: float) -> Measured:
    memory = by_role("PSS MB", memory_of(servers), MEGABYTE)
    port = servers[-1].ports[-1]
    done = load.run(settings.programs.load, port, Clients(settings.size(300, 10))).must_succeed()
    return {"start ms": seconds * 1e3, **memory, **latencies("first byte", done.first)}


def profiles(settings: Settings) -> Result:
    """Start a daemon whose services have a user each, so that each has launchers of its own."""
    about = "services with a user each, so with a launcher each: from start to listening, memory, latency"
    if os.geteuid() != 0:
        return Result("profiles", about, {}, {"ucspid": "only root can start programs as other users"})
    counts = [1, 300] if not settings.short else [1, 3]
    peer = UcspidPeer(of_each=lambda number: {"user": _FIRST_USER + number, "group": _FIRST_USER})
    measures = {f"ucspid, {count}": partial(_started, settings, peer, count) for count in counts}
    return Result("profiles", about, alternate(measures, settings.rounds))
