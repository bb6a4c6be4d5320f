"""What a process is looking at, in memory that it shares with the master: said where it hangs for good.

The process and its children write, the master reads once, when the time is over. Only the last word
counts, so that nobody waits for anybody.
"""

import os

SIZE = 4098
"""Bytes of the memory: a length of two bytes, and a path, which has 4,096 at most."""


class Progress:
    """The end of the process that works; without a descriptor it says nothing."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self.descriptor: int | None = None

    def at(self, what: str) -> None:
        """Say what is looked at from now on: a path, a user's name."""
        if self.descriptor is not None:
            text = what.encode(errors="surrogateescape")[: SIZE - 2]
            os.pwrite(self.descriptor, len(text).to_bytes(2, "little") + text, 0)


progress = Progress()
"""This process's own."""


def read(descriptor: int) -> str:
    """Return what was said last: nothing, if nothing was, or no sense of it can be made."""
    data = os.pread(descriptor, SIZE, 0)
    length = int.from_bytes(data[:2], "little")
    return data[2 : 2 + length].decode(errors="replace")
