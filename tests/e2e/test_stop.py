"""Stop end to end: drained in order, with deadlines, from any state; and starts that fail."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, running, wait_gone
from processes import children, lives
from ucspid.control.opening import GIVE_UP_AFTER

ECHO: dict[str, Any] = {"listen": "127.0.0.1:0", "program": ["cat"]}
DEAF = ["sh", "-c", "trap '' TERM; echo deaf; while read line; do :; done; read forever <&2"]
"""Ignores SIGTERM, and goes on when the client has gone."""


def config(**settings: Any) -> dict[str, Any]:
    return {"services": {"echo": ECHO | settings}}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon that the test starts and stops; what is left of it at the end is an error."""
    daemon = Daemon(tmp_path, config())
    yield daemon
    children = daemon.processes_left()
    daemon.kill()
    assert children == []


def session(daemon: Daemon) -> socket.socket:
    """Return a connection on which a program runs."""
    sock = daemon.connect("echo")
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    return sock


def gone(pids: list[int]) -> bool:
    return not any(map(lives, pids))


def refused(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) != 0


# In order


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sessions_finish_and_nobody_else_is_let_in(daemon: Daemon, number: signal.Signals) -> None:
    daemon.start()
    address = daemon.address("echo")
    with session(daemon) as sock:
        children = daemon.processes_left()
        daemon.signal(number)
        assert daemon.wait_event("draining")["live"] == 1
        daemon.wait_event("not_listening", service="echo")
        assert refused(address)
        assert daemon.status()["processes"][1]["draining"]
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait() == 0
    assert daemon.wait_event("connection_served")["status"] == 0
    daemon.wait_event("drained")
    assert gone(children)
    assert not daemon.control.exists()
    assert daemon.stderr == []


def test_with_no_sessions_it_is_gone_at_once(daemon: Daemon) -> None:
    daemon.start()
    children = daemon.processes_left()
    assert daemon.stop() == 0
    assert gone(children)
    assert not daemon.control.exists()


def test_clients_in_the_backlog_are_disconnected(daemon: Daemon) -> None:
    daemon.write(config(max_connections=1))
    daemon.start()
    with session(daemon) as sock, daemon.connect("echo") as waiting:
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("not_listening", service="echo")
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
        assert exchange(sock) == b""
    assert daemon.wait() == 0


def test_a_new_daemon_can_have_the_same_ports_and_control_socket_at_once(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.start()
    port = daemon.address("echo")[1]
    with session(daemon) as sock:
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("not_listening", service="echo")
        other = Daemon(tmp_path, config(listen=f"127.0.0.1:{port}") | {"control": str(tmp_path / "other")})
        other.control = tmp_path / "other"
        other.start()
        assert other.talk("echo", b"x") == b"x"
        assert other.stop() == 0
        other.kill()
        assert exchange(sock) == b""
    assert daemon.wait() == 0
    daemon.write(config(listen=f"127.0.0.1:{port}") | {"control": str(daemon.control)})
    daemon.events.clear()
    daemon.start()
    assert daemon.talk("echo", b"x") == b"x"
    assert daemon.stop() == 0


# With deadlines


def test_after_drain_timeout_programs_get_sigterm(daemon: Daemon) -> None:
    daemon.write(config(drain_timeout="50ms"))
    daemon.start()
    with session(daemon) as sock:
        daemon.signal(signal.SIGTERM)
        assert sock.recv(1) == b""
    assert daemon.wait() == 0
    assert daemon.wait_event("connection_served")["signal"] == "SIGTERM"


def test_after_kill_timeout_they_get_sigkill(daemon: Daemon) -> None:
    daemon.write(config(program=DEAF, drain_timeout="20ms", kill_timeout="50ms"))
    daemon.start()
    with daemon.connect("echo") as sock:
        assert sock.recv(10) == b"deaf\n"
        daemon.signal(signal.SIGTERM)
        assert sock.recv(1) == b""
    assert daemon.wait() == 0
    assert daemon.wait_event("connection_served")["signal"] == "SIGKILL"


@pytest.mark.usefixtures("each_launcher")
def test_a_second_signal_ends_sessions_at_once(daemon: Daemon) -> None:
    daemon.write(config(drain_timeout="1h", kill_timeout="1h"))
    daemon.start()
    with session(daemon) as sock:
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining")
        daemon.signal(signal.SIGINT)
        assert sock.recv(1) == b""
    assert daemon.wait() == 0
    assert daemon.wait_event("connection_served")["signal"] == "SIGTERM"


def test_sessions_of_a_removed_service_have_deadlines_too(daemon: Daemon) -> None:
    daemon.write(config(drain_timeout="50ms"))
    daemon.start()
    with session(daemon) as sock:
        daemon.reload({"services": {"other": ECHO}})
        daemon.signal(signal.SIGTERM)
        assert sock.recv(1) == b""
    assert daemon.wait() == 0


# From any state


def test_it_can_be_stopped_while_it_starts(daemon: Daemon) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        reading, writing = os.pipe()
        log = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ucspid",
                "run",
                "-c",
                str(daemon.config_path),
                "--ready-fd",
                str(writing),
            ],
            stderr=subprocess.PIPE,
            pass_fds=(writing,),
        )
        os.close(writing)
        status = Path(f"/proc/{log.pid}/status")
        while not blocks(status, number):
            assert log.poll() is None
        programs = children(log.pid)
        log.send_signal(number)
        _, said = log.communicate(timeout=TIMEOUT)
        assert (log.returncode, said) == (0, b"")
        assert os.read(reading, 1) == b""
        os.close(reading)
        for child in programs:
            wait_gone(child)
        assert not daemon.control.exists()
    daemon.start()
    assert daemon.stop() == 0


