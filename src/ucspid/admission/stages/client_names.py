"""The names of the connection's two ends, and the client's ident user."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from ucspid.admission.connection import Connection
from ucspid.admission.stage import Outcome, Resources

if TYPE_CHECKING:
    from ucspid.lookup.names import Names


class ClientNames:
    """Finds out what the service wants to know, within the connection's deadline."""

    def __init__(self, resources: Resources, names: Names) -> None:
        """Take who is asked."""
        self._lookup = resources.settings.lookup
        self._names = names

    def enter(self, connection: Connection) -> Outcome | Coroutine[None, None, Outcome]:
        """Take what is known already, or look it up."""
        assert connection.listener is not None
        local = connection.listener.end(connection.descriptor)
        found = self._names.cached(self._lookup, local, (connection.ip, connection.port))
        if found is None:
            return self._look_up(connection, local)
        connection.found = found
        return None

    async def _look_up(self, connection: Connection, local: tuple[str, int]) -> Outcome:
        seconds = max(0.0, connection.deadline - asyncio.get_running_loop().time())
        remote = connection.ip, connection.port
        connection.found = await self._names.find(self._lookup, local, remote, seconds)
        return None


def make(resources: Resources) -> ClientNames | None:
    """Return the stage of a service that looks names up, or has one to pass on."""
    if not resources.settings.lookup.wanted:
        return None
    assert resources.names is not None
    return ClientNames(resources, resources.names)
