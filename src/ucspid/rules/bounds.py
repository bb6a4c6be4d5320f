"""How large rules may be, and reading a file of them within these bounds."""

import os
import stat
from collections.abc import Iterable

from ucspid.errors import ConfigError

MAX_FILE_BYTES = 64 << 20
"""Bytes of a file of rules; the event loop holds what it says in memory."""
MAX_VARIABLE_BYTES = 64 << 10
"""Bytes that the variables of one rule may take: they go to a launcher in one message."""


def read(path: str) -> bytes:
    """Return what is in a file. Raises OSError, and ConfigError for what is no regular file or too large."""
    return load(path)[1]


def load(path: str) -> tuple[os.stat_result, bytes]:
    """Return what fstat(2) says of a file, and then what is in it. Raises as read() does."""
    # Without O_NONBLOCK, open(2) of a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ConfigError([f"{path}: not a regular file"])
    with os.fdopen(descriptor, "rb") as stream:
        too_long = status.st_size > MAX_FILE_BYTES
        data = b"" if too_long else stream.read(MAX_FILE_BYTES + 1)
    if too_long or len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: larger than {MAX_FILE_BYTES} bytes"])
    return status, data


def too_large(env: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return why the variables of a rule are too much; None if they are not."""
    size = sum(len(name) + len(value) + 2 for name, value in env)
    if size <= MAX_VARIABLE_BYTES:
        return None
    return f"the variables of the rule take {size} bytes, at most {MAX_VARIABLE_BYTES} are allowed"
