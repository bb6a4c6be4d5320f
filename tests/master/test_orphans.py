"""Which of the master's children were a dead launcher's programs, and how they are signalled."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from process_succession import subreaper
from ucspid.linux import process_group
from ucspid.master.children import Children

LAUNCHER = """\
import os, signal
os.setsid()
for lead in (True, False):
    program = os.fork()
    if not program:
        if lead:
            os.setpgid(0, 0)
        if not os.fork():
            os.write(1, b"%d descendant\\n" % os.getpid())
        else:
            os.write(1, b"%d program\\n" % os.getpid())
        signal.pause()
os.write(1, b"%d launcher\\n" % os.getpid())
signal.pause()
"""
"""One of its programs leads a group, the other has come no further than fork(2). Each has a descendant."""


@pytest.fixture
def children() -> Iterator[Children]:
    with subreaper():
        children = Children()
        yield children
        children.close()


def test_a_program_that_leads_no_group_yet_is_an_orphan_too(children: Children) -> None:
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        said = [launcher.stdout.readline().split() for _ in range(5)]
        programs = {int(pid) for pid, what in said if what == b"program"}
        launcher.kill()
        launcher.wait()
        found = children.orphans(launcher.pid, set(), set(), set())
        assert programs <= found
        for pid, what in said:
            if what != b"launcher":
                os.kill(int(pid), signal.SIGKILL)
        for program in programs:
            assert os.waitpid(program, 0)[1] == signal.SIGKILL
        assert launcher.stdout.read() == b""


def test_a_child_that_comes_to_lead_a_group_while_it_is_signalled_gets_the_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(os, "getpgid", lambda pid: pid)  # it did not a moment before
        process_group.send_signal(process.pid, signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
