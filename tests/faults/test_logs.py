"""A log that cannot be written: the daemon goes on, counts what is lost, and stops in its time.

A closed standard error, a full device, a reader that is gone or idle for a while: test_daemon.py.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, running
from faults import limited
from ucspid.loop import LOG_TIMEOUT
from ucspid.observe.log import CAPACITY
from ucspid.sessions.stderr_log import MAX_LINE, MAX_LINES

TALKERS = 8
"""Services that log as much in a second as is allowed: together more than the buffer holds."""

LINE = "x" * (MAX_LINE - 10)
TALKER = {"listen": "127.0.0.1:0", "program": ["sh", "-c", f"yes {LINE} | head -n {MAX_LINES} >&2"]}
ECHO = {"listen": "127.0.0.1:0", "program": ["cat"]}
CONFIG: dict[str, Any] = {"services": {"echo": ECHO} | {f"t{number}": TALKER for number in range(TALKERS)}}

assert TALKERS * MAX_LINES * len(LINE) > CAPACITY


def logging_to(path: Path) -> tuple[str, ...]:
    """Return a command that starts the daemon with its log in a file or a FIFO, not waiting for a reader."""
    return ("sh", "-c", 'log=$1; shift; exec "$@" 2<>"$log"', "sh", str(path), sys.executable, "-m", "ucspid")


def fill(daemon: Daemon) -> None:
    """Have more logged than the buffer holds; serve meanwhile."""
    for number in range(TALKERS):
        daemon.talk(f"t{number}")
    assert daemon.talk("echo", b"x") == b"x"
    assert daemon.service("echo")["state"] == "listening"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    os.mkfifo(path)
    return path


def test_what_a_blocked_log_could_not_take_is_counted_and_told_when_it_can(
    tmp_path: Path, fifo: Path
) -> None:
    with fifo.open("r+b", buffering=0) as pipe, running(tmp_path, CONFIG, command=logging_to(fifo)) as daemon:
        fill(daemon)
        lines: list[bytes] = []
        rest = b""
        while not any(b'"log_dropped"' in line for line in lines):
            *more, rest = (rest + pipe.read(1 << 16)).split(b"\n")
            lines += more
        events = [json.loads(line) for line in lines]
        dropped = next(item for item in events if item["event"] == "log_dropped")
        written = sum(item["event"] == "program_stderr" for item in events)
        assert 0 < dropped["count"] <= TALKERS * MAX_LINES + 20
        assert written + dropped["count"] >= TALKERS * MAX_LINES
        assert sum(map(len, lines)) <= CAPACITY + (1 << 17)


def test_a_daemon_whose_log_is_blocked_stops_in_its_time(tmp_path: Path, fifo: Path) -> None:
    daemon = Daemon(tmp_path, CONFIG)
    with fifo.open("r+b", buffering=0):
        try:
            daemon.start(command=logging_to(fifo))
            fill(daemon)
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            assert time.monotonic() - began < LOG_TIMEOUT + 2.0
        finally:
            daemon.kill()


def test_a_log_whose_disk_was_full_goes_on_and_tells_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    with running(tmp_path, {"services": {"echo": ECHO}}, command=logging_to(path)) as daemon:
        assert daemon.talk("echo", b"x") == b"x"
        loop = daemon.processes("loop")[0]["pid"]
        with limited(loop, "fsize", 1):
            for _ in range(30):
                assert daemon.talk("echo", b"x") == b"x"
            assert daemon.service("echo")["accepted"] == 31
        deadline = time.monotonic() + TIMEOUT
        while b'"log_dropped"' not in path.read_bytes():
            assert time.monotonic() < deadline
            assert daemon.talk("echo", b"x") == b"x"
        events = [json.loads(line) for line in path.read_bytes().splitlines() if line]
        dropped = sum(item["count"] for item in events if item["event"] == "log_dropped")
        assert 0 < dropped <= 40
