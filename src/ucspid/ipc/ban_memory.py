"""Whom operators have denied, in memory that outlives the event loop.

The master makes the memory and holds it; each process of the loop maps it, and checks value by value
what its predecessor has left there. An entry is valid as long as its mark is set, which is written
last and taken off first: a loop that is killed in between leaves none that is half written.
"""

import mmap
import struct
from typing import NamedTuple

from ucspid.net.address import IPV4, IPV6, network_of, pack_network
from ucspid.net.client import Deniable
from ucspid.net.inet import MAPPED
from ucspid.net.unix import MAX_NUMBER, UnixUser

MAX_BANS = 10_000
"""Bans at a time."""

MAX_SERVICE = (1 << 16) - 1
"""The highest number that a service can have."""

VERSION = 1
"""Of this layout."""

_MAGIC = int.from_bytes(b"ucsban\0" + bytes([VERSION]))
VALID = int.from_bytes(b"is valid")
"""The mark of an entry that holds."""
ENTRY = struct.Struct("=16sIId")
"""The network, as of pack_network(), the service and the end; a mark follows."""
A_USER = 255
"""In the place of a network's length: what stands before it is the number of a user."""
_CELL = 8
_STEP = ENTRY.size + _CELL
START = 4096
"""Where the entries begin."""
_USED = 1
"""The cell that says how many places have ever been used: no others are looked at."""

SIZE = 128 * START
"""Bytes of the memory. An upgrade keeps it, so that another layout must have this size, too."""


class StoredBan(NamedTuple):
    """A network whose clients are denied: by the service of a number, 0 for all, until a monotonic time."""

    network: Deniable
    service: int
    until: float


class BanMemory:
    """The memory as the event loop uses it: places, each with a ban or without."""

    def __init__(self, descriptor: int) -> None:
        """Map it; the descriptor stays the caller's. What is of another version is cleared."""
        self._memory = memoryview(mmap.mmap(descriptor, SIZE))
        self._cells = self._memory.cast("Q")
        self.cleared = self._cells[0] not in (0, _MAGIC)
        """Whether bans of another version were there."""
        if self.cleared:
            self._cells[:] = memoryview(bytes(SIZE)).cast("Q")
        self._cells[0] = _MAGIC

    def read(self, latest: float) -> tuple[dict[int, StoredBan], int]:
        """Return the bans by their places, and how many made no sense, which are cleared.

        latest is the time by which all must have ended.
        """
        found: dict[int, StoredBan] = {}
        wrong = 0
        seen: set[tuple[Deniable, int]] = set()
        for place in range(min(self._cells[_USED], MAX_BANS)):
            if self._cells[mark_at(place)] != VALID:
                continue
            ban = self._ban(place, latest)
            if ban is None or (ban.network, ban.service) in seen:
                self.clear(place)
                wrong += 1
            else:
                found[place] = ban
                seen.add((ban.network, ban.service))
        return found, wrong

    def _ban(self, place: int, latest: float) -> StoredBan | None:
        packed, length, service, until = ENTRY.unpack_from(self._memory, START + place * _STEP)
        if service > MAX_SERVICE or not 0.0 < until <= latest:
            return None
        if length == A_USER:
            uid = int.from_bytes(packed)
            return StoredBan(UnixUser(uid), service, until) if uid <= MAX_NUMBER else None
        if length > IPV6:
            return None
        if int.from_bytes(packed) & ((1 << (IPV6 - length)) - 1):
            return None
        if packed.startswith(MAPPED) and length < IPV6 - IPV4:
            return None
        return StoredBan(network_of(packed, length), service, until)

    def write(self, place: int, ban: StoredBan) -> None:
        """Put a ban in a place; places from 0 on are used."""
        self.clear(place)
        packed, length = _packed(ban.network)
        ENTRY.pack_into(self._memory, START + place * _STEP, packed, length, ban.service, ban.until)
        self._cells[_USED] = max(self._cells[_USED], place + 1)
        self._cells[mark_at(place)] = VALID

    def clear(self, place: int) -> None:
        """Leave a place empty."""
        self._cells[mark_at(place)] = 0


def _packed(network: Deniable) -> tuple[bytes, int]:
    if isinstance(network, UnixUser):
        return network.uid.to_bytes(IPV6 // 8), A_USER
    return pack_network(network)


def mark_at(place: int) -> int:
    """Return the cell of eight bytes that has the mark of a place."""
    return (START + place * _STEP + ENTRY.size) // _CELL
