"""Refused clients: what one costs, and what an innocent client feels of a flood of them."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from bench import load, measure
from bench.cases.common import MICRO
from bench.contest import FAILURES, Measured, Result, Settings, alternate, is_subject, latencies
from bench.daemon import UcspidPeer
from bench.load import BadLoadError, Clients
from bench.peers import Tcpserver, Tcpsvd
from bench.server import Peer, Server, Workload

FLOODER = "127.0.0.2"
INNOCENT, INNOCENTS, INNOCENT_NETWORK = ("127.0.3.1", "127.0.3.101"), 100, "127.0.3.0/24"
"""The innocent come from so many addresses, from others in every second round: one at a time from each, or
the limit would hold for them too."""

AT_ONCE = 20
INNOCENT_RATE = 50
"""Connections a second of the innocent clients during the flood."""


class Contestant:
    """A server that refuses the flooder for one reason."""

    def __init__(self, peer: Peer, workload: Workload) -> None:
        """Note how it is started."""
        self.peer = peer
        self.workload = workload

    @contextlib.contextmanager
    def running(self, settings: Settings) -> Iterator[Server]:
        """Run it, with one session of the flooder where the limit is that there be no more than one."""
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(self.peer.start(self.workload))
            if self.workload.max_per_ip is not None:
                holding = Clients(1, source=FLOODER, hold=True, mark=1, timeout=3600)
                stack.enter_context(
                    load.Running(settings.programs.load, server.port, holding)
                ).wait_for_mark()
            elif self.workload.rate_per_ip is not None:
                load.run(
                    settings.programs.load, server.port, Clients(1, source=FLOODER, close_after_answer=True)
                )
            yield server


def _contestants(settings: Settings) -> dict[str, Contestant]:
    def workload(
        *, max_per_ip: int | None = None, rate_per_ip: str | None = None, rules: Path | None = None
    ) -> Workload:
        return Workload(
            program=(settings.programs.hold,),
            files=settings.files,
            max_per_ip=max_per_ip,
            rate_per_ip=rate_per_ip,
            rules=rules,
        )

    rules = settings.files / "refused.rules"
    rules.write_text(f"{FLOODER}:deny\n:allow\n")
    return {
        "ucspid max_per_ip": Contestant(UcspidPeer("per ip"), workload(max_per_ip=1)),
        "ucspid rate_per_ip": Contestant(
            UcspidPeer("rate", service={"exempt": [INNOCENT_NETWORK]}),
            workload(rate_per_ip="1/h"),
        ),
        "ucspid deny": Contestant(UcspidPeer("deny"), workload(rules=rules)),
        "tcpserver deny": Contestant(Tcpserver(), workload(rules=rules)),
        "tcpsvd -C": Contestant(Tcpsvd(), workload(max_per_ip=1)),
    }


def refused(settings: Settings) -> Result:
    """Compare refusals by ucspid's limits with the peers' cheapest."""
    contestants = _contestants(settings)
    absent = {name: reason for name, one in contestants.items() if (reason := one.peer.absent())}
    values = {}
    with contextlib.ExitStack() as stack:
        measures = {}
        for name, contestant in contestants.items():
            if name in absent:
                continue
            try:
                server = stack.enter_context(contestant.running(settings))
            except FAILURES as problem:
                if is_subject(name):
                    raise
                absent[name] = str(problem)
            else:
                measures[name] = _Flood(settings, server)
        values = alternate(measures, settings.rounds, absent)
    ours = [name for name in values if name.startswith("ucspid")]
    pairs = [(name, other) for name in ours for other in values if other not in ours]
    about = f"refused clients, {AT_ONCE} at once, and innocent ones, {INNOCENT_RATE} a second"
    return Result("refused", about, values, absent, pairs)


class _Flood:
    """One round: first the flood alone, for what a refusal costs, then with an innocent client beside it."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self._program = settings.programs.load
        self._server = server
        self._flood = Clients(settings.size(5000, 100), AT_ONCE, source=FLOODER)
        self._innocents = settings.size(INNOCENTS, 5)
        self._sources = itertools.cycle(INNOCENT)

    def __call__(self) -> Measured:
        server = self._server
        meter = measure.Meter(server.pids())
        flood = load.run(self._program, server.port, self._flood)
        used = meter.used(server.pids())
        if flood.answered or flood.failed + flood.empty != flood.started:
            raise BadLoadError(f"of {flood.started} clients to refuse {flood.answered} were answered")
        figures = {
            "refusals/s": flood.started / flood.seconds,
            "CPU µs": used.server / flood.started * MICRO,
            "system CPU µs": used.system / flood.started * MICRO,
        }
        return figures | self._innocent()

    def _innocent(self) -> Measured:
        endless = Clients(0, AT_ONCE, source=FLOODER, mark=0)
        innocent = Clients(
            self._innocents,
            rate=INNOCENT_RATE,
            source=next(self._sources),
            sources=INNOCENTS,
            close_after_answer=True,
        )
        with load.Running(self._program, self._server.port, endless) as flood:
            done = load.run(self._program, self._server.port, innocent).must_succeed()
            flood.end()
        return latencies("innocent", done.first)
