"""Tests cannot end their own run by a pid of 0."""

import os
import signal
import subprocess

import pytest


@pytest.mark.parametrize("pid", [0, 1, -1])
@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_a_signal_to_more_than_a_process_is_refused(kill: object, pid: int) -> None:
    assert callable(kill)
    with pytest.raises(AssertionError, match=f"signal 9 to {pid}"):
        kill(pid, signal.SIGKILL)


def test_a_process_can_be_signalled() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, process_group=0) as process:
        os.kill(process.pid, 0)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
