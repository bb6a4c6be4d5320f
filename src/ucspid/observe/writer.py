"""A bounded buffer of lines, and the thread that writes it out."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import Protocol

GATHER = 0.005
"""Seconds that a line waits for others: waking the thread for each costs more than making the line."""

_CHUNK = 1 << 16
_NEWLINE = 0x0A


class Output(Protocol):
    """Where lines go."""

    def write(self, lines: list[bytes]) -> int:
        """Write lines, or up to the first error; return how many bytes of theirs went out. May wait."""


class ByteOutput:
    """A descriptor, to which lines go one after the other."""

    def __init__(self, fd: int) -> None:
        """Write to a descriptor, which stays the caller's."""
        self._fd = fd
        self._torn = False  # the last byte written was not the end of a line
        self._writable = select.poll()

    def write(self, lines: list[bytes]) -> int:
        """Write all lines, or up to the first error; return how many bytes of theirs went out."""
        prefix = b"\n" if self._torn else b""
        view = memoryview(prefix + b"".join(lines))
        done = 0
        try:
            while done < len(view):
                done += self._write_some(view[done:])
        except OSError:
            pass  # this cannot be logged; the writer counts what is lost
        if done:
            self._torn = view[done - 1] != _NEWLINE
        return max(0, done - len(prefix))

    def _write_some(self, view: memoryview) -> int:
        while True:
            try:
                return os.write(self._fd, view)
            except BlockingIOError:
                self._writable.register(self._fd, select.POLLOUT)
                self._writable.poll()


class Writer:
    """A bounded buffer of lines and the thread that writes it out.

    The thread sleeps while the buffer is empty, and outlives every error of the output.
    """

    def __init__(self, output: Output, capacity: int, report: Callable[[int], bytes]) -> None:
        """Start the thread; report(count) makes the line that reports count dropped events."""
        self._output = output
        self._capacity = capacity
        self._report = report
        self._lines: deque[tuple[bytes, int]] = deque()  # a line, and how many events are lost with it
        self._size = 0  # bytes in _lines and in the chunk being written
        self._dropped = 0  # events not yet reported
        self.dropped = 0
        """Events that were dropped so far."""
        self._full = False  # since a drop, until half of the buffer is free: one report for a burst
        self._closing = False
        self._lock = threading.Lock()  # guards all of the above
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def has_room(self) -> bool:
        """Return whether half of the buffer is free, and nothing is being dropped."""
        return not self._full and self._size <= self._capacity // 2

    def put(self, line: bytes) -> None:
        """Buffer the line, or drop it and count it; from any thread, never waiting for the output."""
        with self._lock:
            if self._full or self._size + len(line) > self._capacity:
                self._dropped += 1
                self.dropped += 1
                self._full = self._size > self._capacity // 2
                return
            if not self._lines or self._size < _CHUNK <= self._size + len(line):
                self._changed.notify()
            self._lines.append((line, 1))
            self._size += len(line)

    def close(self, timeout: float) -> bool:
        """End the thread when all is written, or leave it behind after timeout seconds."""
        with self._lock:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while chunk := self._take():
            written = self._output.write([line for line, _ in chunk])
            self._settle(chunk, written)

    def _take(self) -> list[tuple[bytes, int]]:
        """Wait for lines and return some; none means closed and drained."""
        chunk: list[tuple[bytes, int]] = []
        size = 0
        with self._lock:
            self._changed.wait_for(lambda: self._lines or self._closing)
            self._changed.wait_for(lambda: self._size >= _CHUNK or self._closing, GATHER)
            while self._lines and size < _CHUNK:
                chunk.append(self._lines.popleft())
                size += len(chunk[-1][0])
        return chunk

    def _settle(self, chunk: list[tuple[bytes, int]], written: int) -> None:
        """Free the chunk's room, count what was lost of it, and report drops once writing works."""
        ends = list(accumulate(len(line) for line, _ in chunk))
        lost = sum(events for (_, events), end in zip(chunk, ends, strict=True) if end > written)
        with self._lock:
            self._size -= ends[-1]
            self._dropped += lost
            self.dropped += lost
            self._full = self._full and self._size > self._capacity // 2
            if self._dropped and not lost and not self._full:
                line = self._report(self._dropped)
                self._lines.append((line, self._dropped))
                self._size += len(line)
                self._dropped = 0
