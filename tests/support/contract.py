"""What the programs of a service are promised, and services that report what theirs got."""

import json
import re
import shutil
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daemon import Daemon, exchange
from ucspid.config.environment import DEFAULT_PATH

PROGRAMS = Path(__file__).parents[1] / "programs"
PYTHON = "python3" if shutil.which("python3", path=DEFAULT_PATH) else sys.executable
"""An interpreter that nobody can run too, if there is one."""

REPORT = [PYTHON, "-I", "-S", "-c", (PROGRAMS / "report.py").read_text()]
STATUS = ["cat", "/proc/self/status"]
"""Tells of signals what Python cannot: it changes some dispositions before it runs a script."""

STDERR = {"log": "pipe:", "inherit": "pipe:", "null": "/dev/null", "client": "socket:"}
"""Of each kind of stderr, how its file begins: the tests read the daemon's own from a pipe."""

SIGNALS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


def services(listen: str = "127.0.0.1:0", **settings: Any) -> dict[str, Any]:
    """Return services that report what their programs got."""
    reports = {kind: {"listen": listen, "program": REPORT, "stderr": kind, **settings} for kind in STDERR}
    return {**reports, "status": {"listen": listen, "program": STATUS, **settings}}


def report(sock: socket.socket) -> dict[str, Any]:
    """Return what a program that reports says on a connection."""
    reported: dict[str, Any] = json.loads(exchange(sock))
    return reported


def status(sock: socket.socket) -> dict[str, str]:
    """Return what STATUS says on a connection."""
    lines = exchange(sock).decode().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def check(daemon: Daemon, *, limits: str, environment: Iterable[bytes] = ()) -> None:
    """Assert that programs get all that they are promised, and nothing else.

    limits is what /proc/PID/limits must show, environment what there is besides the default.
    """
    for kind, file in STDERR.items():
        with daemon.connect(kind) as sock:
            expected = variables(sock) | {f"PATH={DEFAULT_PATH}".encode(), *environment}
            reported = report(sock)
        check_descriptors(reported, stderr=file)
        assert entries(reported) == expected
        assert reported["limits"] == limits
        assert (reported["cwd"], reported["group"]) == ("/", reported["pid"])
    with daemon.connect("status") as sock:
        fields = status(sock)
    assert signals(fields) == dict.fromkeys(SIGNALS, 0)
    assert fields["Umask"] == "0022"


def signals(fields: dict[str, str]) -> dict[str, int]:
    """Return which signals are pending, blocked, ignored and caught."""
    return {name: int(fields[name], 16) for name in SIGNALS}


def check_descriptors(reported: dict[str, Any], *, stderr: str) -> None:
    """Assert that descriptors 0 and 1 are one blocking socket, 2 is the right file, and there are no more."""
    descriptors = reported["descriptors"]
    assert sorted(descriptors) == ["0", "1", "2"]
    assert descriptors["0"] == descriptors["1"]
    assert descriptors["0"]["file"].startswith("socket:")
    assert descriptors["0"]["blocking"]
    assert descriptors["2"]["file"].startswith(stderr)
    assert (descriptors["2"] == descriptors["0"]) == (stderr == STDERR["client"])


def variables(sock: socket.socket) -> set[bytes]:
    """Return the UCSPI variables that a connection's program must get, from its client's view."""
    (local_ip, local_port), (remote_ip, remote_port) = sock.getpeername()[:2], sock.getsockname()[:2]
    return {
        b"PROTO=TCP",
        f"TCPLOCALIP={local_ip}".encode(),
        f"TCPLOCALPORT={local_port}".encode(),
        f"TCPREMOTEIP={remote_ip}".encode(),
        f"TCPREMOTEPORT={remote_port}".encode(),
    }


def entries(reported: dict[str, Any]) -> set[bytes]:
    """Return the environment but for the connection's number, which must be there once; no name is twice."""
    *found, last = reported["environ"].encode("latin-1").split(b"\0")
    assert last == b""
    assert len({entry.partition(b"=")[0] for entry in found}) == len(found)
    numbers = [entry for entry in found if re.fullmatch(rb"UCSPID_CONN_ID=[0-9a-f]+", entry)]
    assert len(numbers) == 1
    return set(found) - set(numbers)
