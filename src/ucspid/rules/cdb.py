"""Constant databases: reading and writing the file format of D. J. Bernstein's cdb.

A header of 256 pairs (position, slots) of hash tables, the records (key length, data length,
key, data), the tables, each slot (hash, position of the record); all numbers are 32 bits,
little endian. Specification: https://cr.yp.to/cdb/cdb.txt.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ucspid.errors import ConfigError

TABLES = 256
HEADER_SIZE = 8 * TABLES
MAX_BYTES = 2**32 - 1
"""The longest file, in bytes: positions have 32 bits."""

_PAIR = struct.Struct("<II")


class CdbError(ConfigError):
    """A file is not a valid cdb: what is wrong, and at which byte offset."""

    def __init__(self, path: str, offset: int, why: str) -> None:
        """Keep the place and the reason."""
        super().__init__([f"{path}: byte {offset}: {why}"])
        self.path = path
        self.offset = offset
        self.why = why


class CdbRecord(NamedTuple):
    """One record and the byte offset at which it begins."""

    offset: int
    key: bytes
    data: bytes


class Cdb:
    """A cdb held in memory.

    Not a mapped file: one that is cut short while it is mapped kills its reader with SIGBUS.
    """

    def __init__(self, content: bytes, path: str) -> None:
        """Take the content of the file; path is for errors only. Raises CdbError."""
        self._content = content
        self._path = path
        if len(content) < HEADER_SIZE:
            raise CdbError(path, len(content), f"the file ends inside the header of {HEADER_SIZE} bytes")
        self._tables = list(_PAIR.iter_unpack(content[:HEADER_SIZE]))
        for number, (position, slots) in enumerate(self._tables):
            if slots and not HEADER_SIZE <= position <= len(content) - 8 * slots:
                raise CdbError(path, 8 * number, f"hash table {number} is not inside the file")

    def records(self) -> Iterator[CdbRecord]:
        """Yield all records in the order in which they were added. Raises CdbError."""
        offset = HEADER_SIZE
        end = min((position for position, slots in self._tables if slots), default=HEADER_SIZE)
        while offset < end:
            record = self._record(offset, end)
            yield record
            offset += _PAIR.size + len(record.key) + len(record.data)

    def _record(self, offset: int, end: int) -> CdbRecord:
        start = offset + _PAIR.size
        if not HEADER_SIZE <= offset <= end - _PAIR.size:
            raise CdbError(self._path, offset, "no record fits here")
        key_length, data_length = _PAIR.unpack_from(self._content, offset)
        middle = start + key_length
        if middle + data_length > end:
            raise CdbError(self._path, offset, f"the record is longer than the {end - start} bytes left")
        return CdbRecord(offset, self._content[start:middle], self._content[middle : middle + data_length])


def hash_of(key: bytes) -> int:
    """Return the hash by which a key is stored."""
    value = 5381
    for byte in key:
        value = (value * 33 & 0xFFFFFFFF) ^ byte
    return value


def make(records: Iterable[tuple[bytes, bytes]], path: str) -> bytes:
    """Return the cdb of records (key, data), byte for byte as cdb_make writes it.

    Keys may repeat: the first is the one that is found. path is for the error only: CdbError if
    the file would be longer than MAX_BYTES.
    """
    body = bytearray()
    entries: list[list[tuple[int, int]]] = [[] for _ in range(TABLES)]
    for key, data in records:
        hashed = hash_of(key)
        entries[hashed % TABLES].append((hashed, HEADER_SIZE + len(body)))
        size = HEADER_SIZE + len(body) + _PAIR.size + len(key) + len(data)
        _check_size(size, path)
        body += _PAIR.pack(len(key), len(data)) + key + data
    header = bytearray()
    for table in entries:
        header += _PAIR.pack(HEADER_SIZE + len(body), 2 * len(table))
        _check_size(HEADER_SIZE + len(body) + 16 * len(table), path)
        body += _hash_table(table)
    return bytes(header + body)


def _check_size(size: int, path: str) -> None:
    if size > MAX_BYTES:
        raise CdbError(path, MAX_BYTES, f"a cdb can have no more than {MAX_BYTES} bytes")


def _hash_table(entries: list[tuple[int, int]]) -> bytes:
    """Return a table with twice as many slots as entries, collisions in the next free slot."""
    slots = [(0, 0)] * (2 * len(entries))
    for hashed, position in entries:
        slot = hashed // TABLES % len(slots)
        while slots[slot] != (0, 0):
            slot = (slot + 1) % len(slots)
        slots[slot] = (hashed, position)
    return b"".join(_PAIR.pack(*slot) for slot in slots)
