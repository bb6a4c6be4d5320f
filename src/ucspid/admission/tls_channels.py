"""The loop's ends of the channels to TLS processes: handshakes out, what they showed in."""

import asyncio
import errno
import socket
import struct
from functools import lru_cache
from typing import Protocol

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.plan import Tls
from ucspid.policy.tls_context import context_number

MAX_SETTINGS = 100
"""Settings of which is remembered what a TLS process is sent of them."""

ENDED = "the TLS process has ended"
NO_PROCESS = "no TLS process is there"
SILENT = "the TLS process does not answer"
"""Why there is no handshake, other than what a process says."""

SILENCE = 2.0
"""Seconds in which a process that was sent connections may report nothing before the master is to look."""

_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

HandshakeResult = wire.Secured | wire.NotSecured


class TlsReports(Protocol):
    """Where what TLS processes report goes that no handshake waits for."""

    def secured_later(self, secured: wire.Secured) -> None:
        """Take note that a session has gone over to TLS, at its program's request."""

    def not_secured_later(self, failed: wire.NotSecured) -> None:
        """Take note that a session's program has asked for TLS, and that there is none."""

    def ended(self, end: wire.SecureEnd) -> None:
        """Take note that a TLS connection has not ended well."""

    def silent(self, number: int) -> None:
        """Have the master look whether a process hangs that should have said something."""

    def process_broken(self, number: int, problem: WireError) -> None:
        """Take note that a process has sent what none sends; its channel is closed."""


class TlsChannel:
    """The channel to one TLS process, and the handshakes that it is at."""

    def __init__(self, number: int, pid: int, sock: socket.socket, reports: TlsReports) -> None:
        """Use sock, at whose other end is the process pid."""
        self.number = number
        self.pid = pid
        self.pending: dict[int, asyncio.Future[HandshakeResult]] = {}
        self.channel = Channel(sock)
        self._reports = reports
        self._heard = True
        """Whether it has said something since it was last looked at, or was sent a connection after that."""
        self._timer: asyncio.TimerHandle | None = None

    def send(self, order: wire.Secure, descriptors: tuple[int, ...]) -> None:
        """Send a connection; copies of the descriptors go with it.

        Raises OSError, BlockingIOError if the process reads nothing: a connection that waited here would stay
        open however it ends elsewhere.
        """
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        self.channel.sock.sendmsg([order.pack()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _SEND)
        if self._timer is None:
            self._heard = False
            self._timer = asyncio.get_running_loop().call_later(SILENCE, self.look)

    def look(self) -> None:
        """Look whether it says something while connections wait for it; look again as long as they do."""
        if not self._heard:
            self._reports.silent(self.number)
        self._heard = False
        later = asyncio.get_running_loop().call_later
        self._timer = later(SILENCE, self.look) if self.pending else None

    async def result(self, connection: int) -> HandshakeResult:
        """Return how the handshake ends of a connection that was sent just now."""
        answer: asyncio.Future[HandshakeResult] = asyncio.get_running_loop().create_future()
        self.pending[connection] = answer
        try:
            return await answer
        finally:
            self.pending.pop(connection, None)

    def receive(self) -> bool:
        """Take a message; return whether there is still a process at the other end.

        Raises WireError for what no process sends.
        """
        packet = self.channel.receive_packet()
        if packet is None:
            return True
        if not packet:
            return False
        self._heard = True
        kind = packet[0]
        if kind == wire.Secured.KIND:
            secured = wire.Secured.unpack(packet)
            if not self._answer(secured):
                self._reports.secured_later(secured)
        elif kind == wire.NotSecured.KIND:
            failed = wire.NotSecured.unpack(packet)
            if not self._answer(failed):
                self._reports.not_secured_later(failed)
        elif kind == wire.SecureEnd.KIND:
            self._reports.ended(wire.SecureEnd.unpack(packet))
        else:
            raise WireError(f"a message of kind {kind}")
        return True

    def _answer(self, result: HandshakeResult) -> bool:
        waiting = self.pending.pop(result.connection, None)
        if waiting is None:
            return False
        if not waiting.done():
            waiting.set_result(result)
        return True

    def close(self) -> None:
        """Close it: the handshakes that it is at have failed."""
        self.channel.close()
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.pending):
            self._answer(wire.NotSecured(connection, ENDED))


class TlsChannels:
    """All of them."""

    def __init__(self, reports: TlsReports) -> None:
        """Begin with none."""
        self._reports = reports
        self._serving: dict[int, TlsChannel] = {}
        self._draining: dict[int, TlsChannel] = {}
        self._there = asyncio.Event()

    @property
    def processes(self) -> list[tuple[int, bool]]:
        """The processes, and whether each gets no more connections."""
        serving = [(item.pid, False) for item in self._serving.values()]
        return [*serving, *((item.pid, True) for item in self._draining.values())]

    @property
    def descriptors(self) -> set[int]:
        """Their descriptors."""
        return {item.channel.fileno() for those in (self._serving, self._draining) for item in those.values()}

    def add(self, number: int, pid: int, sock: socket.socket) -> None:
        """Add the channel to another process."""
        channel = self._serving[number] = TlsChannel(number, pid, sock, self._reports)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._receive, channel)
        self._there.set()

    def remove(self, number: int) -> None:
        """Send a process no more connections."""
        channel = self._serving.pop(number, None)
        if channel is not None:
            self._draining[number] = channel
        if not self._serving:
            self._there.clear()

    def _receive(self, channel: TlsChannel) -> None:
        try:
            there = channel.receive()
        except WireError as problem:
            self._reports.process_broken(channel.number, problem)
            there = False
        if not there:
            asyncio.get_running_loop().remove_reader(channel.channel.fileno())
            self._serving.pop(channel.number, None)
            self._draining.pop(channel.number, None)
            if not self._serving:
                self._there.clear()
            channel.close()

    @property
    def there(self) -> bool:
        """Whether there is a process."""
        return self._there.is_set()

    async def available(self) -> None:
        """Wait until there is a process."""
        await self._there.wait()

    def send(self, order: wire.Secure, descriptors: tuple[int, ...]) -> TlsChannel:
        """Send a connection to a process, and return which: the one with the fewest handshakes that takes it.

        Of several, it is the one that was sent one longest ago. Raises OSError if none takes it.
        """
        problem: OSError = ProcessLookupError(errno.ESRCH, NO_PROCESS)
        for channel in sorted(self._serving.values(), key=lambda item: len(item.pending)):
            try:
                channel.send(order, descriptors)
            except OSError as its:
                problem = its
            else:
                self._serving[channel.number] = self._serving.pop(channel.number)
                return channel
        raise problem


@lru_cache(MAX_SETTINGS)
def _settings(tls: Tls) -> tuple[bool, bool, int, int]:
    timeout = int(tls.handshake_timeout * 1000)
    return tls.mode == "starttls", tls.env == "ucspi-ssl", timeout, context_number(tls.context)


def secure_order(tls: Tls, connection: int) -> wire.Secure:
    """Return the order for a connection of a service."""
    return wire.Secure(*_settings(tls), connection)
