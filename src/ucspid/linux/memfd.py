"""Memory that the master makes for other processes, and holds so that it outlives them."""

import fcntl
import os


def sealed_memory(name: str, size: int) -> int:
    """Return the descriptor of new memory, sparse and of a size that nobody can change: memfd_create(2).

    So nobody who maps it can be killed by another who has cut it short. Raises OSError.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
