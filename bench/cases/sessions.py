"""Sessions that live: what others cost while many are held, and how much memory they take."""

import contextlib
from functools import partial

from bench import load, measure
from bench.cases.common import MEGABYTE, MICRO, by_role, idle_cpu, memory_of, part_for
from bench.contest import Measured, Result, Settings, alternate, latencies, of_those_measured
from bench.daemon import Ucspid, UcspidPeer
from bench.floors import Uvloop
from bench.load import Clients
from bench.peers import Tcpserver
from bench.server import Peer, Workload

AT_ONCE = 20
MANY = 19_000
"""Sessions at most: each is a descriptor of the load generator's, and hosts often allow 20,000."""
HOLDING_AT_ONCE = 50
SOURCES = 50
SOURCE = "127.0.1.1"
"""The held clients come from so many addresses from this one on."""

_SPARE = 500
"""Sessions that a server may have beyond those that are held."""


def live(settings: Settings) -> Result:
    """Compare what sessions cost, start and end, beside several numbers of live ones."""
    counts = [0, 1000, 5000, 10_000, MANY] if not settings.short else [0, 20]
    absent = {peer.name: reason for peer in (Tcpserver(),) if (reason := peer.absent())}
    peers: list[Peer] = [UcspidPeer(), *([] if absent else [Tcpserver()])]
    contestants = [(peer, count) for count in counts for peer in peers]
    # uvloop's cost grows with every live child: the largest number would take hours.
    contestants += [(Uvloop(), count) for count in counts[:2]]
    measures = {
        f"{peer.name}, {count} live": partial(_beside, settings, peer, count) for peer, count in contestants
    }
    values = alternate(measures, settings.rounds, absent)
    pairs = [
        (f"{peer.name}, {count} live", f"{peer.name}, 0 live") for peer in peers for count in counts if count
    ]
    pairs += [(f"{Uvloop.name}, {counts[1]} live", f"{Uvloop.name}, 0 live")]
    pairs += [(f"ucspid, {count} live", f"tcpserver, {count} live") for count in counts]
    about = f"{AT_ONCE} at once, start and end, while many live; the server's own memory and idle CPU"
    return Result("live", about, values, absent, of_those_measured(values, pairs))


def _beside(settings: Settings, peer: Peer, held: int) -> Measured:
    """Measure some clients at once, with so many sessions held."""
    workload = Workload(
        program=(settings.programs.hold,), files=settings.files, max_connections=held + _SPARE
    )
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(peer.start(workload))
        clients = part_for(server, Clients(settings.size(1500, 20), AT_ONCE, close_after_answer=True))
        # As many at once as later: ucspid starts its launchers now, and their memory is no session's.
        warm_up = Clients(clients.count, HOLDING_AT_ONCE, close_after_answer=True)
        load.run(settings.programs.load, server.port, warm_up).must_succeed()
        empty = memory_of([server])
        if held:
            holding = Clients(
                held, HOLDING_AT_ONCE, source=SOURCE, sources=SOURCES, hold=True, mark=held, timeout=600
            )
            sessions = stack.enter_context(load.Running(settings.programs.load, server.port, holding))
            sessions.wait_for_mark()
        full = memory_of([server]) if held else empty
        idle = idle_cpu(server, settings.size(1500, 200) / 1e3) if isinstance(server, Ucspid) else {}
        meter = measure.Meter(server.pids())
        done = load.run(settings.programs.load, server.port, clients).must_succeed()
        used = meter.used(server.pids())
        if held:
            sessions.end().must_succeed()
    figures = latencies("first byte", done.first) | latencies("end", done.end)
    figures |= {
        "connections/s": done.rate,
        "CPU µs": used.server / done.started * MICRO,
        **idle,
        **by_role("PSS MB", full, MEGABYTE),
    }
    grown = {role: full[role] - empty[role] for role in full}
    return figures | (by_role("bytes per session", grown, held) if held else {})
