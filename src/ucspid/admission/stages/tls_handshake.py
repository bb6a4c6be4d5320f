"""TLS before the program: the socket goes to a TLS process, and what is left is one end of a pair."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine

from ucspid.admission.connection import NO_DESCRIPTOR, Connection
from ucspid.admission.secured import OverTls
from ucspid.admission.stage import TLS_FAILED, Outcome, Refused, Resources
from ucspid.admission.tls_channels import NO_PROCESS, SILENT, TlsChannels, secure_order
from ucspid.ipc import messages as wire
from ucspid.plan import Tls

MARGIN = 5.0
"""Seconds beyond the time of a handshake that a TLS process may take to say so."""


class TlsHandshakes:
    """Has each connection secured before anything else is known of its client."""

    def __init__(
        self, tls: Tls, channels: TlsChannels, next_connection: Callable[[], int], lookup_timeout: float
    ) -> None:
        """Use these channels; connections are numbered by next_connection()."""
        self._tls = tls
        self._channels = channels
        self._next_connection = next_connection
        self._lookup_timeout = lookup_timeout

    def enter(self, connection: Connection) -> Outcome | Coroutine[None, None, Outcome]:
        """Wait for the handshake; or, where the program is to ask for it, for a process to do it then."""
        if self._tls.mode == "starttls" and self._channels.there:
            return None
        connection.deadline = asyncio.get_running_loop().time() + self._tls.handshake_timeout + MARGIN
        return self._wait(connection)

    async def _wait(self, connection: Connection) -> Outcome:
        refused = Refused(TLS_FAILED, detail=NO_PROCESS)
        try:
            async with asyncio.timeout_at(connection.deadline):
                await self._channels.available()
                if self._tls.mode == "starttls":
                    return None
                refused = Refused(TLS_FAILED, detail=SILENT)
                return await self._shake_hands(connection)
        except TimeoutError:
            return refused
        except OSError as problem:
            return Refused(TLS_FAILED, detail=str(problem), number=problem.errno or 0)
        finally:
            connection.deadline = asyncio.get_running_loop().time() + self._lookup_timeout

    async def _shake_hands(self, connection: Connection) -> Outcome:
        """Send the client's socket to a process. Raises OSError."""
        connection.number = self._next_connection()
        local = connection.local()
        ours, theirs = socket.socketpair()
        connection.pair = ours.fileno()
        with ours, theirs:
            order = secure_order(self._tls, connection.number)
            try:
                channel = self._channels.send(order, (connection.descriptor, theirs.fileno()))
                theirs.close()  # so that its end is seen when the process is gone
                result = await channel.result(connection.number)
            finally:
                connection.pair = NO_DESCRIPTOR
            if isinstance(result, wire.NotSecured):
                return Refused(TLS_FAILED, detail=result.reason)
            os.close(connection.descriptor)
            connection.descriptor = ours.detach()
        connection.over_tls, connection.awaits_tls = OverTls.of(result, local), False
        return None


def make(resources: Resources) -> TlsHandshakes | None:
    """Return the stage of a service with TLS."""
    tls = resources.settings.tls
    if tls is None:
        return None
    return TlsHandshakes(tls, resources.tls, resources.next_connection, resources.settings.lookup.timeout)
