"""date@ [HOST]: show what a host says on TCP port 13."""

from ucspid.tools.crlf import DelCr
from ucspid.tools.fetch import argument, fetch
from ucspid.tools.visible import Visible


def main(argv: list[bytes]) -> int:
    """Show it, and return the exit code."""
    return fetch(argument(argv, 1, b"0"), b"13", b"", DelCr(), Visible())
