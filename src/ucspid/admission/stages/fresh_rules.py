"""The rules file as it is now: a client is judged by what was there when it connected, or is newer."""

import asyncio
from collections.abc import Coroutine

from ucspid.admission.connection import Connection
from ucspid.admission.rules_file import MAX_WAIT, FollowedRules
from ucspid.admission.stage import Outcome, Resources


class FreshRules:
    """Has a connection wait while its rules file is read, if that has changed.

    A change is known as soon as it is made, so after accept(2) every change is known that was made
    before the client connected. Before accept(2) it is too early to look.
    """

    def __init__(self, resources: Resources, followed: FollowedRules) -> None:
        """Take the file."""
        self._followed = followed
        self._timeout = resources.settings.lookup.timeout

    def enter(self, connection: Connection) -> Outcome | Coroutine[None, None, Outcome]:
        """Go on at once if nothing has changed."""
        if self._followed.fresh:
            return None
        self._followed.look()  # now, so that nobody else is accepted until that is over
        connection.deadline = asyncio.get_running_loop().time() + MAX_WAIT
        return self._wait(connection)

    async def _wait(self, connection: Connection) -> Outcome:
        """Wait until the file has been read. The time does not count for the stages that follow."""
        await self._followed.refresh()
        connection.deadline = asyncio.get_running_loop().time() + self._timeout
        return None


def make(resources: Resources) -> FreshRules | None:
    """Return the stage of a service whose rules are in a file."""
    return None if resources.followed is None else FreshRules(resources, resources.followed)
