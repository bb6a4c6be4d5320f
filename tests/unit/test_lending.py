"""What is lent, seen from a process of its own: pytest needs its descriptors and limits."""

import resource
import subprocess
import sys

import pytest

SOFT = 100
NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
CPU_HARD = resource.getrlimit(resource.RLIMIT_CPU)[1]

LENT = """
import os, resource, socket, sys
from ucspid.linux.lending import Lending

LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)

def now():
    return [os.fstat(number).st_ino for number in range(3)], [resource.getrlimit(item) for item in LIMITS]

nofile, cpu, with_log = eval(sys.argv[1])
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0)
report = os.fdopen(os.dup(1), "w")
os.dup2(null, 1)
hard = [resource.getrlimit(item)[1] for item in LIMITS]
resource.setrlimit(resource.RLIMIT_CPU, (1000, hard[1]))
client, log = socket.socket(), os.memfd_create("log")
lending = Lending({"nofile": nofile} if cpu is None else {"nofile": nofile, "cpu": None if cpu < 0 else cpu})
before = now()
assert before[1][1] == (hard[1], hard[1])  # the launcher's own use does not count
lending.lend(client.fileno(), log if with_log else None)
inodes, limits = now()
socket_inode = os.fstat(client.fileno()).st_ino
assert inodes == [socket_inode, socket_inode, os.fstat(log).st_ino if with_log else before[0][2]]
assert limits == [(nofile, hard[0]), (1000 if cpu is None else cpu, hard[1])]
assert all(os.get_inheritable(number) for number in range(3))
lending.take_back()
assert now() == before
report.write("right")
"""

RAISED = """
import os, resource, signal, time
from ucspid.linux.lending import Lending

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXCPU})
report = os.fdopen(os.dup(1), "w")
while time.process_time() < 1.05:
    pass
lending = Lending({"cpu": 1})
lending.lend(0, None)
while (limits := resource.getrlimit(resource.RLIMIT_CPU))[0] == 1:
    pass  # the kernel's clock ticks
reading, writing = os.pipe()
program = os.fork()
if program == 0:
    os.read(reading, 1)
    os._exit(resource.getrlimit(resource.RLIMIT_CPU)[0])
lending.started(program)
os.write(writing, b"x")
lending.take_back()
assert resource.getrlimit(resource.RLIMIT_CPU) == (limits[1], limits[1])
report.write(str(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])))
"""


def run(script: str, *arguments: str) -> bytes:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, check=False)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("cpu", [None, 7, CPU_HARD])
@pytest.mark.parametrize("nofile", [SOFT, NOFILE])
def test_a_program_is_lent_the_client_a_log_and_limits_for_its_start_only(
    nofile: int, cpu: int | None, log: bool
) -> None:
    assert run(LENT, repr((nofile, cpu, log))) == b"right"


@pytest.mark.slow
def test_a_limit_of_cpu_time_that_the_kernel_raises_at_a_start_is_set_on_the_program() -> None:
    assert run(RAISED) == b"1"
