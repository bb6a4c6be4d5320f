"""A log that cannot be written: the daemon goes on, counts what is lost, and stops in its time.

A closed standard error, a full device, a reader that is gone or idle for a while: test_daemon.py.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from daemon import TIMEOUT, Daemon, running
from faults import limited
from folders import public_folder
from ucspid.loop import LOG_TIMEOUT
from ucspid.observe.log import CAPACITY
from ucspid.plan import STDERR_RATE
from ucspid.sessions.stderr_log import MAX_LINE

TALKERS = 8
"""Services whose programs write as many lines as are logged: together more than the buffer holds."""

LINE = "x" * (MAX_LINE - 10)
TALKER = {"listen": "127.0.0.1:0", "program": ["sh", "-c", f"yes {LINE} | head -n {STDERR_RATE.burst} >&2"]}
ECHO = {"listen": "127.0.0.1:0", "program": ["cat"]}
CONFIG: dict[str, Any] = {"services": {"echo": ECHO} | {f"t{number}": TALKER for number in range(TALKERS)}}

PATH = 3500
"""Bytes at the least of the path of a program: as much is the event that it could not be started."""

assert TALKERS * STDERR_RATE.burst * len(LINE) > CAPACITY


def logging_to(path: Path) -> tuple[str, ...]:
    """Return a command that starts the daemon with its log in a file or a FIFO, not waiting for a reader."""
    return ("sh", "-c", 'log=$1; shift; exec "$@" 2<>"$log"', "sh", str(path), sys.executable, "-m", "ucspid")


def talk(daemon: Daemon) -> None:
    """Have programs write more lines than the buffer holds; serve meanwhile."""
    for number in range(TALKERS):
        daemon.talk(f"t{number}")
    assert daemon.talk("echo", b"x") == b"x"
    assert daemon.service("echo")["state"] == "listening"


@contextmanager
def missing(folder: Path) -> Iterator[dict[str, Any]]:
    """Return a configuration with a service whose program has a long path and goes when this ends."""
    path = folder.joinpath(*["d" * 250] * (PATH // 251 + 1), "cat")
    path.parent.mkdir(parents=True)
    shutil.copy("/bin/cat", path)
    service = {"listen": "127.0.0.1:0", "program": [str(path)], "throttle": "off"}
    yield CONFIG | {"services": CONFIG["services"] | {"missing": service}}
    path.unlink()


def fill(daemon: Daemon) -> int:
    """Have more logged than the buffer holds; return how many starts failed for that."""
    talk(daemon)
    count = CAPACITY // PATH
    for _ in range(count):
        assert daemon.talk("missing") == b""
    return count


def events_until(pipe: IO[bytes], event: str) -> list[dict[str, Any]]:
    """Read the log until an event has come; return all."""
    events: list[dict[str, Any]] = []
    rest = b""
    while not any(item["event"] == event for item in events):
        *lines, rest = (rest + pipe.read(1 << 16)).split(b"\n")
        events += map(json.loads, lines)
    return events


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    os.mkfifo(path)
    return path


@pytest.mark.waits
def test_what_a_blocked_log_could_not_take_is_counted_and_reported_when_it_can(fifo: Path) -> None:
    with fifo.open("r+b", buffering=0) as pipe, public_folder() as folder:
        with missing(folder) as config:
            daemon = Daemon(folder, config).start(command=logging_to(fifo))
        try:
            count = fill(daemon)
            events = events_until(pipe, "log_dropped")
            (dropped,) = (item["count"] for item in events if item["event"] == "log_dropped")
            logged = sum(item["event"] == "connection_failed" for item in events)
            assert 0 < dropped <= count + TALKERS * STDERR_RATE.burst + 20
            assert count // 4 < logged < count
            assert sum(len(json.dumps(item)) for item in events) <= 1.1 * CAPACITY + (1 << 17)
            assert daemon.stop() == 0
        finally:
            daemon.kill()


@pytest.mark.waits
def test_lines_of_programs_that_a_blocked_log_has_no_room_for_take_none_from_other_events(
    tmp_path: Path, fifo: Path
) -> None:
    daemon = Daemon(tmp_path, CONFIG)
    with fifo.open("r+b", buffering=0) as pipe:
        try:
            daemon.start(command=logging_to(fifo))
            talk(daemon)
            daemon.signal(signal.SIGTERM)
            events = events_until(pipe, "drained")
            assert daemon.wait() == 0
        finally:
            daemon.kill()
    assert "log_dropped" not in {item["event"] for item in events}
    assert {item["service"] for item in events if item["event"] == "connection_served"} == {
        "echo", *(f"t{number}" for number in range(TALKERS))
    }  # fmt: skip
    lines = sum(item["event"] == "program_stderr" for item in events)
    dropped = sum(item["lines"] for item in events if item["event"] == "program_stderr_dropped")
    assert 0 < lines * len(LINE) < CAPACITY
    assert lines + dropped <= TALKERS * STDERR_RATE.burst


@pytest.mark.waits
def test_a_daemon_whose_log_is_blocked_stops_in_its_time(fifo: Path) -> None:
    with fifo.open("r+b", buffering=0), public_folder() as folder:
        with missing(folder) as config:
            daemon = Daemon(folder, config).start(command=logging_to(fifo))
        try:
            fill(daemon)
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            assert time.monotonic() - began < LOG_TIMEOUT + 2.0
        finally:
            daemon.kill()


def test_a_log_whose_disk_was_full_goes_on_and_reports_what_is_missing(tmp_path: Path) -> None:
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
