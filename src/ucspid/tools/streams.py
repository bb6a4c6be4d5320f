"""Copying from one descriptor to another through a converter, in pieces of bounded size."""

from __future__ import annotations

import os

from ucspid.tools.messages import EXIT_SYSTEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Converter(Protocol):
        """What a stream goes through."""

        def feed(self, data: bytes) -> bytes:
            """Return what a piece of the stream becomes."""

        def finish(self) -> bytes:
            """Return what is still held back at the end of the stream."""


PIECE = 8192
"""Bytes that are read at once."""


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of some bytes. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def filter_stream(converter: Converter) -> int:
    """Copy descriptor 0 to 1 through a converter, and return the exit code.

    What is held back at the end is written if that can be done: the originals do not look.
    """
    try:
        while data := os.read(0, PIECE):
            write_all(1, converter.feed(data))
    except OSError:
        return EXIT_SYSTEM
    try:
        write_all(1, converter.finish())
    except OSError:
        return 0
    return 0
