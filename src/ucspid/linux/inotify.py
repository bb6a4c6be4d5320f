"""inotify(7): the kernel says what has changed in directories and files, so that nobody has to look."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from typing import NamedTuple

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM, MOVED_TO = 0x40, 0x80
CREATE, DELETE = 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLY_DIRECTORY, DO_NOT_FOLLOW = 0x1000000, 0x2000000
IS_DIRECTORY = 0x40000000
_ADD_TO_MASK = 0x20000000

_HEAD = struct.Struct("=iIII")
_READ_BYTES = 64 << 10
_STATFS_BYTES = 512
"""More than struct statfs has; its first member, a long, is the type."""

_LOCAL_TYPES = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0x2FC12FC1,  # zfs
        0xF2F52010,  # f2fs
        0xCA451A4E,  # bcachefs
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0x794C7630,  # overlay
        0x73717368,  # squashfs
        0xE0F5E1E2,  # erofs
        0x9660,  # iso9660
        0x4D44,  # vfat
        0x2011BAB0,  # exfat
        0x3153464A,  # jfs
        0x52654973,  # reiserfs
        0x3434,  # nilfs
        0x24051905,  # ubifs
        0x72B6,  # jffs2
    }
)
"""File systems that only this machine changes (statfs(2)): on all others a change may come unannounced."""

_libc = ctypes.CDLL(None, use_errno=True)


class InotifyEvent(NamedTuple):
    """What has happened, by mask, to what is watched under a number; name is that of a file in a directory.

    A mask with OVERFLOW says that events were lost: there were too many.
    """

    watch: int
    mask: int
    name: bytes


class Inotify:
    """A queue of events. add() may be called in any thread."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Watch nothing; or have a queue that another process has made, by its descriptor.

        Raises OSError: users may have no more than so many queues.
        """
        if descriptor is None:
            descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor, which is readable while there are events."""
        return self._descriptor

    def add(self, path: str, mask: int) -> int:
        """Watch a file or a directory for these events too; return its number. Raises OSError.

        Waits for as long as the disk makes it wait.
        """
        result = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask | _ADD_TO_MASK)
        return _checked(result, path)

    def remove(self, watch: int) -> None:
        """Do not watch any more what has this number; OSError if nothing has, as its file is gone."""
        _checked(_libc.inotify_rm_watch(self._descriptor, watch))

    def pending(self) -> bool:
        """Return whether there are events; the kernel queues them before the call returns that makes them."""
        return bool(self._poll.poll(0))

    def read(self) -> list[InotifyEvent]:
        """Return the events that have happened, the earliest first; BlockingIOError if there are none."""
        data = os.read(self._descriptor, _READ_BYTES)
        events = []
        position = 0
        while position < len(data):
            watch, mask, _cookie, length = _HEAD.unpack_from(data, position)
            start = position + _HEAD.size
            position = start + length
            events.append(InotifyEvent(watch, mask, data[start:position].rstrip(b"\0")))
        return events

    def close(self) -> None:
        """Give the queue up."""
        os.close(self._descriptor)


def is_local(path: str) -> bool:
    """Return whether only this machine can change what is there, so that each change is an event.

    Raises OSError. Waits for as long as the disk makes it wait.
    """
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    _checked(_libc.statfs(os.fsencode(path), answer), path)
    return ctypes.c_ulong.from_buffer(answer).value & 0xFFFFFFFF in _LOCAL_TYPES


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        reason = ctypes.get_errno()
        raise OSError(reason, os.strerror(reason), path)
    return result
