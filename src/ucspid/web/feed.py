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


class Feed:
    """One connection for requests and one for events; when either ends, so does this process."""

    def __init__(self, requests: socket.socket, events: socket.socket) -> None:
        """Take both; begin() connects them to the running event loop."""
        self.events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        """The latest, in their order."""
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

    async def _watch(self) -> None:
        """Keep the latest events."""
        try:
            reader, writer = await asyncio.open_unix_connection(sock=self._events, limit=MAX_REPLY)
            writer.write(encode_request(Request("tail", {})))
            await reader.readline()
            while line := await reader.readline():
                self.events.append(json.loads(line))
        finally:
            self.ended.set()
