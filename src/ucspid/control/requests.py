"""Requests of control clients that only the master can fulfil: a reload, a forecast of one, an upgrade."""

import asyncio
import itertools
import time
from typing import Any, Protocol

from ucspid.errors import ConfigError, ResourceError
from ucspid.ipc import messages as wire
from ucspid.ipc.orders import Answer


class SendNote(Protocol):
    """Sends a note to the master."""

    def __call__(self, kind: int, number: int = 0, token: int = 0) -> None:
        """Send it."""


class Requests:
    """Those that wait for the master's answer, by their tokens."""

    def __init__(self, note: SendNote) -> None:
        """Begin with none."""
        self._note = note
        self._tokens = itertools.count(time.monotonic_ns())  # none is an earlier loop's
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._stage: str | None = None
        self._since = time.monotonic()

    async def reload(self) -> dict[str, Any]:
        """Have the master read its file again; return what changed.

        Raises ConfigError for a file that is wrong, ResourceError for what the system refused.
        """
        return await self._ask(wire.NOTE_RELOAD)

    async def upgrade(self) -> dict[str, Any]:
        """Have the master become the code that is installed; return which versions, and what to wait for.

        Raises as reload() does; nothing has changed then.
        """
        return await self._ask(wire.NOTE_UPGRADE)

    async def plan(self) -> dict[str, Any]:
        """Have the master read its file, and return what a reload would change; raises as reload() does."""
        return await self._ask(wire.NOTE_FORECAST)

    def at(self, stage: str | None) -> None:
        """Take note of what the master is doing now."""
        self._stage, self._since = stage, time.monotonic()

    async def progress(self) -> dict[str, Any]:
        """Return what the master is doing now, and for how long, while others wait for it."""
        return {"stage": self._stage, "seconds": round(time.monotonic() - self._since, 3)}

    def answered(self, answer: Answer) -> None:
        """Take the master's answer to one of them."""
        future = self._waiting.pop(answer.token, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def fail(self, reason: str) -> None:
        """Fail all: no answer will come."""
        for token in list(self._waiting):
            self.answered(Answer(token=token, error=reason))

    async def _ask(self, kind: int) -> dict[str, Any]:
        token = next(self._tokens)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        self._note(kind, token=token)
        answer: Answer = await future
        if answer.result is not None:
            return answer.result
        reason = answer.error or ""
        raise ConfigError(reason.splitlines()) if answer.of_file else ResourceError(reason)
