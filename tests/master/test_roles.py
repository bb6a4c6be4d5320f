"""How the master starts the other processes of the daemon."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ucspid.errors import EXIT_USAGE
from ucspid.ipc.channel import pair
from ucspid.master import roles
from ucspid.policy.exit_status import exit_code


def reader(output: int) -> int:
    return roles.start_reader("/does/not/exist", output, output, output, output)


def loop(_output: int) -> int:
    ours, theirs = pair()
    with ours, theirs:
        return roles.start_loop(theirs.fileno())  # it ends, as nobody is at the other end


def launcher(output: int) -> int:
    ours, theirs = pair()
    with ours, theirs:
        return roles.start_launcher("python", theirs.fileno(), theirs.fileno(), output)


@contextmanager
def null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(("start", "code"), [(reader, EXIT_USAGE), (loop, 0), (launcher, 0)])
def test_no_role_dies_of_a_signal_that_means_the_master_from_its_first_moment(
    start: Callable[[int], int], code: int
) -> None:
    with null() as descriptor:
        pid = start(descriptor)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pid, number)
        _pid, status = os.waitpid(pid, 0)
    assert exit_code(status) == code


def test_a_reader_leads_a_session_of_its_own() -> None:
    with null() as descriptor:
        pid = reader(descriptor)
        assert os.getsid(pid) == os.getpgid(pid) == pid
        os.waitpid(pid, 0)
