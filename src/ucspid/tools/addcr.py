"""addcr: copy descriptor 0 to 1, with a CR before every LF."""

from ucspid.tools.crlf import AddCr
from ucspid.tools.streams import filter_stream


def main(_argv: list[bytes]) -> int:
    """Copy until the end, and return the exit code."""
    return filter_stream(AddCr())
