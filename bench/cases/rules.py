"""Access rules: what their number costs a connection."""

import contextlib
from functools import partial
from pathlib import Path

from bench.cases.common import served
from bench.contest import Measured, Result, Settings, alternate, of_those_measured
from bench.daemon import UcspidPeer
from bench.load import Clients
from bench.peers import Tcpserver
from bench.server import Peer, Server, Workload


def rules(settings: Settings) -> Result:
    """Compare one file of tcprules for ucspid (as text) and tcpserver (compiled), at several sizes."""
    counts = [10, 10_000, 100_000] if not settings.short else [10, 100]
    absent = {peer.name: reason for peer in (Tcpserver(),) if (reason := peer.absent())}
    peers: list[Peer] = [UcspidPeer(), *([] if absent else [Tcpserver()])]
    clients = Clients(settings.size(1500, 20))

    def measure(server: Server) -> Measured:
        return served(settings, clients, server)[0]

    with contextlib.ExitStack() as stack:
        measures = {}
        for count in counts:
            file = _write(settings.files / f"{count}.rules", count)
            workload = Workload(program=(settings.programs.bare,), files=settings.files, rules=file)
            for peer in peers:
                server = stack.enter_context(peer.start(workload))
                measures[f"{peer.name}, {count}"] = partial(measure, server)
        values = alternate(measures, settings.rounds, absent)
    pairs = [(f"{peer.name}, {count}", f"{peer.name}, {counts[0]}") for peer in peers for count in counts[1:]]
    pairs += [(f"ucspid, {count}", f"tcpserver, {count}") for count in counts]
    about = "bare program, 1 at once, with so many access rules"
    return Result("rules", about, values, absent, of_those_measured(values, pairs))


def _write(file: Path, count: int) -> Path:
    """Write rules for so many addresses, none of them the client's, which the last rule lets in."""
    octets = ((number >> 16 & 255, number >> 8 & 255, number & 255) for number in range(count - 1))
    lines = [f"10.{high}.{middle}.{low}:deny\n" for high, middle, low in octets]
    file.write_text("".join([*lines, ":allow\n"]))
    return file
