"""Whether the load generator is the bottleneck: the same clients against accept and close."""

from functools import partial

from bench.cases.common import compare, costed
from bench.contest import Measured, Result, Settings
from bench.floors import Floor
from bench.load import Clients, Load
from bench.server import Server, Workload


def generator(settings: Settings) -> Result:
    """Measure accept and close, beside accept, vfork and exec."""
    clients = Clients(settings.size(10_000, 200), 20)
    return compare(
        settings,
        "generator",
        "what the load generator can do: 20 clients at once against accept and close",
        [Floor(settings.programs.floor, "close"), Floor(settings.programs.floor)],
        Workload(program=(settings.programs.bare,), files=settings.files),
        partial(_with_own_cost, settings, clients),
    )


def _with_own_cost(settings: Settings, clients: Clients, server: Server) -> tuple[Measured, Load]:
    figures, done = costed(settings, clients, server)
    return figures | {"generator CPU µs": done.cpu / done.started * 1e6}, done
