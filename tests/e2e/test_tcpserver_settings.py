"""What the file has of tcpserver: its log, its banner, its rules that cannot be read, its way to stop."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import Daemon, receive_all, wait_gone
from folders import public_folder
from ucspid.rules.tcprules import compile_text, install

ENVIRONMENT = {**os.environ, "TCPREMOTEHOST": "inherited", "UCSPID_CONN_ID": "1", "ODD": os.fsdecode(b"\xff")}


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        yield path


@contextlib.contextmanager
def started(folder: Path, top: dict[str, Any], **service: Any) -> Iterator[Daemon]:
    """Run a daemon with one service, smtp, whose standard error is ours to read."""
    settings = {"listen": "127.0.0.1:0", "program": ["cat"], "stderr": "inherit", **service}
    daemon = Daemon(folder, {"user": "nobody", **top, "services": {"smtp": settings}})
    daemon.start(env=ENVIRONMENT)
    try:
        yield daemon
    finally:
        daemon.kill()


def kinds(daemon: Daemon, count: int) -> list[str]:
    """Return what each line of tcpserver is about, once there are so many."""
    return [line.split()[1] for line in daemon.wait_lines(count)]


def test_the_log_is_that_of_tcpserver(folder: Path) -> None:
    with started(folder, {"log": {"format": "tcpserver"}}, program=["sh", "-c", "exit 1"]) as daemon:
        assert daemon.talk("smtp") == b""
        assert kinds(daemon, 6) == ["status:", "status:", "pid", "ok", "end", "status:"]
        assert daemon.stderr[4].endswith(" status 256")
        assert daemon.stop() == 0
        assert daemon.events == []


def test_levels_are_those_of_tcpserver(folder: Path) -> None:
    with started(
        folder, {"log": {"format": "tcpserver", "level": "warning"}}, program=["/bin/cat"]
    ) as daemon:
        assert daemon.talk("smtp", b"x") == b"x"
        daemon.reload({"log": {"format": "tcpserver", "level": "info"}})
        assert daemon.talk("smtp", b"y") == b"y"
        assert kinds(daemon, 5) == ["status:", "pid", "ok", "end", "status:"]
        daemon.reload({"log": {"format": "tcpserver", "level": "none"}})
        assert daemon.talk("smtp", b"z") == b"z"
        assert daemon.stop() == 0
        assert len(daemon.stderr) == 5


def test_it_exits_and_sessions_go_on_where_that_is_wanted(folder: Path) -> None:
    with started(folder, {"stop": "exit"}) as daemon, daemon.connect("smtp") as client:
        client.sendall(b"before")
        assert client.recv(6, socket.MSG_WAITALL) == b"before"
        left = daemon.processes_left()
        host, port = client.getpeername()
        assert daemon.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))
        assert not daemon.control.exists()
        client.sendall(b"after")
        assert client.recv(5, socket.MSG_WAITALL) == b"after"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b""
        for pid in left:
            wait_gone(pid)
        assert not [item for item in daemon.events if item["event"] in ("master_lost", "accept_failed")]


def test_a_second_signal_changes_nothing_then(folder: Path) -> None:
    with started(folder, {"stop": "exit"}) as daemon, daemon.connect("smtp") as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        client.sendall(b"y")
        assert client.recv(1) == b"y"


def test_everybody_gets_the_banner_at_once(folder: Path) -> None:
    rules = [{"from": "127.0.0.2", "deny": True, "message": "no\r\n"}]
    with started(folder, {}, banner="220 mx\r\n", rules=rules) as daemon:
        assert daemon.talk("smtp", b"x") == b"220 mx\r\nx"
        assert daemon.talk("smtp", source="127.0.0.2") == b"220 mx\r\nno\r\n"
        assert daemon.differences() == []


def test_a_service_may_start_without_its_rules(folder: Path) -> None:
    cdb = folder / "rules.cdb"
    with started(folder, {}, rules=str(cdb), unusable_rules="refuse", program=["env"]) as daemon:
        assert daemon.talk("smtp") == b""
        assert daemon.wait_event("rules_load_failed")["unusable"] == "refuse"
        install(compile_text(b':allow,NEW="1"\n', "rules"), str(cdb))
        cdb.chmod(0o644)
        assert b"\nNEW=1\n" in daemon.talk("smtp")
        cdb.unlink()
        assert daemon.talk("smtp") == b""
        daemon.config["services"]["smtp"]["unusable_rules"] = "allow_missing"
        daemon.reload({})
        assert b"PROTO=TCP\n" in daemon.talk("smtp")


def test_all_of_the_environment_may_be_inherited(folder: Path) -> None:
    with started(folder, {}, inherit_env=["*"], env={"SHELL": "mine"}, program=["env", "-0"]) as daemon:
        got = dict(item.split(b"=", 1) for item in daemon.talk("smtp").split(b"\0") if item)
        assert got[b"ODD"] == b"\xff"
        assert got[b"SHELL"] == b"mine"
        assert b"TCPREMOTEHOST" not in got
        assert got[b"UCSPID_CONN_ID"] != b"1"
        assert got[b"PATH"] == os.fsencode(os.environ["PATH"])


def test_a_limit_of_none_accepts_nobody(folder: Path) -> None:
    with started(folder, {}, max_connections=0) as daemon, daemon.connect("smtp") as client:
        assert daemon.service("smtp")["accepted"] == 0
        daemon.config["services"]["smtp"]["max_connections"] = 1
        daemon.reload({})
        client.sendall(b"x")
        assert client.recv(1) == b"x"
