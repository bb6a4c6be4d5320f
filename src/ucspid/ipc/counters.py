"""What became of connections, counted in memory that outlives the event loop.

The master makes the memory and holds it; each process of the loop maps it and counts on where its
predecessor stopped, wherever that was killed: each count is one store of eight bytes. It is
sparse: a page costs nothing until a service that has its row there has had a connection.

The memory names its columns, so that code of another version reads what it finds by the names,
and adds those that it lacks. docs/internals.md says what holds at which moment.
"""

import errno
import mmap
import os
import re
import struct
from collections import Counter
from collections.abc import Iterator

from ucspid.errors import ResourceError
from ucspid.records import dataclass

ACCEPTED = "accepted"

OUTCOMES = ("ok", "nonzero", "signal", "ended", "unknown")
"""How programs end: see policy/outcome.py."""

REFUSALS = (
    "full", "per_ip", "rate_per_ip", "rate", "denied", "no_rules", "closed", "timed_out", "internal_error",
    "not_proxied", "proxy_header", "health_check", "banned", "tls_failed",
)  # fmt: skip
"""The reasons of limits.Refusal and of the admission."""

DESCRIPTORS, LOOP_DIED, OTHER = "descriptors", "loop_died", "other"
"""Reasons of failures that are no errno: no descriptors left; the loop died; an errno without a column."""

SERVED = {outcome: f"served.{outcome}" for outcome in OUTCOMES}
REFUSED = {reason: f"refused.{reason}" for reason in REFUSALS}
FAILED = {reason: f"failed.{reason}" for reason in (DESCRIPTORS, LOOP_DIED, OTHER)}
"""Names of columns. An errno gets a column when it is first counted: failed_column()."""

NAMES = (ACCEPTED, *SERVED.values(), *REFUSED.values(), *FAILED.values())

MAX_COLUMNS = 128
"""Columns that the memory has room for."""

MAX_ERRNO_COLUMNS = 80
"""Columns in use from which on an errno is counted as other: the rest is for reasons of versions to come."""

ROWS = 1 << 16
"""Numbers that services can have, from 0; the master gives none beyond. A configuration file has fewer."""

ENDS = 4096
"""Sessions that were counted out last are remembered, each until one whose id is the same modulo this."""

VERSION = 1
"""Of the layout: where the head, the names, the ends and the rows are."""

_MAGIC = int.from_bytes(b"ucspid\0" + bytes([VERSION]))
_CELL = 8
_PAGE = 4096
_HEAD = struct.Struct("=QQ")
_NAME = struct.Struct("=32s")
_NAMES_AT = _PAGE
_ENDS_AT = _NAMES_AT + MAX_COLUMNS * _NAME.size
_END_CELLS = _ENDS_AT // _CELL
_ROWS_AT = _ENDS_AT + ENDS * _CELL
_ROW = struct.Struct(f"={MAX_COLUMNS}Q")
_COLUMN = re.compile(r"accepted|(?:served|refused|failed)\.\w{1,22}", re.ASCII)

SIZE = _ROWS_AT + ROWS * _ROW.size
"""Bytes of the memory, nearly all of which are never touched."""

_MAX_COUNT = 1 << 48
"""No loop counts so far, and the sum of a row fits a cell. One that was taken over may have left anything."""


def failed_column(reason: int) -> str:
    """Return the name of an errno's column."""
    return f"failed.{errno.errorcode.get(reason, OTHER)}"


def check(descriptor: int) -> None:
    """Raise ResourceError if this code could not count on in the memory; changes nothing."""
    if os.fstat(descriptor).st_size != SIZE:
        raise ResourceError("needs a restart: the memory of the counts has another size")
    magic, count = _HEAD.unpack(os.pread(descriptor, _HEAD.size, 0))
    if magic not in (0, _MAGIC):
        raise ResourceError(
            f"needs a restart: it knows version {VERSION} of the counts, not that of the memory"
        )
    there = _names(os.pread(descriptor, _ENDS_AT - _NAMES_AT, _NAMES_AT), count) if magic else []
    if there is not None and len({*there, *NAMES}) > MAX_COLUMNS:
        raise ResourceError("needs a restart: the memory of the counts has no room for its reasons")


def _names(table: bytes | memoryview, count: int) -> list[str] | None:
    """Return the names of the columns, in order; None if no loop that was in its right mind wrote them."""
    names = [
        _NAME.unpack_from(table, place * _NAME.size)[0].rstrip(b"\0").decode("ascii", "replace")
        for place in range(min(count, MAX_COLUMNS))
    ]
    valid = len(set(names)) == len(names) == count and all(map(_COLUMN.fullmatch, names))
    return names if valid else None


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one service: ended by how the program ended, refused and failed by reason."""

    accepted: int
    ended: Counter[str]
    refused: Counter[str]
    failed: Counter[str]

    @property
    def served(self) -> int:
        """How many programs ran and have ended, however."""
        return self.ended.total()

    @property
    def open(self) -> int:
        """How many were accepted and are in no other count: as many as live, if the counts are right."""
        return self.accepted - self.served - self.refused.total() - self.failed.total()


class Row:
    """The counts of one service, to be added to."""

    __slots__ = ("_cells", "_columns", "_start")

    def __init__(self, cells: memoryview, start: int, columns: "Columns") -> None:
        """Take the cells of all rows, and where this one starts."""
        self._cells = cells
        self._start = start
        self._columns = columns

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count, in one store."""
        self._cells[self._start + self._columns[name]] += count


