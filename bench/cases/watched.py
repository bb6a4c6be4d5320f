"""What it costs to look: ucspid top and the status page, open while many sessions live."""

import contextlib
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import load, measure
from bench.cases.sessions import HOLDING_AT_ONCE, SOURCE, SOURCES
from bench.contest import Measured, Result, Settings, alternate, latencies
from bench.daemon import Ucspid, UcspidPeer
from bench.load import Clients
from bench.server import Workload

ARRIVALS = 50.0
"""Clients in a second that come meanwhile."""

_SPARE = 500
"""Sessions that there may be beyond those that are held."""

_CHUNK = 1 << 16
_MILLI = 1e3

Looking = contextlib.AbstractContextManager[None]


def watched(settings: Settings) -> Result:
    """Compare what event loop and web process use, and how long clients wait, by who looks.

    In one daemon nobody ever looks at the page: it follows events for a minute after.
    """
    held = settings.size(10_000, 20)
    with contextlib.ExitStack() as stack:
        server, _ = _holding(settings, held, stack)
        other, page = _holding(settings, held, stack)
        measures = {
            "nobody": partial(_measured, settings, server, []),
            "top": partial(_measured, settings, server, [partial(_top, server)]),
            "the page": partial(_measured, settings, other, [partial(_page, page)]),
            "top and the page": partial(
                _measured, settings, other, [partial(_top, other), partial(_page, page)]
            ),
        }
        values = alternate(measures, settings.rounds)
    about = f"{held} sessions live, {ARRIVALS:g} further clients a second, and somebody looks"
    return Result("watched", about, values, pairs=[(name, "nobody") for name in list(measures)[1:]])


def _holding(settings: Settings, held: int, stack: contextlib.ExitStack) -> tuple[Ucspid, Path]:
    """Start a daemon that holds sessions; return it, and where its page is."""
    page = settings.files / f"page{time.monotonic_ns()}"
    peer = UcspidPeer(config={"web": {"listen": f"unix:{page}"}})
    workload = Workload(
        program=(settings.programs.hold,), files=settings.files, max_connections=held + _SPARE
    )
    server = stack.enter_context(peer.start(workload))
    holding = Clients(
        held, HOLDING_AT_ONCE, source=SOURCE, sources=SOURCES, hold=True, mark=held, timeout=600
    )
    sessions = stack.enter_context(load.Running(settings.programs.load, server.port, holding))
    sessions.wait_for_mark()
    return server, page


def _measured(settings: Settings, server: Ucspid, who: list[Callable[[], Looking]]) -> Measured:
    roles = {"loop": [server.loop()], "web": server.named("ucspid: web")}
    clients = Clients(settings.size(300, 10), rate=ARRIVALS, close_after_answer=True)
    with contextlib.ExitStack() as stack:
        for look in who:
            stack.enter_context(look())
        before = {role: measure.running_time_of(pids) for role, pids in roles.items()}
        done = load.run(settings.programs.load, server.port, clients).must_succeed()
        used = {role: measure.running_time_of(pids) - before[role] for role, pids in roles.items()}
    costs = {f"{role} CPU ms/s": seconds / done.seconds * _MILLI for role, seconds in used.items()}
    return costs | latencies("first byte", done.first)


@contextlib.contextmanager
def _top(server: Ucspid) -> Iterator[None]:
    """Run ucspid top in a terminal of its own, until it has shown something."""
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "ucspid", "top", "--control", str(server.control)]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, env=environ) as process:
        os.close(terminal)
        reader = threading.Thread(target=_read, args=(lambda: os.read(ours, _CHUNK),))
        os.read(ours, 1)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            reader.join()
            os.close(ours)


@contextlib.contextmanager
def _page(path: Path) -> Iterator[None]:
    """Have the page open, as a browser does: the stream of events, from its first one on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(os.fspath(path))
        sock.sendall(b"GET /live?at=/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        sock.recv(1)
        reader = threading.Thread(target=_read, args=(lambda: sock.recv(_CHUNK),))
        reader.start()
        try:
            yield
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            reader.join()


def _read(receive: Callable[[], bytes]) -> None:
    """Read to the end: a terminal's is an error."""
    with contextlib.suppress(OSError):
        while receive():
            """What is shown is of no interest."""
