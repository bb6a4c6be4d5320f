"""The event loop's server with real listeners and clients, in the test's own process and event loop.

In place of launchers stand fakes that speak their protocol over real socket pairs, and start
nothing: the test says how each start goes on. Nothing sleeps: until() waits for news.
"""

import asyncio
import contextlib
import errno
import functools
import mmap
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog

import plans
from ucspid import plan
from ucspid.admission.listener import Listener, listener_of
from ucspid.control.serving import Server
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.counters import SIZE, Counters
from ucspid.launcher.serve import IN_FLIGHT
from ucspid.linux.memfd import sealed_memory
from ucspid.lookup.dns import Resolver
from ucspid.lookup.ident import Ident
from ucspid.lookup.names import Names
from ucspid.sessions.service import LiveService
from ucspid.sessions.sessions import Sessions

PROFILE = 1
NO_PID = 1 << 22
"""No process has a number from here on up (proc(5), pid_max): launchers in the test's process do."""
TIMEOUT = 10.0


def added(number: int) -> orders.AddLauncher:
    """Return the order that adds a launcher."""
    return orders.AddLauncher(
        number=number, pid=NO_PID + number, profile=PROFILE, kind="python", draining=False
    )


def settings(name: str, **changed: Any) -> plan.Service:
    """Return a service's settings: hardly any limits unless the test wants them."""
    return plans.service(name, **{"max_connections": 100, **changed})


@functools.cache
def _descriptor() -> int:
    return sealed_memory("counters", SIZE)


@functools.cache
def _memory() -> mmap.mmap:
    return mmap.mmap(_descriptor(), SIZE)


@functools.cache
def _counters() -> Counters:
    """Return counters for all rigs in turn: tests of a lack of descriptors must gain none by the way."""
    return Counters(_descriptor())


class FakeLauncher:
    """The other end of a launcher's channel."""

    def __init__(self, number: int, news: Callable[[], None]) -> None:
        """Answer LIST as a launcher that runs nothing, unless it lists, and keep the starts."""
        self.lists = False
        self.number = number
        self.tokens: list[int] = []
        """Of the LISTs that it was sent."""
        self.loop_end, own_end = pair()
        self.starts: dict[int, tuple[int, int]] = {}
        """By connection: the service and our copy of the client's socket."""
        self.others: dict[int, list[int]] = {}
        """By connection: what came with the client's socket, where its program is to ask for TLS."""
        self.variables: dict[int, bytes] = {}
        """NAME=VALUE texts of each start there ever was, with NUL between them."""
        self.signals: list[tuple[int, int]] = []
        self.left = False
        self._tags: dict[int, bytes] = {}
        self._channel = Channel(own_end)
        self._news = news
        asyncio.get_running_loop().add_reader(own_end.fileno(), self._receive)
        self.introduce(wire.HELLO, wire.VERSION)

    @property
    def descriptor(self) -> int:
        """What it receives on."""
        return self._channel.fileno()

    def _receive(self) -> None:
        received = self._channel.receive()
        if received is None:
            return
        packet, descriptors = received
        if not packet:
            self.close()
        elif packet[0] == wire.Start.KIND:
            asked = wire.Start.unpack(packet)
            service, connection, tag = asked.service, asked.connection, asked.tag
            self.starts[connection] = service, descriptors[0]
            self.others[connection] = descriptors[1:]
            self._tags[connection] = tag
            self.variables[connection] = asked.variables
        elif packet[0] == wire.ListSessions.KIND:
            for connection in self.starts if self.lists else ():
                self.report(wire.RUNNING, 0, connection, process=connection & 0xFFFF)
            self.tokens.append(wire.ListSessions.unpack(packet).token)
            self.introduce(wire.LISTED, connection=self.tokens[-1])
        elif packet[0] == wire.Signal.KIND:
            asked_for = wire.Signal.unpack(packet)
            self.signals.append((asked_for.connection, asked_for.number))
        else:
            self.left = True
        self._news()

    def report(self, kind: int, status: int = 0, connection: int = 0, process: int = 0) -> None:
        """Send one report."""
        service, _ = self.starts.get(connection, (0, 0))
        tag = self._tags.get(connection, bytes(wire.TAG_SIZE))
        self._channel.send(wire.Report.head(kind, status, process, service, connection, 0, 0, 0, tag))

    def introduce(self, kind: int, status: int = 0, connection: int = 0) -> None:
        """Send a report that is about the launcher itself."""
        tag = bytes(wire.TAG_SIZE)
        self._channel.send(
            wire.Report.head(kind, status, NO_PID + self.number, IN_FLIGHT, connection, 0, 0, 0, tag)
        )

    def started(self, connection: int) -> None:
        """Say that the program runs."""
        self.report(wire.STARTED, 0, connection, process=connection & 0xFFFF)

    def failed(self, connection: int, reason: int = errno.ENOENT) -> None:
        """Say that the program could not be started."""
        self.report(wire.FAILED, reason, connection)
        self._forget(connection)

    def exited(self, connection: int, status: int = 0) -> None:
        """Say that the program has ended, and close the client's connection."""
        self.report(wire.EXITED, status, connection, process=connection & 0xFFFF)
        self._forget(connection)

    def _forget(self, connection: int) -> None:
        for descriptor in (self.starts.pop(connection)[1], *self.others.pop(connection)):
            os.close(descriptor)

    def take_nothing(self) -> None:
        """Have whatever the loop sends from now on fail."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Die."""
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.sock.close()
            for connection in list(self.starts):
                self._forget(connection)


