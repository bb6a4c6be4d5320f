"""The PROXY protocol's header, before anything is decided: from then on the client is whom it names."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine

from ucspid.admission.connection import Connection
from ucspid.admission.proxied import Proxied
from ucspid.admission.stage import HEALTH_CHECK, NOT_PROXIED, PROXY_HEADER, Outcome, Refused, Resources
from ucspid.net.address import Networks
from ucspid.net.proxy_header import MAX_V2, Header, ProxyHeaderError, parse
from ucspid.net.unix import PREFIX, UnixClient
from ucspid.plan import Proxy

_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_TAKE = int(socket.MSG_DONTWAIT)


class ProxyHeaders:
    """Reads the header of each connection that comes from a balancer, and not one byte more."""

    def __init__(self, proxy: Proxy, lookup_timeout: float) -> None:
        """Take whom to expect headers from; lookup_timeout is for the stages that follow."""
        self._balancers = Networks(text for text in proxy.from_ if text != PREFIX)
        self._over_unix = PREFIX in proxy.from_
        self._versions = proxy.versions
        self._timeout = proxy.timeout
        self._refuses_others = proxy.others == "refuse"
        self._lookup_timeout = lookup_timeout

    def enter(self, connection: Connection) -> Outcome | Coroutine[None, None, Outcome]:
        """Wait for the header; of a peer that is no balancer, none is looked for."""
        ip = connection.ip
        if ip not in self._balancers and not (self._over_unix and isinstance(ip, UnixClient)):
            return Refused(NOT_PROXIED) if self._refuses_others else None
        connection.deadline = asyncio.get_running_loop().time() + self._timeout
        return self._wait(connection)

    async def _wait(self, connection: Connection) -> Outcome:
        try:
            async with asyncio.timeout_at(connection.deadline):
                header = await self._read(connection.descriptor)
        except TimeoutError:
            return Refused(PROXY_HEADER, detail=f"no whole header within {self._timeout:g}s")
        except (ProxyHeaderError, OSError) as problem:
            return Refused(PROXY_HEADER, detail=str(problem))
        finally:
            connection.deadline = asyncio.get_running_loop().time() + self._lookup_timeout
        if header is None or header.local:
            return Refused(HEALTH_CHECK)
        _become_the_clients(connection, header)
        return None

    async def _read(self, descriptor: int) -> Header | None:
        """Return the header, and None if the peer ended without a byte. Raises ProxyHeaderError, OSError."""
        taken = b""
        with contextlib.closing(_Peeked(descriptor)) as reader:
            while True:
                seen = reader.peek()
                if seen is None:
                    await reader.more()
                    continue
                if not seen:
                    if taken:
                        raise ProxyHeaderError("the connection ended in its header")
                    return None
                header = parse(taken + seen, self._versions)
                taken += reader.take(len(seen) if header is None else header.size - len(taken))
                if header is not None:
                    return header


class _Peeked:
    """What has come on a connection, looked at before it is taken."""

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=descriptor)
        self._watched = False
        self._news = asyncio.Event()

    def peek(self) -> bytes | None:
        """Return what waits, empty at the end; None if there is nothing yet."""
        try:
            return self._sock.recv(MAX_V2, _PEEK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def take(self, size: int) -> bytes:
        """Take so many bytes of what peek() returned."""
        return self._sock.recv(size, _TAKE)

    async def more(self) -> None:
        """Wait until something has come."""
        if not self._watched:
            self._watched = True
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._news.set)
        self._news.clear()
        await self._news.wait()

    def close(self) -> None:
        """Give the descriptor back to the connection. A loop that watches one has it not block."""
        if self._watched:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            os.set_blocking(self._sock.fileno(), True)
        self._sock.detach()


def _become_the_clients(connection: Connection, header: Header) -> None:
    """Give the connection the ends that the header names; without any, it stays the balancer's own."""
    local = header.ends and header.ends.local
    connection.proxied = Proxied(connection.ip, connection.port, local, header.variables, header.unique_id)
    if header.ends is not None:
        connection.ip, connection.port = header.ends.remote


def make(resources: Resources) -> ProxyHeaders | None:
    """Return the stage of a service behind a balancer."""
    settings = resources.settings
    if settings.proxy is None:
        return None
    return ProxyHeaders(settings.proxy, settings.lookup.timeout)
