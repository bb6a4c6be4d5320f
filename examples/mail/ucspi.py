"""What a UCSPI server program needs: the client on descriptors 0 and 1, its environment, an exit status.

The three mail programs beside this file are functions over a Connection. run() gives them
the real one, with every wait for the client bounded; a test gives them one made of bytes.
"""

import contextlib
import errno
import io
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

IDLE = 60.0
"""Seconds to wait for the client, in each read and each write. RFC 5321 (4.5.3.2.7) asks for five
minutes and RFC 1939 (3) for ten: an example on the loopback interface need not be that patient."""

OK = 0
DROPPED = 1
USAGE = 100
TEMPORARY = 111
"""Exit statuses: 100 and 111 by the convention of UCSPI; 1 where the client ended in the middle."""


# What is done here is done once where this module is preloaded, and not for each connection.
_WILD = re.compile(r"[^A-Za-z0-9.:\[\]_-]")
_PRIVATE_FOLDER = Path(os.environ.get("TMPDIR") or "/tmp", f"ucspid-mail-{os.geteuid()}")  # noqa: S108 - private


class LineTooLongError(Exception):
    """The client sent a longer line than it may; all of it has been read."""


class Writer(Protocol):
    """Where bytes for the client go: write() may take a part of them, and says how many it took."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write some of the data and return how many bytes."""


class Connection:
    """The client: bounded lines and blocks from it, bytes to it.

    All methods raise OSError when the connection broke or the client made no move for
    IDLE seconds (TimeoutError), and reading raises EOFError where it ends in the middle.
    """

    def __init__(self, reader: io.BufferedIOBase, writer: Writer) -> None:
        """Take over where the client's bytes come from and where the answers go."""
        self._reader = reader
        self._writer = writer

    def line(self, limit: int) -> bytes:
        """Return a line with its line feed; LineTooLongError if that is more than limit bytes."""
        line = self.piece(limit)
        if line.endswith(b"\n"):
            return line
        while not self.piece(limit).endswith(b"\n"):
            pass
        raise LineTooLongError

    def piece(self, limit: int) -> bytes:
        """Return a line with its line feed, or limit bytes of one that is longer than that."""
        piece = self._reader.readline(limit)
        if len(piece) < limit and not piece.endswith(b"\n"):
            raise EOFError
        return piece

    def read(self, size: int) -> bytes:
        """Return exactly size bytes."""
        data = self._reader.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._writer.write(rest) :]


class Descriptor(io.RawIOBase):
    """A descriptor on which no read and no write takes longer than IDLE seconds.

    An alarm rather than a socket timeout: below a TLS wrapper the descriptors are pipes.
    """

    def __init__(self, number: int) -> None:
        """Use the descriptor; it is not closed with this object."""
        self._number = number

    def readable(self) -> bool:
        """Return True, as io.BufferedReader asks."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Wait for bytes and return how many came; 0 when the client has closed its side."""
        with _patience():
            return os.readv(self._number, [buffer])

    def write(self, data: "ReadableBuffer") -> int:
        """Write some of the data and return how many bytes."""
        with _patience():
            return os.write(self._number, data)


def run(serve: Callable[[Connection, Path], int]) -> NoReturn:
    """Run a service program: its one argument is the Maildir; exit with what serve returned.

    Without the argument the Maildir is private_folder(). A client that disconnects, stays silent or
    breaks the connection ends the program quietly.
    """
    if len(sys.argv) > 2:  # noqa: PLR2004 - the program and its argument
        log(f"usage: {sys.argv[0]} [MAILDIR]")
        sys.exit(USAGE)
    try:
        box = Path(sys.argv[1]) if sys.argv[1:] else private_folder()
    except OSError as error:
        log(f"no mailbox: {error}")
        sys.exit(TEMPORARY)
    # An interrupt typed at the daemon's terminal reaches its programs too: no traceback for that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, _give_up)
    connection = Connection(io.BufferedReader(Descriptor(0)), Descriptor(1))
    try:
        sys.exit(serve(connection, box))
    except (EOFError, OSError):
        sys.exit(DROPPED)


def private_folder() -> Path:
    """Return the folder for this user's mail in /tmp, made if it is missing.

    Raises OSError if something else has its name: everybody may write into /tmp.
    """
    path = _PRIVATE_FOLDER
    try:
        found = path.lstat()
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "not a folder of this user alone", str(path))
    return path


def log(line: str) -> None:
    """Write one line to descriptor 2, where the superserver makes a log event of it."""
    os.write(2, f"{line}\n".encode("ascii", "backslashreplace"))


def local_name() -> str:
    """Return the name of this host: what the superserver has found, or what the host calls itself."""
    return _variable("LOCALHOST") or _tame(os.uname().nodename) or "localhost"


def received(protocol: str, greeting: str = "") -> bytes:
    """Return the trace field of RFC 5321 (4.4) for mail that arrives on this connection now."""
    client = f"{_variable('REMOTEHOST') or 'unknown'} [{_variable('REMOTEIP') or 'unknown'}]"
    source = f"{_tame(greeting)} ({client})" if greeting else client
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
    return f"Received: from {source}\n\tby {local_name()} with {protocol}; {date}\n".encode("ascii")


def _variable(name: str) -> str:
    """Return ${PROTO}NAME: PROTO names the transport and begins the names of all other variables."""
    return _tame(os.environ.get(os.environ.get("PROTO", "TCP") + name, ""))


def _tame(text: str) -> str:
    """Return the text fit for a header: names come from the client or its DNS and may hold anything."""
    return _WILD.sub("?", text[:255])


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, IDLE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _give_up(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError
