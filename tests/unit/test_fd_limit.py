import resource
import subprocess
import sys

import pytest

from ucspid.linux.fd_limit import raise_limit

SOFT = 100


def limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


LENT = """
import os, resource, socket, sys
from ucspid.linux.fd_limit import Lending

def now():
    return [os.fstat(number).st_ino for number in range(3)], resource.getrlimit(resource.RLIMIT_NOFILE)

null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0)
report = os.fdopen(os.dup(1), "w")
os.dup2(null, 1)
before, hard = now(), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
client, log = socket.socket(), os.memfd_create("log")
lending = Lending(SOFT)
lending.lend(client.fileno(), log if LOG else None)
inodes, limits = now()
socket_inode = os.fstat(client.fileno()).st_ino
assert inodes == [socket_inode, socket_inode, os.fstat(log).st_ino if LOG else before[0][2]]
assert limits == (SOFT, hard)
assert all(os.get_inheritable(number) for number in range(3))
lending.take_back()
assert now() == before
report.write("right")
"""
"""In a process of its own: pytest needs its descriptors."""


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("soft", [SOFT, limits()[0]])
def test_a_program_is_lent_the_client_a_log_and_a_limit_for_its_start_only(soft: int, log: bool) -> None:
    script = LENT.replace("SOFT", str(soft)).replace("LOG", str(log))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"right", b"")


def test_the_hard_limit_is_taken_and_the_soft_one_of_before_told() -> None:
    before = _, hard = limits()
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard))
    try:
        assert raise_limit() == SOFT
        assert limits() == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
