"""What clients feel while the daemon reloads or restarts its event loop: the longest wait, and failures."""

import os
import signal
from collections.abc import Callable

from bench import load
from bench.contest import Measured, Result, Settings, alternate
from bench.daemon import Ucspid, UcspidPeer
from bench.load import Clients, Load
from bench.server import Workload

RATE = 200
"""Clients a second, come what may."""

Interruption = Callable[[Ucspid], None]


def reload(settings: Settings) -> Result:
    """Reload a file with many services, unchanged, under load."""
    count = settings.size(1000, 10)
    about = f"reload of {count} unchanged services, {RATE} clients a second"
    return _interrupted(settings, "reload", about, count, Ucspid.reload)


def restart(settings: Settings) -> Result:
    """Kill the event loop under load."""
    return _interrupted(
        settings, "loop-kill", f"kill -9 of the event loop, {RATE} clients a second", 3, _kill_loop
    )


def _kill_loop(server: Ucspid) -> None:
    killed = server.loop()
    os.kill(killed, signal.SIGKILL)
    while server.loop() == killed:
        """The control socket answers when the next loop does."""


def _interrupted(settings: Settings, case: str, about: str, services: int, interrupt: Interruption) -> Result:
    workload = Workload(program=(settings.programs.trivial,), files=settings.files, services=services)
    with UcspidPeer().start(workload) as server:
        values = alternate(
            {
                "interrupted": lambda: _under_load(settings, server, interrupt),
                "not interrupted": lambda: _under_load(settings, server, lambda _server: None),
            },
            settings.rounds,
        )
    return Result(case, about, values, pairs=[("interrupted", "not interrupted")])


def _under_load(settings: Settings, server: Ucspid, interrupt: Interruption) -> Measured:
    """Interrupt the daemon in the middle of a load that has begun before and goes on after it."""
    before = settings.size(RATE // 2, 5)
    first = Clients(0, rate=RATE, mark=before)
    with load.Running(settings.programs.load, server.port, first) as running:
        running.wait_for_mark()
        interrupt(server)
        load.run(settings.programs.load, server.port, Clients(before, rate=RATE)).must_succeed()
        done = running.end()
    return _figures(done)


def _figures(done: Load) -> Measured:
    return {
        "longest wait ms": done.first.percentile(100) * 1e3,
        "first byte p50 ms": done.first.percentile(50) * 1e3,
        "clients": float(done.started),
        "failed": float(done.started - done.answered),
    }
