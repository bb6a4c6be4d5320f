"""The daemon end to end: one connection's way through it, and a log that cannot be written."""

import fcntl
import itertools
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading
import time
from io import FileIO
from pathlib import Path

import pytest

from daemon import Daemon, exchange, running

SERVICES = {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}}
EXPECTED = {"loop_started", "listening", "started", "connection_served"}
DAEMON = [sys.executable, "-m", "ucspid"]
TIMEOUT = 60.0


def test_a_program_gets_the_connection(tmp_path: Path) -> None:
    with running(tmp_path, SERVICES) as daemon:
        assert daemon.talk("echo", b"hello") == b"hello"
        ended = daemon.wait_event("connection_served", service="echo")
        assert ended["status"] == 0
        assert ended["remote"].startswith("127.0.0.1:")
        assert daemon.service("echo")["served"] == 1


def redirected(where: str) -> list[str]:
    """Return a command that starts the daemon with its standard error somewhere else."""
    return ["sh", "-c", f'exec "$@" 2>{where}', "sh", *DAEMON]


def serve_some(daemon: Daemon, sessions: int) -> None:
    for _ in range(sessions):
        assert daemon.talk("echo", b"hello") == b"hello"


@pytest.mark.parametrize("where", ["&-", "/dev/full"])
def test_the_daemon_works_where_its_log_cannot_be_written(tmp_path: Path, where: str) -> None:
    with running(tmp_path, SERVICES, command=redirected(where)) as daemon:
        serve_some(daemon, 5)
        assert daemon.reload({"log": {"level": "debug"}}) != []
        serve_some(daemon, 5)


def fill_up(pipe: FileIO, size: int) -> None:
    """Wait until so much is in a pipe: the kernel has no event for that."""
    waiter, end = threading.Event(), time.monotonic() + TIMEOUT
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0] <= size:
        assert time.monotonic() < end, "the log is not written"
        waiter.wait(0.01)


def test_the_daemon_works_while_nobody_reads_its_log(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    with fifo.open("r+b", buffering=0) as pipe:
        size = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        with running(tmp_path, SERVICES, command=redirected(str(fifo))) as daemon:
            serve_some(daemon, 40)
            assert daemon.service("echo")["accepted"] == 40
            fill_up(pipe, size - 2048)  # there is room for the few lines that are written at once
            log = b""
            while log.count(b'"connection_served"') < 40:
                log += pipe.read(size)
        assert {json.loads(line)["event"] for line in log.splitlines()} <= EXPECTED


def test_the_daemon_works_when_whoever_read_its_log_is_gone(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    pipe = fifo.open("r+b", buffering=0)
    with running(tmp_path, SERVICES, command=redirected(str(fifo))) as daemon:
        pipe.close()
        serve_some(daemon, 5)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_the_log_on_a_terminal_has_colours_unless_no_color_says_no(tmp_path: Path, no_color: str) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen, os.fdopen(slave, "wb", buffering=0):
        env = os.environ | {"NO_COLOR": no_color}
        with running(tmp_path, SERVICES, command=redirected(os.ttyname(slave)), env=env):
            shown = b""
            while b" started" not in re.sub(rb"\x1b\[\d+m", b"", shown):
                shown += screen.read(4096)
    assert (b"\x1b[" in shown) == (not no_color)


def test_signals_that_mean_nothing_to_a_process_end_none_of_the_daemon(tmp_path: Path) -> None:
    """As pkill(1) sends them: to all processes whose name is like the daemon's."""
    with running(tmp_path, SERVICES) as daemon, daemon.connect("echo") as session:
        session.sendall(b"before")
        assert session.recv(6) == b"before"
        before = {role: [item["pid"] for item in daemon.processes(role)] for role in ("loop", "launcher")}
        os.kill(daemon.pid, signal.SIGUSR1)
        for pid in itertools.chain(*before.values()):
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                os.kill(pid, number)
        assert daemon.talk("echo", b"new") == b"new"
        assert {role: [item["pid"] for item in daemon.processes(role)] for role in before} == before
        assert exchange(session, b"after") == b"after"
        assert not [event for event in daemon.events if event["event"] in ("process_died", "reloaded")]
