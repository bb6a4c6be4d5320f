"""Thousands of sessions at once, held open and then ended: nothing of them may be left."""

import contextlib
import resource
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, running
from faults import PER_LAUNCHER

SESSIONS = 2000
SERVICES = ("smtp", "pop3", "qmtp", "imap")

MAX_MEMORY = 4096
"""Bytes of the loop's memory for each session at once."""


@pytest.fixture(scope="module", autouse=True)
def _descriptors() -> Iterator[None]:
    """Have descriptors for both ends of what the tests open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SESSIONS + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def config(**settings: Any) -> dict[str, Any]:
    usual = {"listen": "127.0.0.1:0", "program": ["cat"], "max_connections": SESSIONS, "backlog": 1024}
    services = dict.fromkeys(SERVICES, usual | settings)
    return {"services": services, "limits": {"max_connections": SESSIONS + 10}}


@contextlib.contextmanager
def open_sessions(daemon: Daemon) -> Iterator[None]:
    """Connect to the services by turns, and go on when every program has answered; then close all."""
    addresses = [daemon.address(name) for name in SERVICES]
    with contextlib.ExitStack() as stack:
        socks = []
        for number in range(SESSIONS):
            address = addresses[number % len(addresses)]
            socks.append(stack.enter_context(socket.create_connection(address, TIMEOUT)))
            socks[-1].sendall(b"?")
        wait_for(socks, b"?")
        yield


def wait_for(socks: list[socket.socket], answer: bytes) -> None:
    """Wait until all have received an answer; none is the end of the connection."""
    deadline = time.monotonic() + TIMEOUT
    with selectors.DefaultSelector() as selector:
        for index, sock in enumerate(socks):
            selector.register(sock, selectors.EVENT_READ, index)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            assert ready, f"{len(selector.get_map())} sessions have not answered"
            for key, _ in ready:
                assert socks[key.data].recv(len(answer) + 1) == answer
                selector.unregister(key.fileobj)


def descriptors(daemon: Daemon) -> dict[str, dict[int, int]]:
    """Return how many descriptors the processes of each role have."""
    status = daemon.status()
    # When this is answered, the loop has closed the connection that asked for the status.
    assert daemon.talk("smtp", b"x") == b"x"
    daemon.wait_events(status["totals"]["served"] + 1, "connection_served")
    counts: dict[str, dict[int, int]] = {"master": {}, "loop": {}, "launcher": {}}
    for process in status["processes"]:
        counts[process["role"]][process["pid"]] = len([*Path(f"/proc/{process['pid']}/fd").iterdir()])
    return counts


def memory(pid: int) -> int:
    """Return the bytes that a process has for itself alone."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def test_thousands_of_sessions_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, config()) as daemon:
        # Once in small, so that what is made once for all is there.
        assert [daemon.talk(name, b"x") for name in SERVICES] == [b"x"] * len(SERVICES)
        daemon.wait_events(len(SERVICES), "connection_served")
        loop = daemon.processes("loop")[0]["pid"]
        before, small = descriptors(daemon), memory(loop)
        with open_sessions(daemon):
            large = memory(loop)
            status = daemon.status()
            assert status["totals"]["live"] == SESSIONS
            assert {item["live"] for item in status["services"]} == {SESSIONS // len(SERVICES)}
            assert daemon.talk("smtp", b"one more") == b"one more"
        served = len(SERVICES) + SESSIONS + 2
        daemon.wait_events(served, "connection_served")
        totals = daemon.status()["totals"]
        assert (totals["live"], totals["served"]) == (0, served)
        after = descriptors(daemon)
        processes = [pid for pids in after.values() for pid in pids]
        assert {*processes} == {daemon.pid, *daemon.processes_left()}
        more = len(after["launcher"]) - len(before["launcher"])
        assert after["master"] == {daemon.pid: before["master"][daemon.pid] + PER_LAUNCHER * more}
        assert after["loop"] == {loop: before["loop"][loop] + more}
        assert len({*after["launcher"].values()}) == 1
        assert before["launcher"].items() <= after["launcher"].items()
        per_session = (large - small) / SESSIONS
        assert per_session < MAX_MEMORY, f"{per_session:.0f} bytes of the loop's memory for each session"


def test_a_daemon_with_thousands_of_sessions_stops(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with running(tmp_path, config(drain_timeout=0)) as daemon:
            stack.enter_context(open_sessions(daemon))
            assert daemon.status()["totals"]["live"] == SESSIONS
        ended = daemon.wait_events(SESSIONS, "connection_served")
        assert {item["signal"] for item in ended} == {"SIGTERM"}
