"""What the log costs: every connection logged, and none."""

from functools import partial

from bench.cases.common import served
from bench.contest import Measured, Result, Settings, alternate, of_those_measured
from bench.daemon import UcspidPeer
from bench.load import Clients
from bench.peers import Tcpserver
from bench.server import Peer, Server, Workload

AT_ONCE = 20


def logging(settings: Settings) -> Result:
    """Compare ucspid and tcpserver, each silent and with its log in a file."""
    clients = Clients(settings.size(3000, 60), AT_ONCE)
    absent = {peer.name: reason for peer in (Tcpserver(),) if (reason := peer.absent())}
    peers: list[Peer] = [UcspidPeer(), *([] if absent else [Tcpserver()])]

    def measure(server: Server) -> Measured:
        return served(settings, clients, server)[0]

    servers = {}
    try:
        for peer in peers:
            for logs in (False, True):
                workload = Workload(program=(settings.programs.trivial,), files=settings.files, logs=logs)
                servers[f"{peer.name} {'logging' if logs else 'silent'}"] = peer.start(workload)
        measures = {name: partial(measure, server) for name, server in servers.items()}
        values = alternate(measures, settings.rounds, absent)
    finally:
        for server in servers.values():
            server.stop()
    names = list(servers)
    pairs = [("ucspid silent", "tcpserver silent"), ("ucspid logging", "tcpserver logging")]
    pairs += [(logging_, silent) for silent, logging_ in zip(names[::2], names[1::2], strict=True)]
    about = f"trivial program, {AT_ONCE} at once: every connection logged (tcpserver -v), and none"
    return Result("logging", about, values, absent, of_those_measured(values, pairs))
