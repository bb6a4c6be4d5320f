"""fixcrio PROGRAM [ARG …]: become the program; a child copies, with a CR before every LF both ways."""

from ucspid.tools.crlf import FixCr
from ucspid.tools.relay import run_through

PIECE = 1024
"""Bytes that are read at once: with a CR for each they can still be written without blocking."""


def main(argv: list[bytes]) -> int:
    """Become the program. Raises ToolError."""
    raise run_through(b"fixcrio", argv, FixCr().feed, FixCr().feed, PIECE)
