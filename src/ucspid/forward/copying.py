"""Copying between a client and its target, both ways, until both have ended."""

import enum
import errno
import mmap
import select
import socket
import struct
import time

CHUNK = 64 << 10
"""Bytes that are held each way."""

_RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: closing the socket resets its connection."""
_GONE = select.POLLHUP | select.POLLERR
_MAX_POLL_SECONDS = 1000
"""Of one call; poll(2) takes no more than 24 days."""


class CopyEnd(enum.Enum):
    """How copying ended; the values are for people."""

    CLOSED = "closed"
    CLIENT_RESET = "the client reset the connection"
    TARGET_RESET = "the target reset the connection"
    IDLE = "idle for too long"


class _GoneError(Exception):
    """The connection of this side broke."""

    def __init__(self, side: "_Side") -> None:
        super().__init__()
        self.side = side


class _Side:
    """A socket, and what was read from it and has not been written to the other one yet."""

    __slots__ = ("_buffer", "begin", "count", "end", "ended", "hung_up", "shut", "sock", "what")

    def __init__(self, sock: socket.socket, what: CopyEnd) -> None:
        self.sock = sock
        self.what = what
        """What has happened when its connection breaks."""
        # Of memory that is mapped, only as much is there as has been used.
        self._buffer = memoryview(mmap.mmap(-1, CHUNK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.begin = self.end = 0
        self.count = 0
        """Bytes that came from it."""
        self.ended = False
        """Whether it sends no more."""
        self.shut = False
        """Whether it gets no more: it was said to it, or it has closed its end."""
        self.hung_up = False
        """Whether it has hung up, so that poll(2) would say so again and again."""

    @property
    def waiting(self) -> bool:
        """Whether something waits to be written to the other side."""
        return self.begin < self.end

    def read(self) -> bool:
        """Take what has come; return whether something did, its end included."""
        try:
            count = self.sock.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError:
            raise _GoneError(self) from None
        self.begin, self.end = 0, count
        self.count += count
        self.ended = not count
        return True

    def write_to(self, other: "_Side") -> bool:
        """Write what waits, or drop it if the other side takes no more; return whether any of it went."""
        if other.shut:
            self.begin = self.end
            return True
        try:
            written = other.sock.send(self._buffer[self.begin : self.end], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as problem:
            if problem.errno != errno.EPIPE or other.sock.family != socket.AF_UNIX:
                raise _GoneError(other) from None
            # It has closed both directions in order, as TCP cannot: what it sent before is there to be read.
            other.shut = True
            written = self.end - self.begin
        self.begin += written
        return True

    def end_to(self, other: "_Side") -> None:
        """Pass the end on, once all else is written."""
        if not self.ended or self.waiting or other.shut:
            return
        other.shut = True
        try:
            other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            raise _GoneError(other) from None


class BothWays:
    """The two sides, and how much came from each."""

    def __init__(self, client: socket.socket, target: socket.socket, idle_timeout: float) -> None:
        """Copy between sockets that do not block; end when there is no byte for idle_timeout seconds."""
        self._client = _Side(client, CopyEnd.CLIENT_RESET)
        self._target = _Side(target, CopyEnd.TARGET_RESET)
        self._idle_timeout = idle_timeout
        self._poll = select.poll()
        self._waits_for: dict[int, int] = {}

    @property
    def received(self) -> int:
        """Bytes that came from the client."""
        return self._client.count

    @property
    def sent(self) -> int:
        """Bytes that came from the target."""
        return self._target.count

    def run(self, first: bytes = b"") -> CopyEnd:
        """Send the target what is first, and copy to the end; a reset is passed on to the other side."""
        try:
            if first:
                self._send_first(first)
            return self._run()
        except _GoneError as problem:
            other = self._target if problem.side is self._client else self._client
            other.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return problem.side.what

    def _send_first(self, data: bytes) -> None:
        """Send a few bytes, for which a new connection has room."""
        try:
            sent = self._target.sock.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            sent = 0
        if sent < len(data):
            raise _GoneError(self._target)

    def _run(self) -> CopyEnd:
        sides = {self._client.sock.fileno(): self._client, self._target.sock.fileno(): self._target}
        deadline = time.monotonic() + self._idle_timeout
        while not (self._client.shut and self._target.shut):
            self._wait_for(self._client, self._target)
            self._wait_for(self._target, self._client)
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                return CopyEnd.IDLE
            moved = False
            for descriptor, events in self._poll.poll(min(seconds, _MAX_POLL_SECONDS) * 1000 + 1):
                moved |= self._turn(sides[descriptor], events)
            if moved:
                deadline = time.monotonic() + self._idle_timeout
        return CopyEnd.CLOSED

    def _turn(self, side: _Side, events: int) -> bool:
        """Do what a side is ready for; return whether any data moved."""
        other = self._target if side is self._client else self._client
        moved = False
        if other.waiting and events & (select.POLLOUT | _GONE):
            moved = other.write_to(side)
            other.end_to(side)
        reads = not side.ended and not side.waiting
        if reads and events & (select.POLLIN | _GONE):
            moved |= side.read()
            if side.waiting:
                side.write_to(other)  # there is room, mostly
            side.end_to(other)
        elif events & _GONE:
            self._hangs_up(side)
        return moved

    def _hangs_up(self, side: _Side) -> None:
        """Take note that a side has hung up while nothing is read from it.

        It takes nothing any more. What it had sent before may still be read, unless the connection broke.
        """
        if side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise _GoneError(side)
        side.hung_up = side.shut = True

    def _wait_for(self, side: _Side, other: _Side) -> None:
        """Have poll(2) wait for what a side can be used for: for its end alone, perhaps."""
        wanted = select.POLLIN if not side.ended and not side.waiting else 0
        if other.waiting:
            wanted |= select.POLLOUT
        descriptor = side.sock.fileno()
        before = self._waits_for.get(descriptor)
        finished = (side.ended and side.shut) or (side.hung_up and not wanted)
        if finished:
            if before is not None:
                self._poll.unregister(descriptor)
                del self._waits_for[descriptor]
        elif wanted != before:
            self._poll.register(descriptor, wanted)
            self._waits_for[descriptor] = wanted
