"""What the event loop says: a control client that may look, over sockets that both got from the master."""

import asyncio
import json
import socket
import time
from collections import deque
from typing import Any

from ucspid.errors import PeerError
from ucspid.ipc.control_protocol import MAX_REPLY, Failure, Request, decode_reply, encode_request

STATUS_AGE = 1.0
"""Seconds for which an answer is good enough for everybody."""

ANSWER_TIMEOUT = 5.0
"""Seconds that the event loop may take to answer."""

MAX_EVENTS = 100
"""The latest events that are kept."""

LOOKING = 60.0
"""Seconds for which all events are kept after somebody has looked. Otherwise only warnings and errors
are: an event costs the event loop and this process as much as its log line, for each connection."""

UNWATCHED, WATCHED = {"level": "warning"}, dict[str, Any]()
"""Which events are asked for."""

_REPLY = b'{"v":'
"""How a reply begins, and no event."""


class Feed:
    """One connection for requests and one for events; when either ends, so does this process."""

    def __init__(self, requests: socket.socket, events: socket.socket) -> None:
        """Take both; begin() connects them to the running event loop."""
        self._lines: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self.ended = asyncio.Event()
        """Set when the event loop is gone."""
        self._requests = requests
        self._events = events
        self._turn = asyncio.Lock()
        self._status: dict[str, Any] = {}
        self._asked = -STATUS_AGE
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._watching: asyncio.Task[None]
        self._watched = asyncio.Event()
        """Set while all events come."""
        self._looked = -LOOKING
        self._tail: asyncio.StreamWriter | None = None
        """Where events come from, if a newline may end them."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The latest, in their order."""
        return [json.loads(line) for line in self._lines]

    async def begin(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._requests, limit=MAX_REPLY)
        self._watching = asyncio.create_task(self._watch())

    async def status(self) -> dict[str, Any]:
        """Return the daemon's status, a second old at most. Raises PeerError, TimeoutError."""
        async with self._turn:
            if time.monotonic() >= self._asked + STATUS_AGE:
                self._status = await self._answer("status", {})
                self._asked = time.monotonic()
            return self._status

    async def ask(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return what the daemon answers. Raises PeerError, TimeoutError."""
        async with self._turn:
            return await self._answer(verb, args)

    async def _answer(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                self._writer.write(encode_request(Request(verb, args)))
                line = await self._reader.readline()
        except (TimeoutError, ConnectionError):
            self.ended.set()  # what comes later would be taken for the next answer
            raise
        if not line:
            self.ended.set()
            raise PeerError("the event loop is gone")
        reply = decode_reply(line)
        if isinstance(reply, Failure):
            raise PeerError(reply.error)
        return reply.result

    async def look(self) -> None:
        """Have all events kept from now on, for a while. Raises TimeoutError."""
        self._looked = time.monotonic()
        if not self._watched.is_set():
            self._end_tail()
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._watched.wait()

    async def _watch(self) -> None:
        """Keep the latest events."""
        reader, writer = await asyncio.open_unix_connection(sock=self._events, limit=MAX_REPLY)
        try:
            while await self._follow(reader, writer):
                """Once more, with other events."""
        finally:
            self.ended.set()
            for each in (writer, self._writer):
                each.close()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read events, all or some, until others are wanted; return False if there are no more."""
        left = self._looked + LOOKING - time.monotonic()
        writer.write(encode_request(Request("tail", WATCHED if left > 0 else UNWATCHED)))
        reply = await reader.readline()
        if not reply or isinstance(decode_reply(reply), Failure):
            return False
        self._tail = writer
        if left > 0:
            self._watched.set()
            asyncio.get_running_loop().call_later(left, self._perhaps_enough)
        elif self._looked + LOOKING > time.monotonic():
            self._end_tail()  # somebody has looked meanwhile
        while line := await reader.readline():
            if line.startswith(_REPLY):
                return True
            self._lines.append(line)
        return False

    def _perhaps_enough(self) -> None:
        """End with all events, unless somebody has looked again."""
        left = self._looked + LOOKING - time.monotonic()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._perhaps_enough)
        else:
            self._watched.clear()
            self._end_tail()

    def _end_tail(self) -> None:
        """Have the event loop send no more of those that it sends, which it says when it is done."""
        if self._tail is not None:
            self._tail.write(b"\n")
            self._tail = None
