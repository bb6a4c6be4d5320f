"""A control server with verbs of a test's choice, on a real Unix socket and a loop in a thread of its own."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from ucspid.control.access import Rights
from ucspid.control.server import Answering, ControlServer, Verbs

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
DEADLINE = 10.0


@dataclass
class Daemon:
    """The server, as a test sees it."""

    path: Path
    server: ControlServer
    loop: asyncio.AbstractEventLoop
    problems: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        try:
            sock.connect(os.fspath(self.path))
        except OSError:
            sock.close()
            raise
        return sock

    def ask(self, line: bytes) -> bytes:
        with self.connect() as sock:
            sock.sendall(line)
            return read_line(sock)

    def clients(self) -> int:
        async def count() -> int:
            return len(self.server._clients)

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(DEADLINE)

    def wait_for_clients_below(self, limit: int) -> None:
        async def wait() -> None:
            while len(self.server._clients) >= limit:
                await asyncio.wait(self.server._clients, return_when=asyncio.FIRST_COMPLETED)

        asyncio.run_coroutine_threadsafe(wait(), self.loop).result(DEADLINE)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(DEADLINE)


def read_line(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and (more := sock.recv(1)):
        data += more
    return data


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
        sock.listen()
        yield sock


@contextmanager
def serving(
    path: Path,
    verbs: Mapping[str, Answering] | Verbs,
    rights: Rights = Rights.CHANGE,
    loop_factory: LoopFactory = uvloop.new_event_loop,
) -> Iterator[Daemon]:
    loop = loop_factory()
    with listening(path) as sock:
        table = verbs if isinstance(verbs, Verbs) else Verbs({}, verbs, {})
        daemon = Daemon(path, ControlServer(sock, table, lambda _conn: rights), loop)
        loop.set_exception_handler(lambda _loop, context: daemon.problems.append(context))
        daemon.server.start(loop)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield daemon
            daemon.close()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(DEADLINE)
            loop.close()
