"""What programs write to their descriptor 2, turned into log events, line by line and within bounds.

All programs of a service share one pipe; the master holds both ends, so it outlives any one
process. A line is a program's word for itself and hence no more than a field of an event.

The kernel does not say who has written into a pipe. It is known where only one session can have.
"""

import asyncio
import os
import select
from collections.abc import Callable, Mapping
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from ucspid.observe import events
from ucspid.plan import STDERR_RATE, Rate
from ucspid.policy.rate import TokenBucket

MAX_LINE = 1000
"""Bytes; a longer line is logged in pieces."""

QUIET = 0.5
"""Seconds after which a line that was begun and not ended is logged as it is."""

MAX_BYTES = 1 << 20
"""Bytes of a service that are read in each second, logged or not, unless its rate of lines takes more.

Programs that write more than that wait, as for a slow log. Those that write a few lines more than are
logged go on as fast as ever; those that write without end would cost the loop, and with it all
services, the reading of it.
"""

PERIOD = 1.0
"""Seconds after which the count of bytes read restarts, and dropped lines are reported."""

MAX_WAIT = 1.0
"""Seconds for which programs wait for a log that has no room; then their lines are dropped."""

_AGAIN = 0.01  # seconds until it is seen whether the log has room again
_READ = 2048
"""Bytes to be logged that are read at a time: as lines they may be hundreds, and others wait meanwhile."""
_SKIP = 16384
"""Bytes to be dropped that are read at a time."""


class Writers(Protocol):
    """The sessions whose programs write into a pipe."""

    @property
    def by_number(self) -> Mapping[int, object]:
        """Those that live, by their connections' numbers."""

    @property
    def ended(self) -> int:
        """How many have ended, ever."""

    @property
    def last_ended(self) -> int:
        """The number of the connection of the one that has ended last."""


class Lines:
    """Cuts a stream into lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rest = b""

    @property
    def begun(self) -> bool:
        """Whether a line was begun and not ended."""
        return bool(self._rest)

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


def _has_more(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class StderrLog:
    """Reads the pipe of one service."""

    __slots__ = (
        "_again", "_begun_by", "_bucket", "_dropped", "_ended", "_ended_before", "_full_since", "_has_room",
        "_lines", "_log", "_loop", "_max_bytes", "_rate", "_read_at", "_taken", "_timer", "_writers",
        "descriptor", "service",
    )  # fmt: skip

    def __init__(
        self,
        log: FilteringBoundLogger,
        service: str,
        descriptor: int,
        has_room: Callable[[], bool],
        ended: Callable[["StderrLog"], None],
    ) -> None:
        """Own the descriptor, the reading end. has_room() says whether the log takes lines of programs.

        ended() is called when nobody can write any more, and the descriptor is closed.
        """
        self.descriptor = descriptor
        self.service = service
        self._log = log
        self._has_room = has_room
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._writers: Writers | None = None
        self._ended_before: int | None = None
        """How many sessions had ended when the pipe was empty last; None if that is not known."""
        self._lines = Lines()
        self._begun_by: int | None = None
        self._dropped = 0
        self._taken = 0
        self._full_since: float | None = None
        self._read_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._set_rate(STDERR_RATE)
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def follow(self, rate: Rate, writers: Writers | None) -> None:
        """Log so many lines from now on; these sessions write them, if all of them are known."""
        if rate != self._rate:
            self._set_rate(rate)
        if writers is not self._writers:
            self._writers = writers
            self._ended_before = None if writers is None or _has_more(self.descriptor) else writers.ended

    def _set_rate(self, rate: Rate) -> None:
        self._rate = rate
        self._bucket: TokenBucket | None = None  # made for the first line: most programs write none
        self._max_bytes = max(MAX_BYTES, round(rate.count / rate.seconds * MAX_LINE))

    def _lines_left(self) -> TokenBucket:
        bucket = self._bucket = self._bucket or TokenBucket(self._rate)
        return bucket

    def _read(self) -> None:
        now = self._loop.time()
        if self._waits_for_room(now):
            return
        dropping = self._full_since is not None or self._lines_left().wait(now) > 0.0
        size = _SKIP if dropping else _READ
        try:
            data = os.read(self.descriptor, size)
        except BlockingIOError:
            return
        writer = self._only_writer()
        if len(data) < size and self._writers is not None:
            self._ended_before = self._writers.ended
        self._taken += len(data)
        if not data or self._taken >= self._max_bytes:
            self._loop.remove_reader(self.descriptor)
        self._read_at = now
        if self._log.is_enabled_for(events.INFO):
            self._take(data, writer, now, dropping=dropping)
        if data:
            self._count_seconds()
        else:
            self._end()

    def _end(self) -> None:
        """Close the pipe: the service is gone, and with it the last program that could write."""
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        self._report_dropped()
        os.close(self.descriptor)
        self._ended(self)

    def _waits_for_room(self, now: float) -> bool:
        """Stop to read for a moment if the log has no room; not for longer than MAX_WAIT."""
        if self._has_room():
            self._full_since = None
            return False
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since >= MAX_WAIT:
            return False
        self._loop.remove_reader(self.descriptor)
        self._again = self._loop.call_later(_AGAIN, self._loop.add_reader, self.descriptor, self._read)
        return True

    def _only_writer(self) -> int | None:
        """Return the connection that has written all that was read, if no other can have.

        Those can have that live, and those that have ended since the pipe was empty.
        """
        writers = self._writers
        if writers is None or self._ended_before is None:
            return None
        ended = writers.ended - self._ended_before
        if len(writers.by_number) + ended != 1:
            return None
        return writers.last_ended if ended else next(iter(writers.by_number))

    def _take(self, data: bytes, writer: int | None, now: float, *, dropping: bool) -> None:
        """Log the lines that data completes, or count them; the first may have been begun by another."""
        first = writer if not self._lines.begun or self._begun_by == writer else None
        self._begun_by = writer if b"\n" in data else first
        if data and dropping:
            self._dropped += self._lines.skip(data)
            return
        for line in self._lines.feed(data) if data else self._lines.flush():
            self._log_line(line, first, now)
            first = writer

    def _count_seconds(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(PERIOD, self._next_second)

    def _log_line(self, line: bytes, writer: int | None, now: float) -> None:
        if self._lines_left().take(now):
            text = line.decode(errors="backslashreplace")
            events.program_stderr(self._log, self.service, writer, text)
        else:
            self._dropped += 1

    def _next_second(self) -> None:
        """Restart the count; log a line that has not been completed since."""
        self._timer = None
        now = self._loop.time()
        if self._taken >= self._max_bytes:
            self._loop.add_reader(self.descriptor, self._read)
        self._taken = 0
        if now - self._read_at < QUIET:
            self._count_seconds()
        else:
            for line in self._lines.flush():
                self._log_line(line, self._begun_by, now)
        self._report_dropped()

    def _report_dropped(self) -> None:
        if self._dropped:
            events.program_stderr_dropped(self._log, self.service, self._dropped)
            self._dropped = 0
