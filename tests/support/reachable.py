"""A directory that every user can enter, as the event loop's must when tests run as root.

pytest's own are closed to others, and each run of pytest closes the one above them anew.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reachable() -> Iterator[Path]:
    """Make a directory, and remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="ucspid-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
