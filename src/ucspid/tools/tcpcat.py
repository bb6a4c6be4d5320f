"""tcpcat [HOST [PORT]]: show what a host says on a TCP port."""

from ucspid.tools.connecting import ConnectSettings, UnreachableError, connect
from ucspid.tools.fetch import argument, cat_error, write
from ucspid.tools.streams import PIECE


def main(argv: list[bytes]) -> int:
    """Show it, and return the exit code. Raises ToolError."""
    try:
        sock = connect(ConnectSettings(), argument(argv, 1, b"0"), argument(argv, 2, b"17"))
    except UnreachableError as error:
        return error.code
    try:
        while data := sock.recv(PIECE):
            write(data)
    except OSError as error:
        raise cat_error(b"-", error) from None
    return 0