class Rig:
    """A server with services, their listeners and fake launchers of one profile."""

    def __init__(self, now: float = 0.0) -> None:
        """Begin without services, at a time of the epoch; also stands for the master."""
        self.events: list[dict[str, Any]] = []
        self.launchers: list[FakeLauncher] = []
        self.asked: list[str] = []
        self.broken: list[int] = []
        """The numbers of launchers that were to be replaced."""
        self.numbers: dict[str, int] = {}
        self.addresses: dict[str, list[tuple[str, int]]] = {}
        self.paths: dict[str, str] = {}
        """Of the services with a Unix socket that has a path: they listen on nothing else."""
        self.clients: list[socket.socket] = []
        self._listeners: dict[str, list[int]] = {}
        self._count = 0
        self._news = asyncio.Event()
        logger = structlog.wrap_logger(
            None,
            processors=[self._keep],
            wrapper_class=structlog.make_filtering_bound_logger("debug"),
        )
        self.log = logger
        self.counters = _counters()
        _memory().madvise(mmap.MADV_REMOVE)
        self.server = Server(logger, self, Names(Resolver(), Ident()), self.counters, now)

    def _keep(self, _logger: Any, level: str, fields: Any) -> Any:
        self.events.append({"level": level, **fields})
        self.tell()
        raise structlog.DropEvent

    def tell(self) -> None:
        """Have until() look again."""
        self._news.set()

    # What the server asks its master

    def allow_variables(self, _service: int) -> None:
        """Note the request."""
        self.asked.append("variables")

    def more_launchers(self, _profile: int) -> None:
        """Note the request."""
        self.asked.append("more")

    def broken_launcher(self, number: int) -> None:
        """Note the request."""
        self.asked.append("broken")
        self.broken.append(number)
        self.tell()

    def silent_tls(self, number: int) -> None:
        """Note the request."""
        self.asked.append(f"tls {number}")
        self.tell()

    def settled(self) -> None:
        """Note that no connection is on its way that has met an earlier plan."""
        self.asked.append("settled")
        self.tell()

    def drained(self) -> None:
        """Note the end."""
        self.asked.append("drained")
        self.tell()

    # What the master sends

    def plan(self, *services: plan.Service, max_connections: int = 1000, listeners: int = 1) -> None:
        """Go over to a plan; services keep their listeners."""
        planned = []
        for item in services:
            number = self.numbers.setdefault(item.name, len(self.numbers) + 1)
            if not set(self._listeners.get(item.name, [])) & self.server.services.listeners.keys():
                if (path := item.listen[0].path) is not None:
                    self._listen_at(item.name, path)
                else:
                    self._listen(item.name, listeners)
            planned.append(
                plan.PlannedService(
                    number=number,
                    profile=PROFILE,
                    settings=item,
                    listeners=tuple(self._listeners[item.name]),
                )
            )
        self.server.take(max_connections, planned)
        self.server.watch_earlier()

    def _listen(self, name: str, listeners: int) -> None:
        self._listeners[name] = []
        self.addresses[name] = []
        for _ in range(listeners):
            with socket.create_server(("127.0.0.1", 0), backlog=200) as sock:
                sock.setblocking(False)
                self._count += 1
                self._listeners[name].append(self._count)
                self.addresses[name].append(sock.getsockname())
                self.server.services.listeners[self._count] = Listener(self._count, sock.detach())

    def _listen_at(self, name: str, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.bind(path)
        sock.listen(200)
        self._count += 1
        self._listeners[name] = [self._count]
        self.paths[name] = path
        self.server.services.listeners[self._count] = listener_of(self._count, sock.detach())

    def launcher(self) -> FakeLauncher:
        """Bring a launcher."""
        launcher = FakeLauncher(len(self.launchers) + 1, self.tell)
        self.launchers.append(launcher)
        self.server.add_launcher(added(launcher.number), launcher.loop_end)
        return launcher

    # What the test does

    def service(self, name: str) -> LiveService:
        """Return a service of the server's."""
        return next(item for item in self.server.services.by_number.values() if item.name == name)

    def sessions(self, name: str) -> Sessions:
        """Return the sessions of a service, which the plan may not have any more."""
        return next(item for item in self.server.services.all_sessions() if item.name == name)

    @property
    def accepted(self) -> int:
        """How many connections all services have accepted."""
        return sum(service.counts.accepted for service in self.server.services.all_sessions())

    def connect(self, name: str, source: str = "127.0.0.1", listener: int = 0) -> socket.socket:
        """Connect a client; the kernel does that without the server."""
        if name in self.paths:
            client = socket.socket(socket.AF_UNIX)
            client.connect(self.paths[name])
        else:
            client = socket.create_connection(self.addresses[name][listener], TIMEOUT, (source, 0))
        client.setblocking(False)
        self.clients.append(client)
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that comes with an event of the log or a packet to a launcher."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def comes_true(self, condition: Callable[[], object]) -> None:
        """Wait for something that comes without an event of the log: look at each turn of the event loop."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                await self.turn()

    async def turn(self) -> None:
        """Let the event loop look once at what the kernel has for it."""
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001, done.set_result, None)
        await done

    async def starts(self, count: int) -> list[int]:
        """Wait until launchers have so many starts; return the connections."""
        await self.until(lambda: sum(len(launcher.starts) for launcher in self.launchers) >= count)
        return [connection for launcher in self.launchers for connection in launcher.starts]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the events of this name."""
        return [item for item in self.events if item["event"] == event]

    def close(self) -> None:
        """Close all sockets."""
        self.server.services.rules_files.change([])
        for service in self.server.services.by_number.values():
            service.acceptor.serve([])
        for listener in self.server.services.listeners.values():
            listener.sock.close()
        for number in list(self.server.launchers.by_number):
            self.server.launchers.lose(number)
        for launcher in self.launchers:
            launcher.close()
        for client in self.clients:
            client.close()


async def received(client: socket.socket) -> bytes:
    """Return all that a client is sent until its connection ends in order."""
    loop = asyncio.get_running_loop()
    pieces = []
    async with asyncio.timeout(TIMEOUT):
        while piece := await loop.sock_recv(client, 65536):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.asynccontextmanager
async def serving(*services: plan.Service, now: float = 0.0, **planned: Any) -> AsyncIterator[Rig]:
    """Serve with one launcher, from a time of the epoch; at the end every slot must be given back."""
    rig = Rig(now)
    try:
        rig.launcher()
        rig.plan(*services, **planned)
        rig.server.begin()
        await rig.until(lambda: rig.named("loop_started"))
        yield rig
    finally:
        rig.close()
    for sessions in rig.server.services.all_sessions():
        assert sessions.counts.open == 0
        assert not sessions.by_number
        assert not sessions.unknown
    assert rig.server.services.limits.live == 0
