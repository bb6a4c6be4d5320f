"""What became of connections, counted in memory that outlives the event loop.

The master makes the memory and holds it; each process of the loop maps it and counts on where its
predecessor stopped, wherever that was killed: each count is one store of eight bytes. It is
sparse: a page costs nothing until a service that has its row there has had a connection.
docs/internals.md says what holds at which moment.
"""

import errno
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

REFUSALS = (
    "full", "per_ip", "rate_per_ip", "rate", "denied", "no_rules", "closed", "internal_error",
)  # fmt: skip
"""The reasons of limits.Refusal and of the entrance."""

DESCRIPTORS, LOOP_DIED, OTHER = "descriptors", "loop_died", "other"
"""Reasons of failures that are no errno: no descriptors left; the loop died; an errno beyond the last."""

# EHWPOISON is Linux's last. Not every Python names it, and the layout must not depend on that.
_LAST_ERRNO = 133
_ERRNOS = tuple(errno.errorcode.get(number, str(number)) for number in range(1, _LAST_ERRNO + 1))
_FAILURES = (DESCRIPTORS, LOOP_DIED, OTHER, *_ERRNOS)

ACCEPTED, SERVED = 0, 1
REFUSED = {reason: 2 + place for place, reason in enumerate(REFUSALS)}
FAILED = {reason: 2 + len(REFUSALS) + place for place, reason in enumerate(_FAILURES)}
"""Columns of a row."""

_FIRST_ERRNO = FAILED[_ERRNOS[0]]
_ROW = struct.Struct(f"={2 + len(REFUSALS) + len(_FAILURES)}Q")
_CELL = 8

ROWS = 1 << 16
"""Numbers that services can have, from 0; the master gives none beyond. A configuration file has fewer."""

ENDS = 4096
"""Sessions that were counted out last are remembered, each until one whose id is the same modulo this."""

_HEAD = ENDS * _CELL
SIZE = _HEAD + ROWS * _ROW.size
"""Bytes of the memory, nearly all of which are never touched."""

_MOST = 1 << 48
"""No loop counts so far, and the sum of a row fits a cell. One that was taken over may have left anything."""


def failed_column(reason: int) -> int:
    """Return the column of an errno."""
    return _FIRST_ERRNO + reason - 1 if 0 < reason <= _LAST_ERRNO else FAILED[OTHER]


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one service; refused and failed by reason."""

    accepted: int
    served: int
    refused: Counter[str]
    failed: Counter[str]

    @property
    def open(self) -> int:
        """How many were accepted and are in no other count: as many as live, if the books are right."""
        return self.accepted - self.served - self.refused.total() - self.failed.total()


class Counters:
    """The memory as the event loop uses it."""

    def __init__(self, descriptor: int) -> None:
        """Own the descriptor."""
        self._descriptor = descriptor
        self._cells = memoryview(mmap.mmap(descriptor, SIZE)).cast("Q")
        for number in self.used():
            row = self.row(number)
            if max(row) > _MOST:
                row[:] = memoryview(bytes(_ROW.size)).cast("Q")

    def row(self, number: int) -> memoryview:
        """Return the counts of a service, to be added to: row[ACCEPTED] += 1. Raises IndexError."""
        if not 0 <= number < ROWS:
            raise IndexError(f"service {number}")
        start = (_HEAD + number * _ROW.size) // _CELL
        return self._cells[start : start + _ROW.size // _CELL]

    def read(self, number: int) -> Counts:
        """Return the counts of a service; what was never touched is not touched by this."""
        cells = _ROW.unpack(os.pread(self._descriptor, _ROW.size, _HEAD + number * _ROW.size))
        return Counts(cells[ACCEPTED], cells[SERVED], _named(cells, REFUSED), _named(cells, FAILED))

    def used(self) -> Iterator[int]:
        """Yield the numbers of the services that have counts, in order: no others cost anything."""
        number, place = 0, _HEAD
        while (data := self._data(place)) is not None:
            start, place = data
            number = max(number, (start - _HEAD) // _ROW.size)
            while number < ROWS and _HEAD + number * _ROW.size < place:
                if any(os.pread(self._descriptor, _ROW.size, _HEAD + number * _ROW.size)):
                    yield number
                number += 1

    def _data(self, place: int) -> tuple[int, int] | None:
        """Return where memory that was touched begins and ends, from a place on: lseek(2), SEEK_DATA."""
        try:
            start = os.lseek(self._descriptor, place, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:
                return None
            raise
        return start, os.lseek(self._descriptor, start, os.SEEK_HOLE)

    def count_out(self, row: memoryview, column: int, connection: int) -> None:
        """Count a session out as served or failed.

        First it is noted which, so that none is ever counted out twice: a loop that dies in
        between leaves it to be found as lost.
        """
        self._cells[connection % ENDS] = connection
        row[column] += 1

    def counted_out(self, connection: int) -> bool:
        """Say whether a session was counted out a moment ago, by this loop or one before it."""
        return self._cells[connection % ENDS] == connection

    def settle(self, number: int, live: int) -> int:
        """Make the books of a service agree with the connections that live; return by how many they did not.

        What was accepted and is in no count has been lost with a predecessor, and counts as
        failed. Negative: so many live that nobody has counted; they count as accepted.
        """
        lost = self.read(number).open - live
        if lost:
            self.row(number)[FAILED[LOOP_DIED] if lost > 0 else ACCEPTED] += abs(lost)
        return lost


def _named(cells: tuple[int, ...], columns: dict[str, int]) -> Counter[str]:
    return Counter({reason: cells[column] for reason, column in columns.items() if cells[column]})
