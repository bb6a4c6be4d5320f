"""The two launchers side by side, with tcpserver: what starting a program costs the server itself."""

from functools import partial

from bench.cases.common import compare, served_with_own
from bench.contest import Result, Settings
from bench.daemon import UcspidPeer
from bench.load import Clients
from bench.peers import Tcpserver
from bench.server import Peer, Workload

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
        partial(served_with_own, settings, clients),
    )
