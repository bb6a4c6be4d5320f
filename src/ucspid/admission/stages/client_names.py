"""The names of the connection's two ends, and the client's ident user."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from ucspid.admission.connection import Connection
from ucspid.admission.stage import Outcome, Resources
from ucspid.net.unix import UnixClient
from ucspid.plan import Lookup
from ucspid.records import replace

if TYPE_CHECKING:
    from ucspid.lookup.names import Names


class ClientNames:
    """Finds out what the service wants to know, within the connection's deadline.

    A client behind a balancer is not asked for its ident user: to it, the connection is the balancer's.
    Of one over a Unix socket there is nothing to find out.
    """

    def __init__(self, resources: Resources, names: Names) -> None:
        """Take who is asked."""
        self._lookup = resources.settings.lookup
        self._of_proxied = replace(self._lookup, ident=False)
        self._names = names

    def enter(self, connection: Connection) -> Outcome | Coroutine[None, None, Outcome]:
        """Take what is known already, or look it up."""
        if isinstance(connection.ip, UnixClient):
            return None
        lookup = self._lookup if connection.proxied is None else self._of_proxied
        local = connection.local()
        found = self._names.cached(lookup, local, (connection.ip, connection.port))
        if found is None:
            return self._look_up(connection, lookup, local)
        connection.found = found
        return None

    async def _look_up(self, connection: Connection, lookup: Lookup, local: tuple[str, int]) -> Outcome:
        seconds = max(0.0, connection.deadline - asyncio.get_running_loop().time())
        remote = connection.ip, connection.port
        connection.found = await self._names.find(lookup, local, remote, seconds)
        return None


def make(resources: Resources) -> ClientNames | None:
    """Return the stage of a service that looks names up, or has one to pass on."""
    if not resources.settings.lookup.wanted:
        return None
    assert resources.names is not None
    return ClientNames(resources, resources.names)
