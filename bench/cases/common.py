"""What the cases share: starting those who can be started, one load on one server, what it cost."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench import load, measure
from bench.contest import Measured, Result, Settings, against_first, alternate, is_subject, latencies
from bench.daemon import Ucspid
from bench.load import Clients, Histogram, Load
from bench.server import CannotStartError, Peer, Server, Workload

MICRO = 1e6
MEGABYTE = 1e6
_SETTLING = 0.1

Measure = Callable[[Server], tuple[Measured, Load]]
"""Puts a load on a server."""


@contextlib.contextmanager
def started(peers: Sequence[Peer], workload: Workload, absent: dict[str, str]) -> Iterator[dict[str, Server]]:
    """Run all peers that this machine has; note why the others are absent."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for peer in peers:
            reason = peer.absent()
            if reason is not None:
                absent[peer.name] = reason
                continue
            try:
                servers[peer.name] = stack.enter_context(peer.start(workload))
            except CannotStartError as problem:
                if peer is peers[0] or is_subject(peer.name):
                    raise
                absent[peer.name] = str(problem)
        yield servers


def served(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    """Put a load on a server that has to serve every client."""
    figures, done = costed(settings, clients, server)
    done.must_succeed()
    return figures | latencies("first byte", done.first), done


def served_with_own(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    """Put a load on a server that has to serve every client; return also what ucspid's own processes used.

    own µs is the CPU time of loop and launchers for a connection, without the program's and its start's.
    """
    before = _own(server)
    figures, done = served(settings, clients, server)
    if before:
        used = {role: seconds - before[role] for role, seconds in _own(server).items()}
        used |= {"own": sum(used.values())}
        figures |= {f"{role} µs": seconds / done.started * MICRO for role, seconds in used.items()}
        pids = server.roles()["launcher"]
        figures |= {"launchers": len(pids), "launcher PSS MB": measure.pss_of(pids) / len(pids) / MEGABYTE}
    return figures, done


def _own(server: Server) -> dict[str, float]:
    if not isinstance(server, Ucspid):
        return {}
    return {role: measure.running_time_of(pids) for role, pids in server.roles().items() if role != "master"}


def costed(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    """Put a load on a server; return its rate and what a connection cost, whatever became of it."""
    meter = measure.Meter(server.pids())
    done = load.run(settings.programs.load, server.port, part_for(server, clients))
    used = meter.used(server.pids())
    figures = {
        "connections/s": done.rate,
        "CPU µs": used.server / done.started * MICRO,
        "system CPU µs": used.system / done.started * MICRO,
    }
    return figures, done


def part_for(server: Server, clients: Clients) -> Clients:
    """Return the clients that a server gets, as many at once as all get."""
    return replace(clients, count=max(clients.at_once, round(clients.count * server.share)))


def memory_of(servers: Sequence[Server]) -> Measured:
    """Return the bytes (PSS) of servers, by role; those of all together have the name ""."""
    found: Measured = {}
    for server in servers:
        for role, pids in server.roles().items():
            found[role] = found.get(role, 0.0) + measure.pss_of(pids)
    return {"": sum(found.values())} | found


def by_role(figure: str, memory: Measured, unit: float) -> Measured:
    """Return what memory_of() found as figures (PSS MB, PSS MB loop, ...), in units of so many bytes."""
    return {f"{figure} {role}".rstrip(): value / unit for role, value in memory.items()}


def idle_cpu(server: Server, seconds: float) -> Measured:
    """Return what a server's own processes use while nothing happens for so long.

    What they still have to do after the last request is let pass first.
    """
    pids = server.pids()
    server.stay(_SETTLING)
    began, used = time.monotonic(), measure.running_time_of(pids)
    server.stay(seconds)
    took = time.monotonic() - began
    return {"idle CPU ms/s": (measure.running_time_of(pids) - used) * 1e3 / took}


def compare(
    settings: Settings, case: str, about: str, peers: Sequence[Peer], workload: Workload, put: Measure
) -> Result:
    """Compare the first peer with all others under one load."""
    absent: dict[str, str] = {}
    histograms: dict[str, Histogram] = {}

    def once(name: str, server: Server) -> Measured:
        figures, done = put(server)
        histograms.setdefault(name, Histogram()).counts.update(done.first.counts or done.end.counts)
        return figures

    with started(peers, workload, absent) as servers:
        measures = {name: partial(once, name, server) for name, server in servers.items()}
        values = alternate(measures, settings.rounds, absent)
    return Result(
        case,
        about,
        values,
        absent,
        against_first(list(values)),
        {name: histogram.pairs() for name, histogram in histograms.items()},
    )
