"""TLS: handshakes, data, the memory of sessions, and what a storm of handshakes does to established ones."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import measure
from bench.cases.common import MICRO, started
from bench.contest import Measured, Result, Settings, against_first, alternate, latencies
from bench.daemon import Ucspid, UcspidPeer
from bench.load import NANOSECONDS, BadLoadError, Histogram
from bench.server import Peer, Server, Workload
from bench.tls_clients import (
    NAME,
    TURNS,
    Place,
    TlsClients,
    drop,
    echo_until,
    hold,
    mail_sessions,
    shake_hands,
    stall,
    storm,
    tls_clients,
    upload_and_download,
)
from bench.tls_peers import Behind, Haproxy, Hitch, Socat, Stunnel, StunnelFromTcpserver, backend, certificate

AT_ONCE = 4
HELD = 10
"""Established sessions that echo while others shake hands."""
MAX_SESSIONS = 6000

_LEAST_RESUMED = 0.95
_PAUSE = 0.002
_MAX_LOOKS = 40
_STEADY = 1.01
_KILOBYTE = 1e3

Put = Callable[[TlsClients, Place, Server], Measured]
"""Puts a load on a server."""


class _Cpu:
    """CPU seconds of a server from its making on: of what does TLS, and of all its processes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._now()

    def used(self) -> tuple[float, float]:
        tls, all_ = self._now()
        return tls - self._before[0], all_ - self._before[1]

    def _now(self) -> tuple[float, float]:
        if isinstance(self._server, Ucspid):
            roles = self._server.roles()
            used = {role: measure.running_time_of(pids) for role, pids in roles.items()}
            return used["tls"], sum(used.values())
        # Threads and processes that have ended count too.
        used_by_all = measure.cpu_of(self._server.pids())
        return used_by_all, used_by_all


@dataclass(frozen=True)
class _Comparison:
    """A case: its name, what it is about, the load, and by how many clients that is put.

    processes: servers with a process for each connection take part too. afresh: each measurement has a server
    of its own, and there is one: memory hardly varies.
    """

    case: str
    about: str
    put: Put
    clients: int
    kind: str = "ec"
    processes: bool = False
    afresh: bool = False


def tls_full(settings: Settings, kind: str) -> Result:
    """Compare full handshakes, each with an echo, with a key of a kind."""
    ec = kind == "ec"
    comparison = _Comparison(
        "tls-full" if ec else f"tls-full-{kind}",
        f"full handshakes with TLS 1.3 and an {kind} key, {AT_ONCE} at once, each with an echo",
        partial(_handshakes, settings, resume=False),
        AT_ONCE,
        kind=kind,
        processes=ec,
    )
    return _compare(settings, comparison)


def tls_resumed(settings: Settings) -> Result:
    """Compare handshakes that resume a session."""
    about = f"resumed handshakes with TLS 1.3, {AT_ONCE} at once, each with an echo"
    put = partial(_handshakes, settings, resume=True)
    return _compare(settings, _Comparison("tls-resumed", about, put, AT_ONCE))


def tls_bulk(settings: Settings) -> Result:
    """Compare how fast one connection sends and receives."""
    about = "one connection: much from the client to the program, then as much back"
    return _compare(settings, _Comparison("tls-bulk", about, partial(_bulk, settings), 1))


def tls_idle(settings: Settings) -> Result:
    """Compare the memory of sessions that do nothing, and of those whose clients read nothing."""
    about = "memory of the server: of a session that idles, and of one whose client reads nothing"
    return _compare(settings, _Comparison("tls-idle", about, partial(_memory, settings), 2, afresh=True))


def tls_flood(settings: Settings) -> Result:
    """Compare echoes of established sessions, first alone, then while others shake hands."""
    about = f"echoes of {HELD} sessions, quiet, and while {AT_ONCE} clients shake hands as fast as they can"
    return _compare(settings, _Comparison("tls-flood", about, partial(_flood, settings), 1 + AT_ONCE))


def tls_mail(settings: Settings) -> Result:
    """Compare how long a session takes that is like a mail's delivery."""
    about = f"sessions one after the other: a full handshake, {TURNS} questions and answers, an orderly end"
    return _compare(settings, _Comparison("tls-mail", about, partial(_mail, settings), 1))


def _handshakes(
    settings: Settings, clients: TlsClients, place: Place, server: Server, *, resume: bool
) -> Measured:
    each = max(2, round(settings.size(300, 5) * server.share))
    cpu = _Cpu(server)
    done = clients.each(shake_hands, place, each, resume=resume)
    tls, all_ = cpu.used()
    count = sum(part.count for part in done)
    resumed = sum(part.resumed for part in done)
    if resume and resumed < count * _LEAST_RESUMED:
        raise BadLoadError(f"{resumed} of {count} sessions were resumed")
    made = count + (len(clients) if resume else 0)
    return {
        "handshakes/s": sum(part.count / part.seconds for part in done),
        "CPU µs": tls / made * MICRO,
        "CPU µs of all": all_ / made * MICRO,
    }


def _mail(settings: Settings, clients: TlsClients, place: Place, _server: Server) -> Measured:
    (took,) = clients.each(mail_sessions, place, settings.size(500, 10))
    return latencies("session", _histogram(took))


