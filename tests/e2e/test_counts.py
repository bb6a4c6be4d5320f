"""Counts end to end: whatever becomes of the loop, they go on, and every connection is in one of them."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from daemon import TIMEOUT, Daemon, assert_counts_match, exchange, running

STATUS = ["sh", "-c", 'echo on; read status; exit "$status"']
CLIENTS = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A name server that hears questions and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(TIMEOUT)
        yield sock


@pytest.fixture
def daemon(tmp_path: Path, silent: socket.socket) -> Iterator[Daemon]:
    usual = {"listen": "127.0.0.1:0", "program": STATUS}
    services = {
        "one": usual | {"max_connections": 3, "on_full": "refuse"},
        "slow": usual | {"lookup": {"remote_host": True, "timeout": "30s"}},
    }
    config = {"nameservers": [f"127.0.0.1:{silent.getsockname()[1]}"], "services": services}
    with running(tmp_path, config) as daemon:
        yield daemon


def begun(daemon: Daemon, service: str = "one") -> socket.socket:
    sock = daemon.connect(service)
    assert sock.recv(10) == b"on\n"
    return sock


def end(daemon: Daemon, sock: socket.socket, status: int) -> None:
    sock.sendall(b"%d\n" % status)
    assert sock.recv(10) == b""
    daemon.wait_event("connection_served", status=status)
    sock.close()


def kill_loop(daemon: Daemon, times: int) -> None:
    (loop,) = daemon.processes("loop")
    os.kill(loop["pid"], signal.SIGKILL)
    daemon.wait_events(times + 1, "loop_started")


class Clients:
    """Four clients that connect one after the other until they are stopped."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.answered: list[bool] = []
        """Of each connection, whether it was served to its end."""
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        while not self._stop.is_set():
            with socket.create_connection(self._address, TIMEOUT) as sock:
                try:
                    self.answered.append(exchange(sock, b"hello") == b"hello")
                except OSError:
                    self.answered.append(False)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)


def counts(daemon: Daemon, service: str) -> dict[str, Any]:
    status = daemon.status()
    assert_counts_match(status)
    (item,) = (item for item in status["services"] if item["name"] == service)
    return {name: item[name] for name in ("accepted", "served", "refused", "failed", "live")}


def on_their_way(daemon: Daemon, silent: socket.socket) -> list[socket.socket]:
    """Have a connection of each client accepted, and wait for its name; return when all are asked for."""
    socks = [daemon.connect("slow", client) for client in CLIENTS]
    asked = 0
    while asked < len(CLIENTS):
        silent.recv(1000)
        asked += 1
    return socks


def test_counts_go_on_when_the_loop_is_killed(daemon: Daemon, silent: socket.socket) -> None:
    end(daemon, begun(daemon), 5)
    sessions = [begun(daemon) for _ in range(3)]
    with daemon.connect("one") as refused:
        assert refused.recv(10) == b""
    arrivals = on_their_way(daemon, silent)
    before = {"accepted": 5, "served": 1, "refused": {"full": 1}, "failed": {}, "live": 3}
    assert counts(daemon, "one") == before
    assert counts(daemon, "slow")["live"] == 3

    for times in (1, 2, 3):
        kill_loop(daemon, times)
        assert counts(daemon, "one") == before
        assert counts(daemon, "slow") == {
            "accepted": 3, "served": 0, "refused": {}, "failed": {"loop_died": 3}, "live": 0,
        }  # fmt: skip
        assert daemon.differences() == []
    lost = daemon.wait_events(1, "connections_lost")
    assert [(event["service"], event["count"]) for event in lost] == [("slow", 3)]

    for arrival in arrivals:
        with arrival:
            assert arrival.recv(10) == b""
    for number, session in enumerate(sessions):
        end(daemon, session, 10 + number)
    assert counts(daemon, "one") == before | {"served": 4, "live": 0}


def test_a_loop_that_is_replaced_hands_its_counts_on(daemon: Daemon, silent: socket.socket) -> None:
    end(daemon, begun(daemon), 5)
    session = begun(daemon)
    arrivals = on_their_way(daemon, silent)
    daemon.reload({"nameservers": ["127.0.0.1:1"]})
    daemon.wait_events(2, "loop_started")
    assert counts(daemon, "one") == {
        "accepted": 2, "served": 1, "refused": {}, "failed": {}, "live": 1,
    }  # fmt: skip
    assert counts(daemon, "slow") == {
        "accepted": 3, "served": 0, "refused": {"closed": 3}, "failed": {}, "live": 0,
    }  # fmt: skip
    for arrival in arrivals:
        with arrival:
            assert arrival.recv(10) == b""
    end(daemon, session, 6)


def test_a_service_that_comes_back_has_the_counts_of_before(daemon: Daemon) -> None:
    end(daemon, begun(daemon), 5)
    services = daemon.config["services"]
    daemon.reload({"services": {"slow": services["slow"]}})
    kill_loop(daemon, 1)
    assert [item["name"] for item in daemon.status()["services"]] == ["slow"]
    daemon.reload({"services": services})
    end(daemon, begun(daemon), 6)
    assert counts(daemon, "one") | {"served": 2, "accepted": 2, "live": 0} == counts(daemon, "one")


def lost(daemon: Daemon) -> int:
    """Return how many connections were lost with an event loop, as the log has it."""
    return sum(event["count"] for event in daemon.events if event["event"] == "connections_lost")


@pytest.mark.usefixtures("each_launcher")
@pytest.mark.parametrize("role", ["", "launcher"])
def test_a_loop_killed_under_load_leaves_no_connection_uncounted(tmp_path: Path, role: str) -> None:
    """The loop alone, or with all launchers, which report again what they had not noted as reported."""
    kills = 5
    config = {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"], "backlog": 100}}}
    with running(tmp_path, config) as daemon:
        with Clients(daemon.address("echo")) as clients:
            for times in range(1, kills + 1):
                daemon.wait_events(times * 10, "connection_served")
                for process in daemon.processes(role):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process["pid"], signal.SIGKILL)
                kill_loop(daemon, times)
        while (found := counts(daemon, "echo"))["live"]:
            """A client sees its program's end before the loop does."""
        died = found["failed"].get("loop_died", 0)
        while lost(daemon) < died:
            """The status may be faster than the log."""
        assert lost(daemon) == died
    assert found["failed"].keys() <= {"loop_died", "EOWNERDEAD"}
    assert len(clients.answered) - kills <= found["accepted"] <= len(clients.answered)
    assert found["served"] + sum(found["failed"].values()) >= clients.answered.count(True)
