"""Folders for tests whose programs run as another user: pytest's own are private."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def public_folder(owner: int = NOBODY, parent: str | None = None) -> Iterator[Path]:
    """Return a folder that every user can reach; where the tests run as root, it is the owner's."""
    with tempfile.TemporaryDirectory(prefix="ucspid-test-", dir=parent) as name:
        if os.geteuid() == 0:
            os.chown(name, owner, owner)
        path = Path(name)
        path.chmod(0o755)
        yield path