def blocks(status: Path, number: int) -> bool:
    """Whether a process takes a signal as data by now: it blocks it."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("SigBlk:"))
    return bool(int(line.split()[1], 16) & 1 << (number - 1))


@pytest.mark.parametrize(
    "change", [{"log": {"format": "console"}}, {"services": {"echo": ECHO, "new": ECHO}}]
)
def test_it_can_be_stopped_during_a_reload(daemon: Daemon, change: Mapping[str, Any]) -> None:
    daemon.config["log"] = {"format": "json"}
    daemon.write(config(drain_timeout="1h"))
    daemon.start()
    with session(daemon) as sock:
        daemon.write(change)
        daemon.signal(signal.SIGHUP)
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining")
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait() == 0
    assert not daemon.control.exists()


def test_it_can_be_stopped_as_soon_as_a_reload_has_begun_to_replace_the_loop(daemon: Daemon) -> None:
    daemon.config["log"] = {"format": "json"}
    daemon.write(config(drain_timeout="1h"))
    daemon.start()
    with session(daemon) as sock:
        daemon.reload({"user": "daemon"} if os.geteuid() == 0 else {"log": {"format": "auto"}})
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining")
        assert exchange(sock, b"still here") == b"still here"
    ended = time.monotonic()
    assert daemon.wait() == 0
    assert time.monotonic() - ended < GIVE_UP_AFTER / 2
    assert daemon.wait_event("connection_served")["status"] == 0


def test_a_loop_that_dies_while_it_drains_is_replaced_by_one_that_drains(daemon: Daemon) -> None:
    daemon.write(config(drain_timeout="1h"))
    daemon.start()
    with session(daemon) as sock:
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining")
        (loop,) = (item["pid"] for item in daemon.processes("loop"))
        os.kill(loop, signal.SIGKILL)
        assert [event["live"] for event in daemon.wait_events(2, "draining")] == [1, 1]
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait() == 0
    assert daemon.wait_event("connection_served")["status"] == 0


def test_a_loop_that_dies_while_it_drains_has_not_forgotten_the_deadline(daemon: Daemon) -> None:
    daemon.write(
        config(program=["sh", "-c", "echo on; exec sleep 1000"], drain_timeout="1h", kill_timeout="1h")
    )
    daemon.start()
    with daemon.connect("echo") as sock:
        assert sock.recv(10) == b"on\n"
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining")
        (loop,) = (item["pid"] for item in daemon.processes("loop"))
        os.kill(loop, signal.SIGSTOP)
        daemon.signal(signal.SIGTERM)
        os.kill(loop, signal.SIGKILL)
        assert sock.recv(1) == b""
    assert daemon.wait() == 0


@pytest.mark.usefixtures("each_launcher")
def test_a_launcher_that_dies_while_it_drains_leaves_its_sessions_to_another(daemon: Daemon) -> None:
    daemon.start()
    with session(daemon) as sock:
        daemon.signal(signal.SIGTERM)
        daemon.wait_event("draining")
        (launcher,) = (item["pid"] for item in daemon.processes("launcher"))
        os.kill(launcher, signal.SIGKILL)
        daemon.wait_event("process_died", role="launcher")
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait() == 0
    assert daemon.wait_event("connection_served")["status"] == 0


# Starts that fail


def start(daemon: Daemon) -> tuple[int, list[str]]:
    daemon.start(ready=False)
    return daemon.wait(), daemon.stderr


def test_a_broken_file_is_exit_100_with_all_that_is_wrong(daemon: Daemon) -> None:
    daemon.config_path.write_text(
        "services:\n  echo:\n    listen: [127.0.0.1:0]\n    progam: [cat]\nlimit: 7\n"
    )
    status, said = start(daemon)
    assert status == 100
    assert [line.split(": ")[1] for line in said] == [
        f"{daemon.config_path}:{place}" for place in ("2:3", "4:5", "5:1")
    ]
    assert "services.echo.progam" in said[1]


def test_a_missing_file_is_exit_100(daemon: Daemon) -> None:
    daemon.config_path.unlink()
    status, said = start(daemon)
    assert status == 100
    assert len(said) == 1
    assert str(daemon.config_path) in said[0]


def test_a_port_that_is_taken_is_exit_111_and_nothing_stays(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon.write({"services": {"first": ECHO, "second": ECHO | {"listen": address}}})
        status, said = start(daemon)
    assert (status, said) == (111, [f"ucspid: second: cannot listen on {address}: Address already in use"])
    assert not daemon.control.exists()


def test_a_second_daemon_on_the_control_socket_is_exit_111(tmp_path: Path) -> None:
    with running(tmp_path, config()) as first:
        second = Daemon(tmp_path, config())
        status, said = start(second)
        second.kill()
        assert status == 111
        assert said == [
            f"ucspid: cannot listen on control socket {first.control}: a server answers there already"
        ]
        assert first.talk("echo", b"x") == b"x"


# What systemd is sent


def test_the_service_manager_is_notified_of_start_reload_and_stop(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(TIMEOUT)

        def reported() -> dict[str, str]:
            """Return what comes next that is not about listeners: test_store.py has those."""
            while "FDNAME" in (
                reported := dict(line.split("=", 1) for line in server.recv(4096).decode().splitlines())
            ):
                """Another one."""
            return reported

        daemon.start(env=os.environ | {"NOTIFY_SOCKET": str(path)})
        assert reported() == {"READY": "1", "STATUS": "1 service"}
        daemon.write({"services": {"echo": ECHO, "new": ECHO}})
        daemon.signal(signal.SIGHUP)
        begun = reported()
        assert begun["RELOADING"] == "1"
        assert begun["MONOTONIC_USEC"].isdigit()
        assert reported() == {"READY": "1", "STATUS": "2 services"}
        daemon.config_path.write_text("nonsense")
        daemon.signal(signal.SIGHUP)
        assert reported()["RELOADING"] == "1"
        failed = reported()
        assert failed["READY"] == "1"
        assert failed["STATUS"].startswith("2 services; reload failed: ")
        daemon.write()
        daemon.signal(signal.SIGHUP)
        assert reported()["RELOADING"] == "1"
        daemon.signal(signal.SIGTERM)
        heard = [reported()]
        while "STOPPING" not in heard[-1]:
            heard.append(reported())
        assert daemon.wait() == 0
        server.setblocking(False)
        asked = reported()
        assert asked == {"EXTEND_TIMEOUT_USEC": "60000000"}
        with contextlib.suppress(BlockingIOError):
            assert reported() == {"WATCHDOG": "1", "STATUS": "stopping, 0 connections"}
            server.recv(4096)


@pytest.mark.usefixtures("each_launcher")
def test_a_program_that_has_left_its_process_group_is_ended_all_the_same(tmp_path: Path) -> None:
    leaves = ["perl", "-e", "setpgrp(0, getppid()) or die; $| = 1; print qq(out\\n); <STDIN>"]
    settings = {"listen": "127.0.0.1:0", "program": leaves, "drain_timeout": "50ms"}
    with running(tmp_path, {"services": {"s": settings}}) as daemon, daemon.connect("s") as client:
        assert client.recv(10) == b"out\n"
        assert daemon.stop() == 0
        assert client.recv(10) == b""
        assert daemon.wait_event("connection_served", service="s")["signal"] == "SIGTERM"
        assert not [item for item in daemon.events if item["event"] == "process_died"]
        daemon.start()