class Columns(dict[str, int]):
    """The places of the columns by their names, as the memory has them; a new name gets a place."""

    def __init__(self, memory: memoryview) -> None:
        """Read the names, and add those that are lacking.

        Raises ValueError if there are names, but not such as a loop would write.
        """
        super().__init__()
        self._memory = memory
        magic, count = _HEAD.unpack_from(memory)
        if magic:
            names = _names(memory[_NAMES_AT:_ENDS_AT], count) if magic == _MAGIC else None
            if names is None:
                raise ValueError("the names of the counts are not valid")
            self.update((name, place) for place, name in enumerate(names))
        for name in NAMES:
            if name not in self:
                self._append(name)
        _HEAD.pack_into(memory, 0, _MAGIC, len(self))

    def __missing__(self, name: str) -> int:
        """Give an errno a column, or that of the others if there is little room."""
        if len(self) >= MAX_ERRNO_COLUMNS:
            return self[FAILED[OTHER]]
        self._append(name)
        _HEAD.pack_into(self._memory, 0, _MAGIC, len(self))
        return self[name]

    def _append(self, name: str) -> None:
        """Write a name behind the others; it is there when the head says that there is one more."""
        place = len(self)
        if place == MAX_COLUMNS:
            raise ValueError("there is no room for the names of the counts")
        _NAME.pack_into(self._memory, _NAMES_AT + place * _NAME.size, name.encode())
        self[name] = place


class Counters:
    """The memory as the event loop uses it."""

    def __init__(self, descriptor: int) -> None:
        """Own the descriptor. What no loop can have counted is cleared: all, if the names make no sense."""
        self._descriptor = descriptor
        self._memory = memoryview(mmap.mmap(descriptor, SIZE))
        self._cells = self._memory.cast("Q")
        self.cleared = False
        """Whether the counts begin anew, as what was there made no sense."""
        try:
            self._columns = Columns(self._memory)
        except ValueError:
            self._clear()
            self._columns = Columns(self._memory)
        for number in self.used():
            cells = self._row(number)
            if max(cells) > _MAX_COUNT:
                cells[:] = memoryview(bytes(_ROW.size)).cast("Q")

    def row(self, number: int) -> Row:
        """Return the counts of a service, to be added to. Raises IndexError."""
        return Row(self._cells, self._start(number), self._columns)

    def _start(self, number: int) -> int:
        if not 0 <= number < ROWS:
            raise IndexError(f"service {number}")
        return (_ROWS_AT + number * _ROW.size) // _CELL

    def _row(self, number: int) -> memoryview:
        start = self._start(number)
        return self._cells[start : start + MAX_COLUMNS]

    def _clear(self) -> None:
        self.cleared = True
        for number in self.used():
            self._row(number)[:] = memoryview(bytes(_ROW.size)).cast("Q")
        self._memory[:_ENDS_AT] = bytes(_ENDS_AT)

    def read(self, number: int) -> Counts:
        """Return the counts of a service; what was never touched is not touched by this."""
        cells = _ROW.unpack(os.pread(self._descriptor, _ROW.size, _ROWS_AT + number * _ROW.size))
        by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in ("served", "refused", "failed")}
        for name, place in self._columns.items():
            kind, _, reason = name.partition(".")
            if cells[place] and reason:
                by_kind[kind][reason] = cells[place]
        accepted = cells[self._columns[ACCEPTED]]
        return Counts(accepted, by_kind["served"], by_kind["refused"], by_kind["failed"])

    def used(self) -> Iterator[int]:
        """Yield the numbers of the services that have counts, in order: no others cost anything."""
        number, place = 0, _ROWS_AT
        while (data := self._data(place)) is not None:
            start, place = data
            number = max(number, (start - _ROWS_AT) // _ROW.size)
            while number < ROWS and _ROWS_AT + number * _ROW.size < place:
                if any(os.pread(self._descriptor, _ROW.size, _ROWS_AT + number * _ROW.size)):
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

    def count_out(self, row: Row, column: str, connection: int) -> None:
        """Count a session out as served or failed.

        First it is noted which, so that none is ever counted out twice: a loop that dies in
        between leaves it to be found as lost.
        """
        self._cells[_END_CELLS + connection % ENDS] = connection
        row.add(column)

    def counted_out(self, connection: int) -> bool:
        """Say whether a session was counted out a moment ago, by this loop or one before it."""
        return self._cells[_END_CELLS + connection % ENDS] == connection

    def settle(self, number: int, live: int) -> int:
        """Make the counts of a service match the connections that live; return the difference there was.

        What was accepted and is in no count has been lost with a predecessor, and counts as
        failed. Negative: so many live that nobody has counted; they count as accepted.
        """
        lost = self.read(number).open - live
        if lost:
            self.row(number).add(FAILED[LOOP_DIED] if lost > 0 else ACCEPTED, abs(lost))
        return lost
