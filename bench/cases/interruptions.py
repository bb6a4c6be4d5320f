"""What clients feel while the daemon reloads or restarts its event loop: the longest wait, and failures."""

import os
import select
import signal
from collections.abc import Callable
from functools import partial

from bench import load
from bench.contest import Measured, Result, Settings, alternate
from bench.daemon import Ucspid, UcspidPeer
from bench.load import Clients, Histogram, Load
from bench.server import Workload

RATE = 200
"""Clients a second, come what may."""

WARM_UP = Clients(200, 20)
"""For a fresh daemon: its launchers are to be there."""

INTERRUPTED, NOT = "interrupted", "not interrupted"

Interruption = Callable[[Ucspid], None]


def reload(settings: Settings) -> Result:
    """Reload a file with many services, unchanged, under load."""
    count = settings.size(1000, 10)
    with UcspidPeer().start(_workload(settings, count)) as server:
        measures = {
            INTERRUPTED: partial(_under_load, settings, server, Ucspid.reload),
            NOT: partial(_under_load, settings, server, _nothing),
        }
        values = alternate(measures, settings.rounds)
    about = f"reload of {count} unchanged services, {RATE} clients a second"
    return Result("reload", about, values, pairs=[(INTERRUPTED, NOT)])


def restart(settings: Settings) -> Result:
    """Kill the event loop under load: a fresh daemon's each time.

    Before each restart of a loop that keeps ending the master waits twice as long, so only the first is
    what a single failure costs.
    """
    measures = {INTERRUPTED: partial(_fresh, settings, _kill_loop), NOT: partial(_fresh, settings, _nothing)}
    values = alternate(measures, settings.rounds)
    about = f"the first kill -9 of a daemon's event loop, {RATE} clients a second"
    return Result("loop-kill", about, values, pairs=[(INTERRUPTED, NOT)])


def _fresh(settings: Settings, interrupt: Interruption) -> Measured:
    with UcspidPeer().start(_workload(settings, 3)) as server:
        load.run(settings.programs.load, server.port, WARM_UP).must_succeed()
        return _under_load(settings, server, interrupt)


def _workload(settings: Settings, services: int) -> Workload:
    return Workload(program=(settings.programs.bare,), files=settings.files, services=services)


def _nothing(_server: Ucspid) -> None:
    """Leave the daemon alone."""


def _kill_loop(server: Ucspid) -> None:
    with os.fdopen(os.pidfd_open(server.loop()), "rb") as pidfd:
        signal.pidfd_send_signal(pidfd.fileno(), signal.SIGKILL)
        select.select([pidfd], (), ())  # until then it may still accept a control client, and take it along
    server.status()  # the control socket answers when the next loop does


def _under_load(settings: Settings, server: Ucspid, interrupt: Interruption) -> Measured:
    """Interrupt the daemon in the middle of a load that has begun before and goes on after it.

    Clients that are not served are a figure here, and nothing that ends the bench.
    """
    before = settings.size(RATE // 2, 5)
    first = Clients(0, rate=RATE, mark=before)
    with load.Running(settings.programs.load, server.port, first) as running:
        running.wait_for_mark()
        interrupt(server)
        after = load.run(settings.programs.load, server.port, Clients(before, rate=RATE))
        return _figures([running.end(), after])


def _figures(loads: list[Load]) -> Measured:
    waits = Histogram()
    for done in loads:
        waits.counts.update(done.first.counts)
    clients, served = (sum(done.started for done in loads), sum(done.answered for done in loads))
    return {
        "longest wait ms": waits.percentile(100) * 1e3,
        "first byte p50 ms": waits.percentile(50) * 1e3,
        "clients": float(clients),
        "served": float(served),
        "failed": float(clients - served),
    }
