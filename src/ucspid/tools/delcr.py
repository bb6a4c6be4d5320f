"""delcr: copy descriptor 0 to 1, without the CR before an LF."""

from ucspid.tools.crlf import DelCr
from ucspid.tools.streams import filter_stream


def main(_argv: list[bytes]) -> int:
    """Copy until the end, and return the exit code."""
    return filter_stream(DelCr())
