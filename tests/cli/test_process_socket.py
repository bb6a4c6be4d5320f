"""The control socket of a process: found by what proc(5) says, whatever a file says."""

import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from ucspid.cli.process_socket import control_of_process
from ucspid.errors import ResourceError


def listening(stack: ExitStack, path: Path) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(os.fspath(path))
    sock.listen()
    return sock


def test_it_is_the_path_where_the_process_listens_and_the_first_one_of_two(tmp_path: Path) -> None:
    with ExitStack() as stack:
        listening(stack, tmp_path / "the old one")
        listening(stack, tmp_path / "new")
        other = stack.enter_context(socket.socket(socket.AF_UNIX))
        other.bind(os.fspath(tmp_path / "not listening"))
        assert control_of_process(os.getpid()) == tmp_path / "the old one"


def test_a_process_without_one_is_named() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        with pytest.raises(ResourceError, match=f"^process {process.pid} has no control socket"):
            control_of_process(process.pid)
        process.kill()


def test_a_process_that_is_not_there_is_named() -> None:
    with pytest.raises(ResourceError, match=r"^cannot look at the sockets of process 99999999: No such file"):
        control_of_process(99999999)
