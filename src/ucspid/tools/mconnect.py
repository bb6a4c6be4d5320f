"""mconnect [HOST [PORT]]: talk to a server line by line, such as one of SMTP."""

from ucspid.tools import mconnect_io
from ucspid.tools.connecting import ConnectSettings, UnreachableError, connect
from ucspid.tools.fetch import argument, become_descriptors


def main(argv: list[bytes]) -> int:
    """Connect and copy, and return the exit code. Raises ToolError."""
    try:
        sock = connect(ConnectSettings(), argument(argv, 1, b"0"), argument(argv, 2, b"25"))
    except UnreachableError as error:
        return error.code
    become_descriptors(sock, mconnect_io.FROM_SERVER, mconnect_io.TO_SERVER)
    return mconnect_io.main(argv)
