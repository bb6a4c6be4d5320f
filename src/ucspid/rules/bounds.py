"""How large rules may be, and reading a file of them within that: nobody knows what it has become."""

import os
import stat
from collections.abc import Iterable

from ucspid.errors import ConfigError

MAX_FILE = 64 << 20
"""Bytes of a file of rules; the event loop holds what it says in memory."""
MAX_VARIABLES = 64 << 10
"""Bytes that the variables of one rule may take: they go to a launcher in one message."""


def read(path: str) -> bytes:
    """Return what is in a file. Raises OSError, and ConfigError for what is no regular file or too large."""
    # Without O_NONBLOCK a FIFO would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError([f"{path}: not a regular file"])
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigError([f"{path}: larger than {MAX_FILE} bytes"])
    return data


def too_large(env: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return why the variables of a rule are too much; None if they are not."""
    size = sum(len(name) + len(value) + 2 for name, value in env)
    if size <= MAX_VARIABLES:
        return None
    return f"the variables of the rule take {size} bytes, at most {MAX_VARIABLES} are allowed"
