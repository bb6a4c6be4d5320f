"""The daemon end to end: one loop after another, one daemon after another."""

import contextlib
import os
import signal
from pathlib import Path

from clients import load
from daemon import Daemon, receive_all, running, wait_gone
from processes import descendants

SERVICES = {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}}


def test_a_reload_that_replaces_the_loop_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, SERVICES) as daemon, daemon.connect("echo") as client:
        client.sendall(b"before")
        assert client.recv(6) == b"before"
        loop = daemon.processes("loop")[0]["pid"]
        control = tmp_path / "other"
        assert daemon.reload({"control": str(control)}) == [f"control: {daemon.control} -> {control}"]
        daemon.control = control
        daemon.wait_event("reloaded")
        assert daemon.processes("loop")[0]["pid"] != loop
        assert daemon.service("echo")["live"] == 1
        client.sendall(b"after")
        assert client.recv(5) == b"after"


def test_rates_hold_while_one_loop_follows_another(tmp_path: Path) -> None:
    limited = {"listen": "127.0.0.1:0", "program": ["cat"], "rate_per_ip": "1/hour", "burst": 2}
    with running(tmp_path, {"services": {"echo": limited}}) as daemon:
        assert [daemon.talk("echo", b"in") for _ in range(2)] == [b"in", b"in"]
        daemon.reload({"nameservers": ["127.0.0.1:53"]})
        assert daemon.wait_events(2, "loop_started")
        assert refused(daemon)
        daemon.reload({"nameservers": ["127.0.0.2:53"]})
        assert daemon.wait_events(3, "loop_started")
        assert refused(daemon)
        assert daemon.talk("echo", b"in", "127.0.0.2") == b"in"


def refused(daemon: Daemon) -> bool:
    with daemon.connect("echo") as client:
        try:
            return receive_all(client) == b""
        except ConnectionResetError:
            return True


def test_every_client_is_served_while_loops_follow_one_another(tmp_path: Path) -> None:
    with running(tmp_path, SERVICES) as daemon, load(daemon.address("echo")) as clients:
        for number in range(3):
            daemon.reload({"nameservers": [f"127.0.0.{number + 1}:53"]})
            daemon.wait_events(number + 2, "loop_started")
    assert clients.failed == []
    assert len(clients.seconds) > 3
    assert max(clients.seconds) < 10.0
    assert [event for event in daemon.events if event["event"] == "process_died"] == []


def test_another_daemon_may_begin_while_sessions_of_a_killed_one_live(tmp_path: Path) -> None:
    killed = Daemon(tmp_path, SERVICES).start()
    left: list[int] = []
    try:
        client = killed.connect("echo")
        client.sendall(b"before")
        assert client.recv(6) == b"before"
        left = descendants(killed.pid)
        killed.signal(signal.SIGKILL)
        killed.wait()
        killed.wait_event("master_lost")
        killed.wait_event("not_listening")
        with running(tmp_path, SERVICES) as daemon:
            assert daemon.talk("echo", b"new") == b"new"
            client.sendall(b"after")
            assert client.recv(5) == b"after"
            client.close()
            for process in left:
                wait_gone(process)
    finally:
        killed.kill()
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def test_a_launcher_is_titled_with_all_its_services(tmp_path: Path) -> None:
    service = {"listen": "127.0.0.1:0", "program": ["cat"]}
    with running(tmp_path, {"services": {"one": service, "two": service}}) as daemon:
        (launcher,) = daemon.processes("launcher")
        title = Path(f"/proc/{launcher['pid']}/cmdline").read_bytes().rstrip(b"\0")
        assert title == b"ucspid: launcher one,two"
