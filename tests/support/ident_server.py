"""An ident server on loopback that says what a test wants, in the test's own event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class IdentServer:
    """The server, as a test sees it: where it listens, what it was asked by whom, who is connected."""

    port: int = 0
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def answering(
    *pieces: bytes, close: bool = True, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[IdentServer]:
    """Answer each question with the pieces, one write each; PORTS in them is replaced by what was asked.

    Without close the connection stays open until the client closes it. Ends when all clients are gone.
    """
    server = IdentServer()
    talks: set[asyncio.Task[None] | None] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        line = await reader.readline()
        server.asked.append((writer.get_extra_info("peername")[0], line))
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece.replace(b"PORTS", line.strip()))
                await writer.drain()
            if not close:
                await reader.read()
        server.gone.set()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listener = await asyncio.start_server(talk, host, port)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
        await asyncio.gather(*(task for task in talks if task is not None))
