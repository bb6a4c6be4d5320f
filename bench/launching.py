"""Starting servers that are not ours: where their programs are, and on which port they listen."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import IO

from bench.server import CannotStartError, Workload

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find(program: str) -> str:
    """Return the path of a program that is installed."""
    path = shutil.which(program, path=_PATH)
    assert path is not None
    return path


def lacking(program: str, package: str) -> str | None:
    """Return why a program is not there, or None if it is there."""
    if shutil.which(program, path=_PATH) is not None:
        return None
    return f"{program} is not installed (Debian package: {package})"


def launch(
    command: Sequence[str], workload: Workload, log: IO[bytes] | int, *, says_port: bool
) -> subprocess.Popen[bytes]:
    """Start a server with an environment of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if says_port else log,
        stderr=log,
        env={"PATH": _PATH, **workload.env},
    )


def port_said(process: subprocess.Popen[bytes]) -> int:
    """Return the port that a server writes when it listens. Raises CannotStartError."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CannotStartError(f"{process.args!r} ended: exit {process.wait()}")
    return int(line)


def log_file(workload: Workload, name: str) -> IO[bytes]:
    """Return a file for the log of a server."""
    return (workload.files / f"{name}.log").open("ab")
