"""A disk that hangs: a FUSE file system whose server never answers, as a dead NFS server does not."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


@contextlib.contextmanager
def hung_disk(folder: Path) -> Iterator[None]:
    """Have everything below a folder hang; whoever waits gets an error at the end."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("only root can mount a FUSE file system")
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other"
    if _libc.mount(b"hung", os.fsencode(folder), b"fuse", 0, options.encode()) != 0:
        os.close(server)
        pytest.skip(f"FUSE cannot be mounted: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(server)
        _libc.umount2(os.fsencode(folder), _MNT_DETACH)
