"""What the web process asks the event loop for, and when."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from inprocess import TIMEOUT
from ucspid.ipc.control_protocol import Request, Result, decode_request, encode_reply
from ucspid.web import feed
from ucspid.web.feed import Feed


class Loop:
    """The event loop's end of the connection for events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def asked(self) -> dict[str, Any]:
        """Take a request for events and grant it; return which are wanted."""
        request = decode_request(await asyncio.wait_for(self._reader.readline(), TIMEOUT))
        assert request == Request("tail", request.args)
        self._writer.write(encode_reply(Result({})))
        return request.args

    async def ended(self) -> None:
        """Take the word that ends them."""
        assert await asyncio.wait_for(self._reader.readline(), TIMEOUT) == b"\n"
        self._writer.write(encode_reply(Result({})))

    def say(self, name: str) -> None:
        self._writer.write(json.dumps({"event": name}).encode() + b"\n")


@asynccontextmanager
async def feeding() -> AsyncIterator[tuple[Feed, Loop]]:
    requests, theirs = socket.socketpair()
    events, ours = socket.socketpair()
    with theirs:
        fed = Feed(requests, events)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        await fed.begin()
        yield fed, Loop(reader, writer)
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(fed.ended.wait(), TIMEOUT)


async def test_all_events_come_only_while_somebody_looks() -> None:
    async with feeding() as (fed, loop):
        assert await loop.asked() == feed.UNWATCHED
        looking = asyncio.create_task(fed.look())
        await loop.ended()
        assert await loop.asked() == feed.WATCHED
        await asyncio.wait_for(looking, TIMEOUT)
        await asyncio.wait_for(fed.look(), TIMEOUT)  # nothing more is asked


async def test_when_nobody_has_looked_for_a_while_only_warnings_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(feed, "LOOKING", 0.05)
    monkeypatch.setattr(feed, "time", SimpleNamespace(monotonic=lambda: now[0]))
    async with feeding() as (fed, loop):
        assert await loop.asked() == feed.UNWATCHED
        looking = asyncio.create_task(fed.look())
        await loop.ended()
        assert await loop.asked() == feed.WATCHED
        await asyncio.wait_for(looking, TIMEOUT)
        now[0] = feed.LOOKING
        await loop.ended()
        assert await loop.asked() == feed.UNWATCHED


async def test_what_came_is_kept_across_both() -> None:
    async with feeding() as (fed, loop):
        await loop.asked()
        loop.say("warned")
        looking = asyncio.create_task(fed.look())
        await loop.ended()
        await loop.asked()
        loop.say("served")
        await asyncio.wait_for(looking, TIMEOUT)
        while len(fed.events) < 2:
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turn.set_result, None)
            await turn
        assert [event["event"] for event in fed.events] == ["warned", "served"]
