"""Pages of memory that a fork has to itself, and having them copied before they are written to.

Imported by launchers of preloaded programs.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MADV_POPULATE_WRITE = 23
_ITEM = 8
_EXCLUSIVE = 1 << 63 | 1 << 56
"""In an item of /proc/PID/pagemap: the page is there, and no other process has it."""


def areas() -> list[range]:
    """Return the pages of this process that a fork copies when it writes to them, but for its stack.

    A page is named by its number: its address divided by its size. Raises OSError where there is no /proc.
    """
    found = []
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            place, rights, *_ = line.split()
            if rights == b"rw-p" and not line.endswith(b"[stack]\n"):
                start, _, end = place.partition(b"-")
                found.append(range(int(start, 16) // _PAGE, int(end, 16) // _PAGE))
    return found


def open_map(process: str) -> int:
    """Open what says where the pages of a process are, of "self" too.

    Raises OSError if it has ended, or if its memory is none of this process's business.
    """
    return os.open(f"/proc/{process}/pagemap", os.O_RDONLY | os.O_CLOEXEC)


def exclusive(descriptor: int, where: Iterable[range]) -> set[int]:
    """Return the pages that no other process has, from an open_map(). Raises OSError.

    A fork and its parent have a page each when one of the two has written to it.
    """
    found: set[int] = set()
    for area in where:
        items = memoryview(os.pread(descriptor, _ITEM * len(area), _ITEM * area.start)).cast("Q")
        found.update(page for page, item in zip(area, items) if item & _EXCLUSIVE == _EXCLUSIVE)
    return found


def runs(pages: Iterable[int]) -> list[range]:
    """Return pages as runs of neighbours."""
    found: list[range] = []
    for page in sorted(pages):
        if found and found[-1].stop == page:
            found[-1] = range(found[-1].start, page + 1)
        else:
            found.append(range(page, page + 1))
    return found


def have_copied(where: Iterable[range]) -> None:
    """Have these pages be this process's own, as if they had been written to. Kernels before 5.14 do nothing.

    Pages that are not there any more, or are no longer to be written to, are passed over.
    """
    for area in where:
        _libc.madvise(
            ctypes.c_void_p(area.start * _PAGE), ctypes.c_size_t(len(area) * _PAGE), _MADV_POPULATE_WRITE
        )
