"""Restart end to end: whatever is killed, sessions go on, are counted exactly, and their ends are logged."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, assert_counts_match, receive_all, running, wait_gone

SESSIONS = 15
STATUS = ["sh", "-c", 'echo on; read status; exit "$status"']
"""Says that it runs, and ends as it is asked to."""
CLIENTS = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


def service(**settings: Any) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:0", "program": STATUS, "max_connections": SESSIONS + 1,
        "max_per_ip": SESSIONS // len(CLIENTS), "on_full": "refuse",
    } | settings  # fmt: skip


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, {"services": {"one": service(), "two": service(umask="077")}}) as daemon:
        yield daemon


class Session:
    """A client with its program at the other end."""

    def __init__(self, daemon: Daemon, service: str, source: str) -> None:
        self.service = service
        self.sock = daemon.connect(service, source)
        assert self.sock.recv(10) == b"on\n"
        host, port = self.sock.getsockname()
        self.remote = f"{host}:{port}"

    def end(self, status: int) -> None:
        """Have the program end with a status."""
        self.sock.sendall(b"%d\n" % status)
        assert receive_all(self.sock) == b""
        self.sock.close()


@pytest.fixture
def sessions(daemon: Daemon) -> Iterator[list[Session]]:
    with contextlib.ExitStack() as stack:
        sessions = [
            Session(daemon, service, CLIENTS[number % len(CLIENTS)])
            for service in ("one", "two")
            for number in range(SESSIONS)
        ]
        for session in sessions:
            stack.enter_context(session.sock)
        yield sessions


def pids(daemon: Daemon, role: str) -> list[int]:
    return [item["pid"] for item in daemon.processes(role)]


def turned_away(daemon: Daemon, service: str, source: str) -> bool:
    """Whether a client is refused; one that is not ends at once, and is counted out when this returns."""
    with daemon.connect(service, source) as sock:
        host, port = sock.getsockname()
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"0\n")
            if receive_all(sock) == b"on\n":
                daemon.wait_event("connection_served", remote=f"{host}:{port}", status=0)
                return False
        return True


def check_counts(daemon: Daemon) -> None:
    """Assert that all sessions are counted: live, in all, and for each client."""
    status = daemon.status()
    assert_counts_match(status)
    assert {item["name"]: item["live"] for item in status["services"]} == {"one": SESSIONS, "two": SESSIONS}
    assert status["totals"]["live"] == 2 * SESSIONS
    for name in ("one", "two"):
        assert all(turned_away(daemon, name, source) for source in CLIENTS)
        assert not turned_away(daemon, name, "127.0.0.9")
        assert daemon.service(name)["refused"]["per_ip"] == len(CLIENTS)


def check_ends(daemon: Daemon, sessions: list[Session]) -> None:
    """End all sessions, each with a status of its own; each end must be in the log, once, as it was."""
    for number, session in enumerate(sessions):
        session.end(number + 1)
    expected = {(session.service, session.remote): number + 1 for number, session in enumerate(sessions)}

    def ends() -> dict[tuple[str, str], Any]:
        return {
            (event["service"], event["remote"]): event.get("status")
            for event in daemon.events
            if event["event"] == "connection_served" and (event["service"], event["remote"]) in expected
        }

    for (name, remote), status in expected.items():
        daemon.wait_event("connection_served", service=name, remote=remote, status=status)
    assert ends() == expected
    served = [event["conn"] for event in daemon.events if event["event"] == "connection_served"]
    assert len(served) == len(set(served))
    assert daemon.status()["totals"]["live"] == 0


def kill(daemon: Daemon, pid: int, times: int = 1) -> None:
    """Kill a process of the daemon, and wait until the master knows."""
    os.kill(pid, signal.SIGKILL)
    daemon.wait_events(times, "process_died", pid=pid, signal="SIGKILL")


# The loop


def test_the_loop_killed_five_times_loses_nothing(daemon: Daemon, sessions: list[Session]) -> None:
    for _ in range(5):
        (loop,) = pids(daemon, "loop")
        address = daemon.address("one")
        kill(daemon, loop)
        with socket.create_connection(address, TIMEOUT, source_address=("127.0.0.8", 0)) as meanwhile:
            host, port = meanwhile.getsockname()
            meanwhile.sendall(b"0\n")
            assert receive_all(meanwhile) == b"on\n"
            daemon.wait_event("connection_served", remote=f"{host}:{port}")
    assert [event["sessions"] for event in daemon.wait_events(6, "loop_started")] == [0, *5 * [2 * SESSIONS]]
    check_counts(daemon)
    check_ends(daemon, sessions)


def test_sessions_that_end_while_there_is_no_loop_are_logged_by_the_next(
    daemon: Daemon, sessions: list[Session]
) -> None:
    (loop,) = pids(daemon, "loop")
    os.kill(loop, signal.SIGSTOP)
    for number, session in enumerate(sessions[:10]):
        session.end(number + 100)
    kill(daemon, loop)
    for number, session in enumerate(sessions[:10]):
        daemon.wait_event("connection_served", remote=session.remote, status=number + 100)
    status = daemon.status()
    assert_counts_match(status)
    assert status["totals"] | {"refused": {}} == status["totals"] | {
        "live": 2 * SESSIONS - 10, "served": 10, "accepted": 2 * SESSIONS, "failed": {},
    }  # fmt: skip
    for number, session in enumerate(sessions[10:]):
        session.end(number)


# Launchers


def test_sessions_of_a_removed_service_end_as_it_said_also_under_another_loop(tmp_path: Path) -> None:
    stubborn = ["sh", "-c", "trap '' TERM; exec cat"]
    gone = service(program=stubborn, max_lifetime="2s", kill_timeout="100ms")
    config: dict[str, Any] = {"services": {"one": service(), "gone": gone}}
    with running(tmp_path, config) as daemon, daemon.connect("gone") as client:
        assert exchange_one(client) == b"x"
        del config["services"]["gone"]
        daemon.reload(config)
        (loop,) = pids(daemon, "loop")
        kill(daemon, loop)
        live = {item["name"]: item["live"] for item in daemon.status()["services"]}
        assert live == {"one": 0, "gone": 1}
        assert client.recv(1) == b""
        assert daemon.wait_event("connection_served", service="gone")["signal"] == "SIGKILL"
        assert daemon.wait_event("lifetime_exceeded", service="gone")["limit"] == 2.0


def exchange_one(client: socket.socket) -> bytes:
    client.sendall(b"x")
    return client.recv(1)


@pytest.mark.usefixtures("each_launcher")
def test_a_launcher_killed_five_times_loses_nothing(daemon: Daemon, sessions: list[Session]) -> None:
    for _ in range(5):
        launcher = next(item["pid"] for item in daemon.processes("launcher") if "one" in item["services"])
        kill(daemon, launcher)
        assert not turned_away(daemon, "one", "127.0.0.8")
    check_counts(daemon)
    check_ends(daemon, sessions)


@pytest.mark.usefixtures("each_launcher")
def test_orphans_that_end_while_there_is_no_launcher_have_their_status(
    daemon: Daemon, sessions: list[Session]
) -> None:
    for launcher in pids(daemon, "launcher"):
        os.kill(launcher, signal.SIGSTOP)
    for number, session in enumerate(sessions[:4]):
        session.end(number + 100)
    for launcher in pids(daemon, "launcher"):
        kill(daemon, launcher)
    for number, session in enumerate(sessions[:4]):
        daemon.wait_event("connection_served", remote=session.remote, status=number + 100)
    for number, session in enumerate(sessions[4:]):
        session.end(number)


@pytest.mark.usefixtures("each_launcher")
def test_all_launchers_killed_at_once_keep_their_own_sessions(
    daemon: Daemon, sessions: list[Session]
) -> None:
    launchers = pids(daemon, "launcher")
    os.kill(daemon.pid, signal.SIGSTOP)
    for launcher in launchers:
        os.kill(launcher, signal.SIGKILL)
    os.kill(daemon.pid, signal.SIGCONT)
    for launcher in launchers:
        daemon.wait_event("process_died", pid=launcher)
    assert not turned_away(daemon, "one", "127.0.0.8")
    assert not turned_away(daemon, "two", "127.0.0.8")
    check_counts(daemon)
    check_ends(daemon, sessions)


@pytest.mark.usefixtures("each_launcher")
def test_a_successor_killed_in_its_turn_leaves_the_orphans_to_the_next(
    daemon: Daemon, sessions: list[Session]
) -> None:
    first = pids(daemon, "launcher")
    for launcher in first:
        kill(daemon, launcher)
    for name in ("one", "two"):
        assert not turned_away(daemon, name, "127.0.0.8")
    while set(first) & set(pids(daemon, "launcher")):
        """Others of a profile need not be there again when one is."""
    for launcher in pids(daemon, "launcher"):
        kill(daemon, launcher)
    check_counts(daemon)
    check_ends(daemon, sessions)


@pytest.mark.usefixtures("each_launcher")
def test_orphans_can_be_ended(daemon: Daemon, sessions: list[Session]) -> None:
    for launcher in pids(daemon, "launcher"):
        kill(daemon, launcher)
    for name in ("one", "two"):
        assert not turned_away(daemon, name, "127.0.0.8")
    daemon.signal(signal.SIGTERM)
    daemon.wait_event("draining")
    daemon.signal(signal.SIGTERM)
    for session in sessions:
        assert receive_all(session.sock) == b""
        daemon.wait_event("connection_served", remote=session.remote, signal="SIGTERM")
    assert daemon.wait() == 0
    daemon.start()


# Both


@pytest.mark.usefixtures("each_launcher")
def test_loop_and_launchers_killed_at_once_lose_nothing(daemon: Daemon, sessions: list[Session]) -> None:
    for _ in range(2):
        victims = pids(daemon, "loop") + pids(daemon, "launcher")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        for pid in victims:
            wait_gone(pid)
    assert not turned_away(daemon, "one", "127.0.0.8")
    check_counts(daemon)
    check_ends(daemon, sessions)


def busy_launcher(daemon: Daemon) -> int:
    """Return the launcher that has a program: it says so some milliseconds after the program has begun."""
    busy: list[int] = []
    while not busy:
        busy = [item["pid"] for item in daemon.processes("launcher") if item["running"]]
    return busy[0]


@pytest.mark.usefixtures("each_launcher")
def test_a_launcher_that_does_not_answer_a_new_loop_is_replaced(daemon: Daemon) -> None:
    with Session(daemon, "one", "127.0.0.2").sock as sock:
        (loop,) = pids(daemon, "loop")
        stopped = busy_launcher(daemon)
        os.kill(stopped, signal.SIGSTOP)
        kill(daemon, loop)
        daemon.wait_event("launcher_stuck")
        daemon.wait_event("process_died", role="launcher", pid=stopped)
        assert not turned_away(daemon, "one", "127.0.0.8")
        assert daemon.service("one")["live"] == 1
        sock.sendall(b"7\n")
        assert receive_all(sock) == b""
    assert daemon.wait_event("connection_served", status=7)["service"] == "one"


# The master


@pytest.mark.usefixtures("each_launcher")
def test_without_a_master_sessions_finish_and_everything_exits(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"services": {"one": service(), "two": service(umask="077")}})
    daemon.start()
    try:
        port = daemon.address("one")[1]
        one, two = Session(daemon, "one", "127.0.0.2"), Session(daemon, "two", "127.0.0.2")
        children = daemon.processes_left()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        daemon.wait_event("master_lost")
        daemon.wait_event("not_listening", service="two")
        listen = f"127.0.0.1:{port}"
        with running(tmp_path, {"services": {"one": service(listen=listen)}}) as successor:
            assert not turned_away(successor, "one", "127.0.0.2")
            for number, session in enumerate((one, two)):
                session.end(number + 5)
                daemon.wait_event("connection_served", remote=session.remote, status=number + 5)
            for pid in children:
                wait_gone(pid)
    finally:
        daemon.kill()


@pytest.mark.usefixtures("each_launcher")
def test_without_a_master_and_without_sessions_everything_exits_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"services": {"one": service()}})
    daemon.start()
    children = daemon.processes_left()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    for pid in children:
        wait_gone(pid)
    daemon.wait_event("drained")
