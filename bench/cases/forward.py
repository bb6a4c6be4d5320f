"""Passing clients on: what a session costs, how fast data comes back, what memory an idle session takes."""

import contextlib
import socket
import struct
import time
from collections import Counter
from functools import partial

from bench import measure
from bench.cases.common import MICRO, started
from bench.contest import Measured, Result, Settings, against_first, alternate, latencies
from bench.daemon import UcspidPeer
from bench.load import NANOSECONDS, BadLoadError, Histogram
from bench.server import LOOPBACK, Peer, Server, Workload
from bench.tls_peers import Behind, Haproxy, Socat, XinetdRedirect, backend

_REQUEST = struct.Struct("<cQ")
_TIMEOUT = 60.0
_WORD = b"hello"
_PIECE = 1 << 18
_KILOBYTE = 1e3
_END = 0.2
"""Seconds in which the last sessions end."""


def forward(settings: Settings) -> Result:
    """Compare servers that pass clients on to another one."""
    about = (
        "sessions one after the other, each with an echo; one connection with much data; memory of idle ones"
    )
    absent: dict[str, str] = {}
    workload = Workload(program=(settings.programs.tls,), files=settings.files, max_connections=1000)
    with backend(settings.programs.tls, settings.files) as port:
        behind = Behind(None, port)
        ours = UcspidPeer(service={"forward": f"{LOOPBACK}:{port}"})
        peers: list[Peer] = [ours, XinetdRedirect(behind), Socat(behind), Haproxy(behind)]
        with started(peers, workload, absent) as servers:
            measures = {name: partial(_measured, settings, server) for name, server in servers.items()}
            values = alternate(measures, settings.rounds, absent)
    return Result("forward", about, values, absent, against_first(list(values)))


def _measured(settings: Settings, server: Server) -> Measured:
    sessions, megabytes = settings.size(200, 5), settings.size(200, 4)
    used = measure.cpu_of(server.pids())
    echoes = Counter(round(_session(server.port) * NANOSECONDS) for _ in range(sessions))
    server.stay(_END)
    used = measure.cpu_of(server.pids()) - used
    return {
        **latencies("echo", Histogram(echoes.items())),
        "CPU µs a session": used / sessions * MICRO,
        "MB/s down": _download(server.port, megabytes),
        "idle KB a session": _idle(server, settings.size(100, 5)),
    }


def _connected(port: int) -> socket.socket:
    """Return a connection whose word has come back."""
    sock = socket.create_connection((LOOPBACK, port), _TIMEOUT)
    sock.sendall(_REQUEST.pack(b"e", len(_WORD)) + _WORD)
    if sock.recv(len(_WORD), socket.MSG_WAITALL) != _WORD:
        raise BadLoadError("no echo")
    return sock


def _session(port: int) -> float:
    """Have an echo and end; return the seconds from connecting to the echo."""
    began = time.monotonic()
    with _connected(port) as sock:
        took = time.monotonic() - began
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1):
            raise BadLoadError("more than the echo")
    return took


def _download(port: int, megabytes: int) -> float:
    """Return how many megabytes a second come."""
    missing = megabytes * 1_000_000
    with _connected(port) as sock:
        began = time.monotonic()
        sock.sendall(_REQUEST.pack(b"d", missing))
        while missing:
            data = sock.recv(min(_PIECE, missing))
            if not data:
                raise BadLoadError(f"{missing} bytes are missing")
            missing -= len(data)
        return megabytes / (time.monotonic() - began)


def _idle(server: Server, sessions: int) -> float:
    server.stay(_END)
    before = _pss(server)
    with contextlib.ExitStack() as stack:
        for _ in range(sessions):
            stack.enter_context(_connected(server.port))
        after = _pss(server)
    server.stay(_END)
    return (after - before) / sessions / _KILOBYTE


def _pss(server: Server) -> float:
    """Return the memory of a server and of its sessions."""
    return measure.pss_of(measure.descendants(server.process.pid))
