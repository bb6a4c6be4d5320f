"""mconnect-io: copy descriptor 0 to 7 with a CR before every LF, and 6 to 1, under tcpclient."""

import _signal  # type: ignore[import-not-found]  # signal takes 3 ms to import, for its enums
import os

from ucspid.tools.crlf import AddCr
from ucspid.tools.messages import system_error
from ucspid.tools.process import ignore_sigpipe
from ucspid.tools.streams import write_all

FROM_SERVER, TO_SERVER = 6, 7
PIECE = 512
"""Bytes that are read at once."""


def main(_argv: list[bytes]) -> int:
    """Copy until the server closes, and return the exit code. Raises ToolError.

    The child copies what goes out. What cannot be written is lost, and the copying goes on.
    """
    ignore_sigpipe()
    try:
        child = os.fork()
    except OSError as error:
        raise system_error(error, b"mconnect-io: fatal: unable to fork: ") from None
    if not child:
        converter = AddCr()
        while data := _read(0):
            _write(TO_SERVER, converter.feed(data))
        os._exit(0)
    while data := _read(FROM_SERVER):
        _write(1, data)
    os.kill(child, _signal.SIGTERM)
    os.waitpid(child, 0)
    return 0


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, PIECE)
    except OSError:
        return b""


def _write(descriptor: int, data: bytes) -> None:
    try:
        write_all(descriptor, data)
    except OSError:
        return
