"""Process ids: that come round again, and that end together."""

import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, receive_all, running, wait_gone
from faults import needs_root, stopped
from processes import children

PID_MAX = 400
"""Of the namespace; the kernel takes no less than 301, and gives none below 300 out again."""

SHORT = 1200
"""Sessions that end at once: each process id is used about ten times."""

LASTING = 5

ECHO = {"listen": "127.0.0.1:0", "program": ["cat"]}


def own_processes(command: str) -> tuple[str, ...]:
    """Return a command that starts the daemon as the first process of a namespace of its own."""
    inner = f'{command} && exec "$@"'
    unshare = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inner, "sh")
    return (*unshare, sys.executable, "-m", "ucspid")


def need_few_processes() -> None:
    """Skip where a namespace has no pid_max of its own: before Linux 6.14 it is the whole machine's."""
    release = [int(number) for number in re.findall(r"\d+", platform.release())[:2]]
    if release < [6, 14]:
        pytest.skip(f"Linux {platform.release()}: pid_max is not a namespace's own")
    attempt = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(attempt, check=False, capture_output=True).returncode:
        pytest.skip("no namespace of processes can be made")


@contextlib.contextmanager
def running_in_namespace(folder: Path, config: dict[str, Any]) -> Iterator[Daemon]:
    """Run a daemon in a namespace; stopping it is the first process's business, not unshare(1)'s."""
    daemon = Daemon(folder, config)
    try:
        daemon.start(command=own_processes(f"echo {PID_MAX} >/proc/sys/kernel/pid_max"))
        yield daemon
        (master,) = children(daemon.pid)
        os.kill(master, signal.SIGTERM)
        assert daemon.wait() == 0
    finally:
        daemon.kill()


@pytest.mark.usefixtures("each_launcher")
@needs_root
def test_process_ids_that_come_round_again_confuse_nobody(tmp_path: Path) -> None:
    need_few_processes()
    limited = {"listen": "127.0.0.1:0", "program": ["sleep", "1000"], "max_lifetime": "1s"}
    short = {"listen": "127.0.0.1:0", "program": ["true"]}
    services = {"short": short, "lasting": ECHO, "limited": limited}
    with contextlib.ExitStack() as stack, running_in_namespace(tmp_path, {"services": services}) as daemon:
        lasting = [stack.enter_context(daemon.connect("lasting")) for _ in range(LASTING)]
        addresses = {name: daemon.address(name) for name in services}
        for number in range(SHORT):
            with socket.create_connection(addresses["short"], TIMEOUT) as sock:
                assert receive_all(sock) == b""
            if number % 100 == 0:
                stack.enter_context(socket.create_connection(addresses["limited"], TIMEOUT))
        ended = daemon.wait_events(SHORT, "connection_served", service="short")
        assert {event.get("status") for event in ended} == {0}
        assert len({event["pid"] for event in ended}) < PID_MAX
        assert max(event["pid"] for event in ended) < PID_MAX
        for event in daemon.wait_events(SHORT // 100, "connection_served", service="limited"):
            assert event["signal"] == "SIGTERM"
        for sock in lasting:
            assert exchange(sock, b"still here") == b"still here"
            sock.close()
        ended = daemon.wait_events(LASTING, "connection_served", service="lasting")
        assert {event.get("status") for event in ended} == {0}
        status = daemon.status()
        assert (status["totals"]["live"], status["totals"]["failed"]) == (0, {})


@pytest.mark.usefixtures("each_launcher")
def test_parts_and_programs_that_end_together_are_distinguished(tmp_path: Path) -> None:
    services = {"one": ECHO, "two": ECHO | {"umask": "077"}}
    config = {"services": services, "log": {"level": "debug"}}
    with contextlib.ExitStack() as stack, running(tmp_path, config) as daemon:
        for sock in (socks := [stack.enter_context(daemon.connect(name)) for name in services]):
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        daemon.wait_events(2, "connection_started")  # now the launchers have noted it as well
        launchers = {item["services"][0]: item["pid"] for item in daemon.processes("launcher")}
        (loop,) = (item["pid"] for item in daemon.processes("loop"))
        with stopped(daemon.pid):
            for pid in (*launchers.values(), loop):
                os.kill(pid, signal.SIGKILL)
            for pid in (*launchers.values(), loop):
                wait_gone(pid)
            daemon.signal(signal.SIGHUP)
            for sock in socks:
                assert exchange(sock, b"y") == b"y"
        died = daemon.wait_events(2, "process_died", role="launcher")
        assert {event["orphans"] for event in died} <= {1, 2}
        for name in services:
            assert daemon.wait_event("connection_served", service=name)["status"] == 0
        assert daemon.reload() == []
        status = daemon.status()
        assert (status["totals"]["served"], status["totals"]["live"]) == (2, 0)


# An event loop that does not turn


def loop_at_work(daemon: Daemon) -> int:
    """Return the loop's process, which has written its first events."""
    daemon.wait_event("started")
    return int(daemon.processes("loop")[0]["pid"])


def wait_replaced(daemon: Daemon, loop: int) -> None:
    daemon.wait_event("process_died", role="loop", pid=loop, signal="SIGKILL")
    daemon.wait_events(2, "loop_started")


def test_a_loop_that_hangs_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, {"watchdog": "8s", "services": {"echo": ECHO}}) as daemon:
        loop = loop_at_work(daemon)
        with daemon.connect("echo") as client:
            client.sendall(b"before")
            assert client.recv(6) == b"before"
            with stopped(loop):
                wait_replaced(daemon, loop)
            assert "it has not turned for 2 s" in daemon.wait_event("loop_broken")["reason"]
            client.sendall(b"after")
            assert exchange(client) == b"after"


def test_a_loop_that_stays_stopped_is_replaced_without_a_watchdog(tmp_path: Path) -> None:
    with running(tmp_path, {"services": {"echo": ECHO}}) as daemon:
        loop = loop_at_work(daemon)
        with stopped(loop):
            wait_replaced(daemon, loop)
        assert "it was stopped" in daemon.wait_event("loop_broken")["reason"]
        assert daemon.talk("echo", b"x") == b"x"
