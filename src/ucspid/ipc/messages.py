"""The messages between the processes of the daemon: one packet each, fixed layouts, little-endian.

Imported by launchers: nothing but struct may be needed here. What each side may send:

master   -> launcher: PRIVILEGES (see wire.privileges), SERVICE, ORPHAN_EXIT
launcher -> master:   READY, REFUSED, SIGNAL_ORPHAN
loop     -> launcher: START (with one descriptor), SIGNAL, LIST, LEAVE
launcher -> loop:     packets of one or more reports (STARTED, FAILED, EXITED, RUNNING, LISTED, HELLO)
master   -> loop:     JSON (see master.looplink)
loop     -> master:   notes: NOTE_READY, NOTE_TAKEN, NOTE_MORE, NOTE_BROKEN, NOTE_RELOAD,
                      NOTE_UPGRADE
"""

import struct

from ucspid.errors import WireError

VERSION = 1
"""Of this protocol: a launcher says it to the master and to the loop before anything else."""

MAX_PACKET = 128 * 1024
"""Bytes; a packet must fit the kernel's default socket buffer."""

TAG_SIZE = 64
"""Bytes of the loop's own that a launcher keeps with each session and reports with it."""

START, SIGNAL, LIST, LEAVE = 1, 2, 3, 4
STARTED, FAILED, EXITED, RUNNING, LISTED, HELLO = 16, 17, 18, 19, 20, 21
PRIVILEGES, SERVICE, ORPHAN_EXIT = 32, 33, 34
READY, REFUSED, SIGNAL_ORPHAN = 48, 49, 50

START_HEAD = struct.Struct(f"<B3xIQ{TAG_SIZE}s")
"""kind, service, connection, tag; then NAME=VALUE strings of this connection, NUL between them."""

SIGNAL_HEAD = struct.Struct("<BxHIQ")
"""kind, signal number, process, connection."""

LIST_HEAD = struct.Struct("<B7xQ")
"""kind, token: the launcher reports RUNNING for each session, then LISTED with this token."""

REPORT = struct.Struct(f"<B3xiIIQQQQ{TAG_SIZE}s")
"""kind, status, process, service, connection, user µs, system µs, peak memory KiB, tag.

status is errno in FAILED, the wait status in EXITED, the version in HELLO;
in LISTED the connection is the token and the process the launcher's own.
"""

STATUS_UNKNOWN = -1
"""Wait status of a program whose end nobody was there to see."""

PEER_HEAD = struct.Struct("<B3xI")
"""kind and one number; used where a message needs no more before its strings."""

ORPHAN_HEAD = struct.Struct("<B3xIiQQQ")
"""kind, process, wait status, user µs, system µs, peak memory KiB."""

SIGNAL_ORPHAN_HEAD = struct.Struct("<BxHI")
"""kind, signal number, process."""

NOTE_HEAD = struct.Struct("<B3xIQ")
"""kind, number, token: a plan is taken (its generation), more launchers are wanted (profile),
a launcher is broken (its number), a reload is wanted (its token), all is loaded (VERSION),
an upgrade is wanted (its token)."""
NOTE_TAKEN, NOTE_MORE, NOTE_BROKEN, NOTE_RELOAD, NOTE_READY, NOTE_UPGRADE = 64, 65, 66, 67, 68, 69


def pack_strings(items: list[bytes]) -> bytes:
    """Return byte strings as a count and, for each, its length and itself."""
    parts = [len(items).to_bytes(4, "little")]
    for item in items:
        parts += (len(item).to_bytes(4, "little"), item)
    return b"".join(parts)


class Reader:
    """Reads a packet field by field; raises WireError where it is short or has something left."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes, position: int) -> None:
        """Start reading data at position."""
        self._data = data
        self._position = position

    def strings(self) -> list[bytes]:
        """Return what pack_strings() packed."""
        return [self._take(self._length()) for _ in range(self._length())]

    def end(self) -> None:
        """Raise unless all was read."""
        if self._position != len(self._data):
            raise WireError(f"{len(self._data) - self._position} bytes too many in a packet")

    def _length(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise WireError("a packet ends too early")
        piece = self._data[self._position : end]
        self._position = end
        return piece


def unpack(layout: struct.Struct, packet: bytes, *, exact: bool = True) -> tuple:  # type: ignore[type-arg]
    """Return the fields of a packet's head; raises WireError if it is short or, when exact, long."""
    if len(packet) < layout.size or (exact and len(packet) != layout.size):
        raise WireError(f"a packet of {len(packet)} bytes where {layout.size} were due")
    return layout.unpack_from(packet)
