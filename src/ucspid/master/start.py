"""Becoming the master: what a process does once, before it starts the others."""

import os
import signal

from ucspid.linux import prctl
from ucspid.linux.fd_limit import raise_limit
from ucspid.master.main import SIGNALS, Master
from ucspid.master.parts import Given

TITLE = "ucspid: master"
_STDERR = 2


def run(config: str, ready_fd: int | None) -> int:
    """Run the daemon on a configuration file until it stops; return the exit status.

    Writes a newline to ready_fd and closes it when all listeners listen. Returns 0 after an
    orderly stop, 100 for a file that is wrong, 111 where the system refused something.
    """
    return _become_master(os.path.abspath(config), None, ready_fd, SIGNALS)


def run_given(given: Given, ready_fd: int | None) -> int:
    """Run the daemon as run() does, but on a plan that is not in a file.

    Signals that have nothing to do with it have their default effect.
    """
    return _become_master(given.name, given, ready_fd, {signal.SIGCHLD, signal.SIGTERM})


def _become_master(config: str, given: Given | None, ready_fd: int | None, signals: set[int]) -> int:
    open_standard_descriptors()
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    signalfd = prctl.open_signalfd(signals)
    prctl.set_title(TITLE if given is None else f"ucspid: {given.name}")
    prctl.become_subreaper()
    return Master(config, ready_fd, signalfd, raise_limit(), given=given).run()


def open_standard_descriptors() -> None:
    """Have 0, 1 and 2 in use, so that nothing else gets these numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
