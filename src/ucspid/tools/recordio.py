"""recordio PROGRAM [ARG …]: become the program; a child copies and prints what goes in and out."""

from __future__ import annotations

import os

from ucspid.tools.relay import run_through
from ucspid.tools.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 256
"""Bytes that are read and printed at once, as in the original."""


def main(argv: list[bytes]) -> int:
    """Become the program. Raises ToolError."""
    pid = os.getpid()
    raise run_through(b"recordio", argv, _recorder(b"%d < " % pid), _recorder(b"%d > " % pid), PIECE)


def lines(start: bytes, data: bytes) -> bytes:
    """Return what is printed of a piece: a space after what ended a line, + after what did not. Pure."""
    if not data:
        return start + b"[EOF]\n"
    *whole, rest = data.split(b"\n")
    printed = [start + line + b" \n" for line in whole]
    if rest:
        printed.append(start + rest + b"+\n")
    return b"".join(printed)


def _recorder(start: bytes) -> Callable[[bytes], bytes]:
    def record(data: bytes) -> bytes:
        try:
            write_all(2, lines(start, data))
        except OSError:
            return data  # the session goes on without its record
        return data

    return record
