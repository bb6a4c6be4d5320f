"""A directory that every user can enter, as the event loop's must when tests run as root.

pytest's own are closed to others, and each run of pytest closes the one above them anew.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_MEMORY = "/dev/shm"
"""Where nobody waits for a disk: tcprules has each of its files written to it before it goes on."""


@contextmanager
def reachable(parent: str | None = None) -> Iterator[Path]:
    """Make a directory, in the usual one or another, and remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="ucspid-test-", dir=parent) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