def _bulk(settings: Settings, clients: TlsClients, place: Place, server: Server) -> Measured:
    megabytes = settings.size(300, 4)
    cpu = _Cpu(server)
    ((up, down),) = clients.each(upload_and_download, place, megabytes * 1_000_000)
    tls, _all = cpu.used()
    return {
        "MB/s up": megabytes / up,
        "MB/s down": megabytes / down,
        "CPU µs a MB": tls / (2 * megabytes) * MICRO,
    }


def _memory(settings: Settings, clients: TlsClients, place: Place, server: Server) -> Measured:
    idle, stalled = settings.size(5000, 20) // len(clients), settings.size(500, 4) // len(clients)
    try:
        clients.each(hold, place, 2)  # what it takes once is no session's
        empty = _pss(server)
        clients.each(hold, place, idle)
        full = _pss(server)
        clients.each(stall, stalled)
        more = _steady(server, full, settings.size(500, 50) / 1e3)
    finally:
        clients.each(drop)
    sessions, stalls = idle * len(clients), stalled * len(clients)
    idle_kilobytes = (full[0] - empty[0]) / sessions / _KILOBYTE
    return {
        "idle KB a session": idle_kilobytes,
        "idle KB a session of all": (full[1] - empty[1]) / sessions / _KILOBYTE,
        "stalled KB a session": (more[0] - full[0]) / stalls / _KILOBYTE + idle_kilobytes,
    }


def _pss(server: Server) -> tuple[float, float]:
    """Return the memory of what does TLS, and of all that is the server's."""
    if isinstance(server, Ucspid):
        roles = {role: measure.pss_of(pids) for role, pids in server.roles().items()}
        return roles["tls"], sum(roles.values())
    used = measure.pss_of(server.pids())
    return used, used


def _steady(server: Server, before: tuple[float, float], pause: float) -> tuple[float, float]:
    """Return a server's memory once it grows no more."""
    for _ in range(_MAX_LOOKS):
        server.stay(pause)
        now = _pss(server)
        if now[0] <= before[0] * _STEADY:
            break
        before = now
    return now


def _flood(settings: Settings, clients: TlsClients, place: Place, _server: Server) -> Measured:
    seconds = settings.size(3000, 200) / 1e3
    echoing, shaking = clients.split(1)
    try:
        echoing.each(hold, place, HELD)
        (quiet,) = echoing.each(echo_until, seconds, _PAUSE)
        storming = shaking.begin(storm, place, time.monotonic() + 1.5 * seconds)
        (noisy,) = echoing.each(echo_until, seconds, _PAUSE)
        stormed = storming()
    finally:
        echoing.each(drop)
    figures = latencies("quiet", _histogram(quiet)) | latencies("flood", _histogram(noisy))
    return figures | {
        "p99 of flood to quiet": figures["flood p99 ms"] / figures["quiet p99 ms"],
        "handshakes/s": sum(part.count / part.seconds for part in stormed),
    }


def _histogram(seconds: list[float]) -> Histogram:
    return Histogram(Counter(round(each * NANOSECONDS) for each in seconds).items())


def _compare(settings: Settings, comparison: _Comparison) -> Result:
    absent: dict[str, str] = {}
    pem = certificate(settings.files, NAME, comparison.kind)
    workload = Workload(program=(settings.programs.tls,), files=settings.files, max_connections=MAX_SESSIONS)
    with backend(settings.programs.tls, settings.files) as port, tls_clients(comparison.clients) as clients:
        peers = _peers(pem, Behind(pem, port), processes=comparison.processes)

        def once(peer: Peer, server: Server | None) -> Measured:
            if server is not None:
                return comparison.put(clients, Place(server.port, str(pem)), server)
            with peer.start(workload) as own:
                return once(peer, own)

        with _running(peers, workload, absent, afresh=comparison.afresh) as servers:
            measures = {
                peer.name: partial(once, peer, servers.get(peer.name))
                for peer in peers
                if peer.name not in absent
            }
            values = alternate(measures, 1 if comparison.afresh else settings.rounds, absent)
    return Result(comparison.case, comparison.about, values, absent, against_first(list(values)))


def _peers(pem: Path, behind: Behind, *, processes: bool) -> list[Peer]:
    peers: list[Peer] = [_ucspid(pem), Stunnel(behind), Hitch(behind), Haproxy(behind)]
    return [*peers, StunnelFromTcpserver(behind), Socat(behind)] if processes else peers


@contextlib.contextmanager
def _running(
    peers: list[Peer], workload: Workload, absent: dict[str, str], *, afresh: bool
) -> Iterator[dict[str, Server]]:
    if afresh:
        absent |= {peer.name: reason for peer in peers if (reason := peer.absent())}
        yield {}
        return
    with started(peers, workload, absent) as servers:
        yield servers


def _ucspid(pem: os.PathLike[str]) -> UcspidPeer:
    tls = {"processes": 1, "certificates": [os.fspath(pem)], "max_handshakes": 1024}
    if os.geteuid() == 0:
        tls["user"] = "nobody"
    return UcspidPeer(config={"tls": tls}, service={"tls": {"mode": "implicit"}})
