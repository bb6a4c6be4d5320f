"""finger@ [HOST [USER]]: show what a host says of a user, or of all (RFC 1288)."""

from ucspid.tools.crlf import AddCr, DelCr
from ucspid.tools.fetch import argument, fetch
from ucspid.tools.visible import Visible


def main(argv: list[bytes]) -> int:
    """Show it, and return the exit code."""
    request = AddCr().feed(argument(argv, 2, b"") + b"\n")
    return fetch(argument(argv, 1, b"0"), b"79", request, DelCr(), Visible())
