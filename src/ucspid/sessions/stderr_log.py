"""What programs write to their descriptor 2, turned into log events, line by line and within bounds.

All programs of a service share one pipe; the master holds both ends, so it outlives any one
process. A line is a program's word for itself and hence no more than a field of an event.
"""

import asyncio
import os

from structlog.typing import FilteringBoundLogger

from ucspid.observe import events

MAX_LINE = 1000
"""Bytes; a longer line is logged in pieces."""

MAX_LINES = 200
"""Lines of a service that are logged in each second; more are counted, and the count is logged."""

QUIET = 0.5
"""Seconds after which a line that was begun and not ended is logged as it is."""

MAX_BYTES = 1 << 20
"""Bytes of a service that are read in each second, logged or not; then its programs wait, as for a slow log.

Programs that write a few lines more than are logged go on as fast as ever. Those that write
without end would cost the loop, and with it all services, the reading of it.
"""

_READ = 16384
"""Bytes at a time: cut into lines they may be thousands, and others wait meanwhile."""


class Lines:
    """Cuts a stream into lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that data completes, without their ends; empty ones are left out."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MAX_LINE:
            lines.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        pieces = (line[start : start + MAX_LINE] for line in lines for start in range(0, len(line), MAX_LINE))
        return [piece.rstrip(b"\r") for piece in pieces if piece.strip()]

    def skip(self, data: bytes) -> int:
        """Return how many lines data completes, without making them: for what is not logged anyway."""
        count = data.count(b"\n")
        if count:
            self._rest = b""
        self._rest = (self._rest + data[data.rfind(b"\n") + 1 :])[:MAX_LINE]
        return count

    def flush(self) -> list[bytes]:
        """Return the line that was begun and not ended, if there is one."""
        return self.feed(b"\n")


class StderrLog:
    """Reads the pipe of one service."""

    def __init__(self, log: FilteringBoundLogger, service: str, descriptor: int) -> None:
        """Own the descriptor, the reading end."""
        self.descriptor = descriptor
        self._log = log
        self._service = service
        self._lines = Lines()
        self._logged = 0
        self._dropped = 0
        self._taken = 0
        self._loop = asyncio.get_running_loop()
        self._read_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.descriptor, _READ)
        except BlockingIOError:
            return
        self._taken += len(data)
        if not data or self._taken >= MAX_BYTES:
            self._loop.remove_reader(self.descriptor)
        self._read_at = self._loop.time()
        if data and self._logged >= MAX_LINES:
            self._dropped += self._lines.skip(data)
        else:
            for line in self._lines.feed(data) if data else self._lines.flush():
                self._tell(line)
        self._count_seconds()

    def _count_seconds(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._next_second)

    def _tell(self, line: bytes) -> None:
        if self._logged < MAX_LINES:
            self._logged += 1
            events.program_stderr(self._log, self._service, line.decode(errors="backslashreplace"))
        else:
            self._dropped += 1

    def _next_second(self) -> None:
        """Begin to count anew; a line that nobody goes on with is not going to end."""
        self._timer = None
        self._logged = 0
        if self._taken >= MAX_BYTES:
            self._loop.add_reader(self.descriptor, self._read)
        self._taken = 0
        if self._loop.time() - self._read_at < QUIET:
            self._count_seconds()
        else:
            for line in self._lines.flush():
                self._tell(line)
        if self._dropped:
            events.program_stderr_dropped(self._log, self._service, self._dropped)
            self._dropped = 0
