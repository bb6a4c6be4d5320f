"""The sessions of a launcher, in memory that outlives it.

The launcher writes; when it dies, the one that takes its place finds here what runs. The
memory is a memfd made by the master, sparse: a page costs nothing until a session needs it.
"""

import mmap
import os
import struct
from collections.abc import Iterator

from ucspid.codec import U32, U64, Bytes64, Packed

CAPACITY = 1 << 16
"""Sessions that one launcher can have at a time."""


class SessionSlot(Packed):
    """A session: its connection, 0 if the slot is free, and its process, 0 while that is being started."""

    connection: U64
    process: U32
    service: U32
    tag: Bytes64


_PID = struct.Struct("<I")
_PID_OFFSET = 8
_EMPTY = bytes(SessionSlot.SIZE)

SIZE = CAPACITY * SessionSlot.SIZE
"""Bytes of the memory."""


class Table:
    """Slots, each with a connection, its process (0 while it is being started), service and tag."""

    __slots__ = ("_free", "_memory", "_used")

    def __init__(self, descriptor: int) -> None:
        """Map the memory and find what a predecessor has noted in it."""
        self._memory = mmap.mmap(descriptor, SIZE)
        left = [slot for slot in range(_extent(descriptor)) if self.read(slot)[0]]
        self._used = max(left, default=-1) + 1
        self._free = sorted(set(range(self._used)) - set(left), reverse=True)

    def claim(self, connection: int, service: int, tag: bytes) -> int:
        """Write a session that is about to start and return its slot.

        Raises OverflowError when all are taken.
        """
        if self._free:
            slot = self._free.pop()
        elif self._used < CAPACITY:
            slot = self._used
            self._used += 1
        else:
            raise OverflowError(f"{CAPACITY} sessions in one launcher")
        start = slot * SessionSlot.SIZE
        self._memory[start : start + SessionSlot.SIZE] = SessionSlot.head(connection, 0, service, tag)
        return slot

    def started(self, slot: int, process: int) -> None:
        """Write which process the session is."""
        _PID.pack_into(self._memory, slot * SessionSlot.SIZE + _PID_OFFSET, process)

    def release(self, slot: int) -> None:
        """Clear the slot for another session."""
        start = slot * SessionSlot.SIZE
        self._memory[start : start + SessionSlot.SIZE] = _EMPTY
        self._free.append(slot)

    def read(self, slot: int) -> tuple[int, int, int, bytes]:
        """Return connection, process, service and tag of a slot."""
        start = slot * SessionSlot.SIZE
        ((connection, process, service, tag),) = SessionSlot.rows(
            self._memory[start : start + SessionSlot.SIZE]
        )
        return connection, process, service, tag

    def close(self) -> None:
        """Unmap the memory, which stays as it is."""
        self._memory.close()

    def taken(self) -> Iterator[int]:
        """Yield the slots that hold a session."""
        for slot in range(self._used):
            if self.read(slot)[0]:
                yield slot


def processes(descriptor: int) -> set[int]:
    """Return the processes of all sessions in a table: for the master, after a launcher's death."""
    content = os.pread(descriptor, _extent(descriptor) * SessionSlot.SIZE, 0)
    return {process for connection, process, _service, _tag in SessionSlot.rows(content) if connection}


def _extent(descriptor: int) -> int:
    """Return how many slots lie in memory that was ever written: what follows is a hole in the file."""
    end = min(os.lseek(descriptor, 0, os.SEEK_HOLE), SIZE)
    return end // SessionSlot.SIZE
