"""TLS processes for tests of the loop: the other ends of their channels, and the test says what they say."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import plans
from inprocess import TIMEOUT, Rig, serving
from ucspid import plan
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.plan import CertificateFiles, Tls, TlsContext


def tls_of(mode: Any = "implicit", **changed: Any) -> Tls:
    """Return TLS of a service."""
    context = TlsContext(certificates=(CertificateFiles(path="/x"),))
    return Tls(mode=mode, context=context, **changed)


def secured(name: str, mode: Any = "implicit", tls: dict[str, Any] | None = None, **changed: Any) -> Any:
    """Return the settings of a service with TLS."""
    usual = {"max_connections": 100, "tls": tls_of(mode, **(tls or {}))}
    return plans.service(name, **{**usual, **changed})


@dataclass
class Handshake:
    """A connection that a process was sent."""

    order: wire.Secure
    sockets: list[socket.socket]

    @property
    def client(self) -> socket.socket:
        """The client's socket."""
        return self.sockets[0]

    @property
    def program(self) -> socket.socket:
        """Our end of the pair whose other end the program has."""
        return self.sockets[1]

    def close(self) -> None:
        """Close all of it."""
        for sock in self.sockets:
            sock.close()


class FakeTls:
    """A TLS process that shakes no hands: the test says how each ends."""

    def __init__(self, rig: Rig, number: int) -> None:
        """Bring it to the loop."""
        self.number = number
        self.handshakes: dict[int, Handshake] = {}
        loop_end, own_end = pair()
        self._channel = Channel(own_end)
        self._news: Callable[[], None] = rig.tell
        self.read_on()
        rig.server.tls.add(number, os.getpid(), loop_end)

    def read_on(self) -> None:
        """Take what comes."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._receive)

    def hang(self) -> None:
        """Take nothing that comes until read_on()."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())

    def _receive(self) -> None:
        received = self._channel.receive()
        if received is None:
            return
        packet, descriptors = received
        if packet:
            order = wire.Secure.unpack(packet)
            sockets = [socket.socket(fileno=number) for number in descriptors]
            self.handshakes[order.connection] = Handshake(order, sockets)
        else:
            self.close()
        self._news()

    def say(self, packet: bytes) -> None:
        """Send the loop a packet."""
        self._channel.send(packet)

    def shaken(self, connection: int, **changed: Any) -> None:
        """Say that a handshake is done."""
        usual: dict[str, Any] = {
            "resumed": False, "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "sni": None,
            "alpn": None, "fingerprint": None, "names": (), "variables": (b"SSL_PROTOCOL=TLSv1.3",),
        }  # fmt: skip
        self.say(wire.Secured(connection=connection, **{**usual, **changed}).pack())

    def failed(self, connection: int, reason: str) -> None:
        """Say that there is no TLS connection, and close it."""
        self.say(wire.NotSecured(connection, reason).pack())
        self.handshakes.pop(connection).close()

    def close(self) -> None:
        """End, with all connections."""
        if self._channel.fileno() >= 0:
            self.hang()
            self._channel.close()
            for handshake in self.handshakes.values():
                handshake.close()


class TlsRig:
    """A loop's server with TLS processes."""

    def __init__(self, rig: Rig) -> None:
        """Begin with none."""
        self.rig = rig
        self.processes: list[FakeTls] = []

    def process(self) -> FakeTls:
        """Bring one more."""
        self.processes.append(FakeTls(self.rig, len(self.processes) + 1))
        return self.processes[-1]

    async def handshake(self, process: FakeTls | None = None) -> tuple[int, Handshake]:
        """Wait until a process, the first if none is given, was sent a connection; return the last one."""
        process = process or self.processes[0]
        await self.rig.until(lambda: process.handshakes)
        return list(process.handshakes.items())[-1]

    async def refused(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many were refused."""
        await self.rig.until(lambda: len(self.rig.named("connection_refused")) >= count)
        return self.rig.named("connection_refused")

    def variables(self, connection: int) -> dict[bytes, bytes]:
        """Return the variables of a start."""
        text = self.rig.launchers[0].variables[connection]
        return dict(item.split(b"=", 1) for item in text.split(b"\0"))

    async def gone(self) -> None:
        """End all processes and what waits for them, and wait until the loop knows."""
        services = self.rig.server.services.by_number.values()
        for service in services:
            service.close()
        for process in self.processes:
            process.close()
        async with asyncio.timeout(TIMEOUT):
            while self.rig.server.tls.descriptors or any(service.pipeline.pending for service in services):
                await self.rig.turn()


@contextlib.asynccontextmanager
async def tls_serving(*services: plan.Service, processes: int = 1) -> AsyncIterator[TlsRig]:
    """Serve with TLS processes; at the end the counts must match, and every slot be given back."""
    async with serving(*services) as rig:
        tls = TlsRig(rig)
        for _ in range(processes):
            tls.process()
        try:
            yield tls
        finally:
            await tls.gone()
        for sessions in rig.server.services.all_sessions():
            counts = sessions.counts
            ends = counts.served + sum(counts.refused.values()) + sum(counts.failed.values())
            assert counts.accepted == ends + sessions.live
