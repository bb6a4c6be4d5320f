"""Becoming the master: what a process does once, before it starts the others."""

import os

from ucspid.linux import prctl
from ucspid.linux.fd_limit import raise_limit
from ucspid.master.main import SIGNALS, Master

TITLE = "ucspid: master"
_STDERR = 2


def run(config: str, ready_fd: int | None) -> int:
    """Run the daemon on a configuration file until it stops; return the exit status.

    Writes a newline to ready_fd and closes it when all listeners listen. Returns 0 after an
    orderly stop, 100 for a file that is wrong, 111 where the system refused something.
    """
    _open_standard_descriptors()
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    signalfd = prctl.open_signalfd(SIGNALS)
    prctl.set_title(TITLE)
    prctl.become_subreaper()
    return Master(os.path.abspath(config), ready_fd, signalfd, raise_limit()).run()


def _open_standard_descriptors() -> None:
    """Have 0, 1 and 2 in use, so that nothing else gets these numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
