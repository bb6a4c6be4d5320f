"""The soak test's clients: what each does, and what it may meet."""

import asyncio
import collections
import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Any

from daemon import Daemon

AT_ONCE = 60
"""Clients at a time, floods not counted."""

REPLY_SECONDS = 30.0
"""Seconds after which a client has been forgotten by the daemon."""

NEAR = 6.0
"""Seconds after a death in which what the dead process had in its hands may still be met."""

RESET = struct.pack("ii", 1, 0)


class LostError(Exception):
    """The connection ended without what was due."""


class Clients:
    """All clients, and what they found to be wrong."""

    def __init__(self, daemon: Daemon, chance: random.Random) -> None:
        """Begin with none."""
        self.wrong: list[str] = []
        self.deaths: list[float] = []
        """When a process of the daemon was killed: monotonic seconds."""
        self.outcomes: collections.Counter[str] = collections.Counter()
        self._daemon = daemon
        self._chance = chance
        self._addresses: dict[str, tuple[str, int]] = {
            item["service"]: _address(item["address"]) for item in daemon.status()["listeners"]
        }
        self._connects: collections.Counter[str] = collections.Counter()
        self._resets: collections.Counter[str] = collections.Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: collections.Counter[str] = collections.Counter()
        self._resting = asyncio.Event()
        self._kinds: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (40, lambda: self._short("short")),
            (15, lambda: self._short("other")),
            (15, lambda: self._session("echo")),
            (10, lambda: self._limited("full", 5, b"full\n", self._address_of(0))),
            (10, lambda: self._limited("per_ip", 3, b"busy\n", self._address_of(1))),
            (5, self._ruled),
            (3, self._failing),
            (3, self._half_closed),
            (2, self._resets_at_once),
            (1, self._silent),
        ]

    def connected(self, service: str) -> tuple[int, int]:
        """Return how many connections the daemon must at least and may at most have accepted."""
        connects = self._connects[service]
        return connects - self._resets[service], connects

    def summary(self) -> str:
        """Return how many clients met what."""
        return ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())

    async def load(self, seconds: float) -> None:
        """Keep clients coming for so many seconds."""
        self._resting.clear()
        weights, kinds = zip(*self._kinds, strict=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    while len(self._tasks) >= AT_ONCE:
                        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                    (kind,) = self._chance.choices(kinds, weights)
                    task = asyncio.create_task(self._run(kind()))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def rest(self) -> None:
        """Have all clients end."""
        self._resting.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, client: Coroutine[Any, Any, None]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(REPLY_SECONDS + 10.0):
                await client
        except ConnectionRefusedError:
            self.wrong.append("the kernel refused a connection: nobody listened")
        except (LostError, OSError) as problem:
            # TimeoutError is an OSError: a client that nobody served is lost, whatever died.
            near = any(began - NEAR < death < time.monotonic() for death in self.deaths)
            if near and not isinstance(problem, TimeoutError):
                self.outcomes["lost with a dead process"] += 1
            else:
                self.wrong.append(f"{client}: {type(problem).__name__} {problem}")

    # Kinds

    async def _short(self, service: str) -> None:
        reader, writer = await self._connect(service, self._address_of(2))
        with contextlib.closing(writer):
            await _expect(reader, b"ok\n")
            await _expect_end(reader)
        self.outcomes["short"] += 1

    async def _session(self, service: str) -> None:
        reader, writer = await self._connect(service, self._address_of(2))
        with contextlib.closing(writer):
            await self._say(reader, writer)
            await self._stay(reader, writer)
        self.outcomes["long"] += 1

    async def _limited(self, service: str, most: int, message: bytes, source: str) -> None:
        """Hold a place that there are few of: of all clients, or of those of one address."""
        key = f"{service} {source}" if service == "per_ip" else service
        reader, writer = await self._connect(service, source)
        with contextlib.closing(writer):
            answer = await asyncio.wait_for(reader.readline(), REPLY_SECONDS)
            if answer == message:
                self.outcomes["refused"] += 1
                return
            if answer != b"in\n":
                raise LostError(f"got {answer!r}")
            self._held[key] += 1
            if self._held[key] > most:
                self.wrong.append(f"{key}: {self._held[key]} at once, and {most} are allowed")
            try:
                await self._stay(reader, writer)
            finally:
                self._held[key] -= 1
        self.outcomes["limited"] += 1

    async def _ruled(self) -> None:
        """Come from an address that the rules deny, or from another."""
        denied = self._chance.random() < 0.5
        reader, writer = await self._connect("ruled", "127.0.9.1" if denied else "127.0.8.1")
        with contextlib.closing(writer):
            if denied:
                await _expect_end(reader)
                self.outcomes["denied"] += 1
                return
            await self._say(reader, writer)
        self.outcomes["allowed"] += 1

    async def _failing(self) -> None:
        """Meet a program that fails; the service is throttled, so that this may take its time."""
        try:
            async with asyncio.timeout(1.0):
                self._resets["failing"] += 1  # it may disconnect before it is accepted, and be accepted later
                source = f"127.0.3.{self._chance.randint(1, 20)}"
                reader, writer = await self._connect("failing", source)
                with contextlib.closing(writer):
                    await reader.read()
        except TimeoutError:
            pass
        self.outcomes["failing"] += 1

    async def _half_closed(self) -> None:
        reader, writer = await self._connect("echo", self._address_of(2))
        with contextlib.closing(writer):
            writer.write(b"last\n")
            writer.write_eof()
            await _expect(reader, b"last\n")
            await _expect_end(reader)
        self.outcomes["half-closed"] += 1

    async def _resets_at_once(self) -> None:
        """Connect in numbers and reset, perhaps before the accept."""
        for _ in range(self._chance.randint(1, 100)):
            with socket.socket() as sock:
                sock.setblocking(False)
                sock.bind((self._address_of(4), 0))
                await asyncio.get_running_loop().sock_connect(sock, self._addresses["short"])
                self._connects["short"] += 1
                self._resets["short"] += 1
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.outcomes["reset"] += 1

    async def _silent(self) -> None:
        _reader, writer = await self._connect("echo", self._address_of(2))
        with contextlib.closing(writer):
            await self._wait(self._chance.uniform(0, 5))
        self.outcomes["silent"] += 1

    # What they have in common

    def _address_of(self, crowd: int) -> str:
        return f"127.0.{crowd}.{self._chance.randint(1, 4)}"

    async def _connect(self, service: str, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._addresses[service]
        self._connects[service] += 1
        try:
            return await asyncio.open_connection(host, port, local_addr=(source, 0))
        except BaseException:
            self._resets[service] += 1  # by a process that has died; it may have been accepted before that
            raise

    async def _stay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say something now and then, and disconnect after a while."""
        for _ in range(self._chance.randint(0, 3)):
            await self._wait(self._chance.uniform(0, 2))
            await self._say(reader, writer)
            if self._resting.is_set():
                return

    async def _say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = b"%d\n" % self._chance.randrange(1 << 30)
        writer.write(line)
        await _expect(reader, line)

    async def _wait(self, seconds: float) -> None:
        """Do nothing for a while, unless all are to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._resting.wait(), seconds)


async def _expect(reader: asyncio.StreamReader, line: bytes) -> None:
    answer = await asyncio.wait_for(reader.readline(), REPLY_SECONDS)
    if answer != line:
        raise LostError(f"expected {line!r}, got {answer!r}")


async def _expect_end(reader: asyncio.StreamReader) -> None:
    rest = await asyncio.wait_for(reader.read(), REPLY_SECONDS)
    if rest:
        raise LostError(f"expected the end, got {rest!r}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
