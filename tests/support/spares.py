"""The fork that a launcher of a preloaded program has made ahead, in tests of launchers."""

import os
import select
import signal
import time
from collections.abc import Callable

from launchers import TIMEOUT, Peers
from ucspid.linux import procfs


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


def waiting(peers: Peers) -> set[int]:
    """Return the launcher's children that are in its own process group."""
    return {pid for pid in procfs.children(peers.pid) if procfs.group(pid) == peers.pid}


def spare(peers: Peers) -> int:
    """Return the spare, as soon as there is one."""
    until(lambda: bool(waiting(peers)))
    (pid,) = waiting(peers)
    return pid


def kill(pid: int) -> None:
    """Kill the spare, and wait until it has ended."""
    os.kill(pid, signal.SIGKILL)
    ended(pid)


def ended(pid: int) -> None:
    """Wait for the end of a process, which the launcher or the test reaps, or has reaped."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(1000 * TIMEOUT)
    os.close(descriptor)
