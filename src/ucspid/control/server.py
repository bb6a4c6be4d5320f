"""The control server: answers control clients on a Unix socket, in the event loop's process.

The composition root of the loop makes one, with a function per verb, and closes it at the end.
It decides nothing itself and never trusts a client: who may ask is checked by the kernel's word
for the peer, and number, time and size are bounded. Whatever a client or a verb does costs that
client at most.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from ucspid.control.access import Rights, user_id
from ucspid.errors import ConfigError, PeerError, ResourceError, UcspidError
from ucspid.ipc.control_protocol import MAX_REQUEST, Failure, Request, Result, decode_request, encode_reply

Answering = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Stream(Protocol):
    """What a client is sent after the reply, until it disconnects."""

    async def more(self) -> bytes:
        """Wait for lines, and return them."""

    def close(self) -> None:
        """End: the client is gone."""


Streaming = Callable[[dict[str, Any]], Stream]


class Verbs(NamedTuple):
    """The verbs by their names: those that only look, those that change something, and those that go on.

    The latter only look, too; what one returns is closed when its client is gone.
    """

    looking: Mapping[str, Answering]
    changing: Mapping[str, Answering]
    streaming: Mapping[str, Streaming]


MAX_CLIENTS = 16
REQUEST_TIMEOUT = 5.0
"""Seconds that a client may take to send a request, the first as any later one."""
REPLY_TIMEOUT = 10.0
"""Seconds that a client may take to read a reply."""
_ACCEPT_PAUSE = 1.0  # seconds without accepting after the system refused to, for want of descriptors say
_CLOSED = -1


class ControlServer:
    """Serves control clients on a listening AF_UNIX stream socket."""

    def __init__(
        self,
        sock: socket.socket | None,
        verbs: Verbs,
        rights: Callable[[socket.socket], Rights],
        allowed: str = "root",
    ) -> None:
        """Take over the socket, if there is one; rights() says what a client may do.

        allowed says in words who may do everything. A verb gets the request's args and returns the
        result. A UcspidError that it raises is the client's answer; any other exception is answered
        as an internal error and goes to the event loop's exception handler.
        """
        self._sock = sock
        self._verbs = verbs
        self._rights = rights
        self._allowed = allowed
        self._clients: set[asyncio.Task[None]] = set()
        self._conns: set[socket.socket] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept clients."""
        self._loop = loop
        if self._sock is not None:
            self._sock.setblocking(False)
            self._resume()

    def adopt(self, conn: socket.socket) -> None:
        """Serve a client that somebody else has connected: it may look, and take its time to ask."""
        conn.setblocking(False)
        self._begin(conn, Rights.LOOK, None)

    @property
    def descriptors(self) -> set[int]:
        """The descriptors of the clients that are there."""
        return {conn.fileno() for conn in self._conns}

    def stop(self) -> None:
        """Close the socket, so that another daemon may have its place; clients that are there stay."""
        if self._sock is None or self._sock.fileno() == _CLOSED:
            return
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    async def close(self) -> None:
        """Close the socket and every client, cancelling what their verbs do."""
        self.stop()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    def _resume(self) -> None:
        assert self._sock is not None
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        assert self._sock is not None
        try:
            conn, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # The socket stays readable: without a pause the loop would spin on it.
            self._loop.remove_reader(self._sock)
            self._pause = self._loop.call_later(_ACCEPT_PAUSE, self._resume)
            return
        conn.setblocking(False)
        rights = self._rights(conn)
        if rights is Rights.NONE:
            why = f"only {self._allowed} may control this daemon, not user id {user_id(conn)}"
            _turn_away(conn, "request", why)
        elif len(self._clients) >= MAX_CLIENTS:
            _turn_away(conn, "system", f"{MAX_CLIENTS} control clients are connected already: try again")
        else:
            self._begin(conn, rights, REQUEST_TIMEOUT)

    def _begin(self, conn: socket.socket, rights: Rights, patience: float | None) -> None:
        """Serve a client, for whose requests there are so many seconds each."""
        task = self._loop.create_task(self._serve(conn, rights, patience))
        self._clients.add(task)
        self._conns.add(conn)
        task.add_done_callback(partial(self._gone, conn))

    def _gone(self, conn: socket.socket, task: asyncio.Task[None]) -> None:
        """Close a client's connection; its task may have been cancelled before it began."""
        self._clients.discard(task)
        self._conns.discard(conn)
        conn.close()

    async def _serve(self, conn: socket.socket, rights: Rights, patience: float | None) -> None:
        buffer = bytearray()
        with contextlib.suppress(OSError):  # of the client's doing; TimeoutError is one, too
            while line := await self._read_line(conn, buffer, patience):
                try:
                    request = decode_request(line)
                except PeerError as error:
                    await self._send(conn, encode_reply(Failure("request", str(error))))
                    break
                if request.verb not in self._verbs.streaming:
                    await self._send(conn, await self._answer(request, rights))
                elif not await self._stream(conn, request):
                    break

    async def _read_line(self, conn: socket.socket, buffer: bytearray, patience: float | None) -> bytes:
        """Take the next line out of the buffer, filled from conn; at the end of input, none.

        A line that is too long comes back too long or cut: decode_request() refuses both.
        """
        async with asyncio.timeout(patience):
            while (end := buffer.find(b"\n") + 1) == 0 and len(buffer) < MAX_REQUEST:
                data = await self._loop.sock_recv(conn, MAX_REQUEST)
                if not data:
                    return b""
                buffer += data
        line = bytes(buffer[: end or MAX_REQUEST])
        del buffer[: len(line)]
        return line

    async def _stream(self, conn: socket.socket, request: Request) -> bool:
        """Reply, and send what comes until the client disconnects, which it does by any word of its own.

        But if the word is an empty line, reply once more; return whether requests may follow.
        """
        try:
            stream = self._verbs.streaming[request.verb](request.args)
        except UcspidError as error:
            await self._send(conn, encode_reply(Failure(_kind(error), str(error))))
            return False
        gone = self._loop.create_task(self._loop.sock_recv(conn, 1))
        tasks: set[asyncio.Task[bytes]] = {gone}
        try:
            await self._send(conn, encode_reply(Result({})))
            while not gone.done():
                more = self._loop.create_task(stream.more())
                tasks.add(more)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if more.done():
                    tasks.discard(more)
                    await self._loop.sock_sendall(conn, more.result())
        finally:
            stream.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if gone.result() != b"\n":
            return False
        await self._send(conn, encode_reply(Result({})))
        return True

    async def _answer(self, request: Request, rights: Rights) -> bytes:
        verb = self._verbs.looking.get(request.verb) or self._verbs.changing.get(request.verb)
        if verb is None:
            return encode_reply(Failure("request", f"the daemon does not know the verb {request.verb!r:.40}"))
        if rights < Rights.CHANGE and request.verb in self._verbs.changing:
            why = f"only {self._allowed} may {request.verb}: you may look, and change nothing"
            return encode_reply(Failure("request", why))
        try:
            return encode_reply(Result(await verb(request.args)))
        except UcspidError as error:
            return encode_reply(Failure(_kind(error), str(error)))
        except Exception as error:  # noqa: BLE001 - the event loop's handler reports it
            self._loop.call_exception_handler(
                {"message": f"the control verb {request.verb} failed", "exception": error}
            )
            return encode_reply(Failure("internal", "internal error: see the daemon's log"))

    async def _send(self, conn: socket.socket, line: bytes) -> None:
        async with asyncio.timeout(REPLY_TIMEOUT):
            await self._loop.sock_sendall(conn, line)


def _turn_away(conn: socket.socket, kind: str, why: str) -> None:
    with conn, contextlib.suppress(OSError):
        conn.send(encode_reply(Failure(kind, why)))


def _kind(error: UcspidError) -> str:
    kinds = {ConfigError: "config", ResourceError: "system", PeerError: "request"}
    return next((kind for cls, kind in kinds.items() if isinstance(error, cls)), "internal")
