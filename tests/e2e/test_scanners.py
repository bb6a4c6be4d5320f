"""What scanners send to real programs costs no other client anything: no service is slowed by its clients."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import qmtp
from daemon import Daemon, running
from folders import public_folder
from peers import require
from ucspid.rules.cdb import make

ROUNDS = 7
SOURCES = [f"127.0.0.{host}" for host in range(1, 6)]
JUNK = [
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"\0" * 4096,
    b"\xff" * 70_000,
]
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: a close is a reset."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="axfrdns changes its root directory")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with public_folder(owner=0) as folder:
        keys = folder / "keys"
        subprocess.run([require("tinysshd-makekey"), keys], check=True, capture_output=True)
        (folder / "data.cdb").write_bytes(make([], "data.cdb"))
        services: dict[str, Any] = {
            "qmtp": {"program": [require("qmtpfront-echo")], "env": {"PLUGINS": "accept"}},
            "dns": {
                "program": [require("axfrdns")],
                "env": {"ROOT": str(folder), "UID": "65534", "GID": "65534"},
            },
            "ssh": {"program": [require("tinysshd"), "--", str(keys)]},
            "crash": {"program": ["sh", "-c", "kill -SEGV $$"]},
            "shell": {"program": ["sh", "-c", "exec /nonexistent/program"]},
        }
        for service in services.values():
            service.update({"listen": "127.0.0.1:0", "user": "root", "stderr": "null"})
        with running(folder, {"services": services}) as daemon:
            yield daemon


def scan(daemon: Daemon, service: str) -> int:
    """Do what scanners do; return how many connections that were."""
    count = 0
    for _ in range(ROUNDS):
        for source, junk in zip(SOURCES, JUNK, strict=True):
            with daemon.connect(service, source) as sock, suppress(OSError):
                if count % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.sendall(junk)
                if count % 3 == 0:
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1024)
            count += 1
    return count


def slowed(daemon: Daemon, service: str) -> bool:
    """Say whether a service is slowed, or has been."""
    return daemon.service(service)["state"] != "listening" or any(
        event["event"] == "service_throttled" for event in daemon.events if event.get("service") == service
    )


@pytest.mark.parametrize("service", ["qmtp", "dns", "ssh", "crash", "shell"])
def test_no_service_is_slowed_by_what_its_clients_send(daemon: Daemon, service: str) -> None:
    before = daemon.service(service)["accepted"]
    count = scan(daemon, service)
    with daemon.connect(service) as sock:
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    assert not slowed(daemon, service)
    status = daemon.service(service)
    assert status["accepted"] == before + count + 1
    assert status["failed"] == {}


def test_an_honest_client_is_served_after_the_scanners(daemon: Daemon) -> None:
    scan(daemon, "qmtp")
    with daemon.connect("qmtp") as sock:
        (answer,) = qmtp.send(sock, b"Subject: x\n\nx\n", "me@example.org", ["you@example.org"])
    assert answer.startswith("K")
    assert not slowed(daemon, "qmtp")


def test_a_login_is_offered_after_the_scanners(daemon: Daemon) -> None:
    scan(daemon, "ssh")
    with daemon.connect("ssh") as sock:
        assert sock.recv(100).startswith(b"SSH-2.0-")
    assert not slowed(daemon, "ssh")


def test_programs_are_what_they_are_taken_for(daemon: Daemon) -> None:
    """The test above would show nothing if the programs did not fail for these clients."""
    scan(daemon, "dns")
    daemon.wait_event("connection_served", service="dns", status=111)
