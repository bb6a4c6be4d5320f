"""Events as they come, for control clients that want to see them; nothing while none does.

What a client has not read yet is bounded: one that reads too slowly loses events, and is told how
many. Nobody waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

from ucspid.errors import ResourceError
from ucspid.net.client import Clients
from ucspid.net.endpoint import host_of
from ucspid.records import dataclass

MAX_TAILS = 8
"""Clients at a time."""

MAX_UNREAD = 256 << 10
"""Bytes that wait for one of them."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

Render = Callable[[str, dict[str, Any]], bytes]
"""Makes a line of a level and fields."""


@dataclass(frozen=True, slots=True)
class TailFilter:
    """Which events a client wants: None is no condition."""

    level: int = LEVELS["info"]
    events: frozenset[str] | None = None
    service: str | None = None
    clients: Clients | None = None

    def holds(self, level: int, fields: MutableMapping[str, Any]) -> bool:
        """Say whether an event is wanted."""
        return (
            level >= self.level
            and (self.events is None or fields["event"] in self.events)
            and (self.service is None or fields.get("service") == self.service)
            and (self.clients is None or _is_in(fields.get("remote"), self.clients))
        )


class Tail:
    """One client's events, from when it has asked."""

    def __init__(self, tails: "Tails", wanted: TailFilter) -> None:
        """Wait for the first."""
        self.wanted = wanted
        self._tails = tails
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._news = asyncio.Event()

    def put(self, line: bytes) -> None:
        """Keep a line for the client, or count it as lost: then what comes is lost until all is read."""
        if self._dropped or self._size + len(line) > MAX_UNREAD:
            self._dropped += 1
            return
        self._lines.append(line)
        self._size += len(line)
        self._news.set()

    async def more(self) -> bytes:
        """Wait for lines, and return all that there are; the last says how many were lost."""
        await self._news.wait()
        self._news.clear()
        lines, dropped = b"".join(self._lines), self._dropped
        self._lines.clear()
        self._size = self._dropped = 0
        if dropped:
            lines += self._tails.render("warning", {"event": "tail_dropped", "count": dropped})
        return lines

    def close(self) -> None:
        """End: the client is gone."""
        self._tails.remove(self)


class Tails:
    """A processor of structlog's that the log has while there is somebody to read."""

    def __init__(self, render: Render, changed: Callable[[], None]) -> None:
        """changed() is called when the level is another; it is None while there is nobody."""
        self.render = render
        self._changed = changed
        self._tails: list[Tail] = []

    def __len__(self) -> int:
        """Return how many clients read."""
        return len(self._tails)

    @property
    def level(self) -> int | None:
        """The lowest level that anybody wants; None if there is nobody."""
        return min((tail.wanted.level for tail in self._tails), default=None)

    def add(self, wanted: TailFilter) -> Tail:
        """Begin to keep events for a client. Raises ResourceError if there are enough of them."""
        if len(self._tails) >= MAX_TAILS:
            raise ResourceError(f"{MAX_TAILS} clients read events already: try again later")
        tail = Tail(self, wanted)
        self._tails.append(tail)
        self._changed()
        return tail

    def remove(self, tail: Tail) -> None:
        """Keep nothing more for a client."""
        self._tails.remove(tail)
        self._changed()

    def note(self, level: str, fields: MutableMapping[str, Any]) -> None:
        """Keep an event for those who want it."""
        number = LEVELS[level]
        line = b""
        for tail in self._tails:
            if tail.wanted.holds(number, fields):
                line = line or self.render(level, dict(fields))
                tail.put(line)


def _is_in(remote: Any, clients: Clients) -> bool:
    """Say whether an event is about one of these clients."""
    if not isinstance(remote, str):
        return False
    try:
        return host_of(remote) in clients
    except ValueError:
        return False
