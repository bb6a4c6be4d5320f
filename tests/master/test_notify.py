"""sd_notify: what is sent, and that nobody there is no error."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ucspid.errors import ConfigError
from ucspid.ipc.condition import Condition
from ucspid.master.notify import Readiness, notify


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_lines_go_in_one_datagram(server: socket.socket) -> None:
    notify("READY=1", "STATUS=2 services")
    assert server.recv(1000) == b"READY=1\nSTATUS=2 services"


def test_a_reload_says_when(server: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    Readiness(None).reloading()
    first, second = server.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_the_state_is_said_when_it_has_changed(server: socket.socket) -> None:
    readiness = Readiness(None)
    readiness.ready(2)
    readiness.alive(Condition(1), "")
    readiness.alive(Condition(1), "")
    readiness.alive(Condition(7, 3, 1, "throttled"), "smtp")
    readiness.failed(ConfigError(["ucspid.yaml:3: wrong", "ucspid.yaml:4: too"]))
    readiness.ready(2)
    readiness.alive(Condition(0), "")
    readiness.reloading()
    readiness.ready(1)
    readiness.stopping()
    readiness.alive(Condition(2), "")
    assert [server.recv(1000).decode().splitlines() for _ in range(5)] == [
        ["READY=1", "STATUS=2 services"],
        ["WATCHDOG=1", "STATUS=2 services, 1 connection"],
        ["WATCHDOG=1"],
        ["WATCHDOG=1", "STATUS=2 services, 7 connections; in trouble: smtp (throttled) and 2 more"],
        ["READY=1", "STATUS=2 services; reload failed: ucspid.yaml:3: wrong"],
    ]
    assert b"0 connections; reload failed: ucspid.yaml:3: wrong" in server.recv(1000)
    assert b"RELOADING=1" in server.recv(1000)
    assert server.recv(1000) == b"READY=1\nSTATUS=1 service"
    assert server.recv(1000) == b"STOPPING=1"
    assert server.recv(1000) == b"WATCHDOG=1\nSTATUS=stopping, 2 connections"


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ucspid-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify("READY=1")
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", [None, "", "/does/not/exist"])
def test_no_service_manager_is_no_error(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if path is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify("READY=1")


def test_a_server_that_does_not_read_is_not_waited_for(server: socket.socket) -> None:
    for number in range(2000):
        notify(f"STATUS={number}")
    assert server.recv(100) == b"STATUS=0"
