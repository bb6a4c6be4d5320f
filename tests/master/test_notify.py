"""sd_notify: what is sent, and that nobody there is no error."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ucspid.master.notify import Readiness, notify


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
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


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ucspid-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
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
