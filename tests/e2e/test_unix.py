"""Unix sockets end to end: real clients, a real balancer, and what becomes of the path."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import peers
from daemon import TIMEOUT, Daemon, exchange, running
from reachable import reachable
from ucspid.cli import client

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
ANSWER = r"""
end=$(printf '\r')
while read -r line && [ "$line" != "$end" ]; do :; done
printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n'
env
"""
"""Reads a request, or all that there is: who closes with something unread resets the connection."""
OWN = f"unix:uid={os.geteuid()}"
_CONNECT = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
    except OSError as problem:
        sys.exit(os.strerror(problem.errno))
    print(sock.recv(100).decode(), end="")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable() as path:
        yield path


def services(folder: Path) -> dict[str, Any]:
    return {
        "http": {"listen": ["127.0.0.1:0", f"unix:{folder}/http"], "program": ["sh", "-c", ANSWER]},
        "echo": {"listen": f"unix:{folder}/echo", "program": ["cat"]},
        "balanced": {
            "listen": f"unix:{folder}/balanced", "program": ["sh", "-c", ANSWER], "proxy": {"from": "unix:"}
        },
        "few": {
            "listen": {"address": f"unix:{folder}/few", "mode": "0600"},
            "program": ["echo", "few"],
        },
        "ruled": {
            "listen": f"unix:{folder}/ruled",
            "program": ["sh", "-c", "echo $WHO"],
            "rules": [
                {"from": "uid:nobody", "allow": True, "env": {"WHO": "nobody"}},
                {"from": "unix:", "deny": True, "message": "go away\n"},
            ],
        },
    }  # fmt: skip


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with running(folder, {"services": services(folder)}) as daemon:
        yield daemon


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(path))
        yield sock


def talk(path: Path, data: bytes = b"") -> bytes:
    with connected(path) as sock:
        return exchange(sock, data)


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False, **options)


def test_curl_and_s6_are_served_and_the_program_knows_who_they_are(daemon: Daemon) -> None:
    folder = daemon.folder
    said = run(peers.require("curl"), "-s", "--unix-socket", str(folder / "http"), "http://here/").stdout
    found = dict(line.split("=", 1) for line in said.decode().splitlines())
    assert found["PROTO"] == "UNIX"
    assert found["UNIXLOCALPATH"] == found["IPCLOCALPATH"] == f"{folder}/http"
    assert found["UNIXREMOTEEUID"] == found["IPCREMOTEEUID"] == str(os.geteuid())
    assert not [name for name in found if name.startswith("TCP")]
    listening = [item["address"] for item in daemon.status()["listeners"] if item["service"] == "http"]
    port = next(int(address.rpartition(":")[2]) for address in listening if address.startswith("127."))
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        said = exchange(sock)
    assert b"PROTO=TCP\n" in said
    assert b"UNIX" not in said
    s6 = [peers.require("s6-ipcclient"), str(folder / "echo"), "sh", "-c", "printf whole >&7; head -c 5 <&6"]
    assert run(*s6).stdout == b"whole"
    assert daemon.wait_event("connection_served", service="echo")["remote"] == OWN


def test_what_s6_tells_a_program_of_its_client_is_told_here_too(daemon: Daemon) -> None:
    path = daemon.folder / "s6"
    command = [peers.require("s6-ipcserver"), "-1", str(path), "env"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            theirs = set(talk(path).decode().splitlines())
        finally:
            server.send_signal(signal.SIGTERM)
    ours = set(talk(daemon.folder / "http").decode().splitlines())
    told = {line for line in theirs if line.startswith("IPC")}
    assert {line.partition("=")[0] for line in told - ours} == {"IPCCONNNUM", "IPCREMOTEPATH"}
    assert f"IPCREMOTEEUID={os.geteuid()}" in told & ours


@as_root
def test_permissions_and_rules_decide_who_gets_in(daemon: Daemon) -> None:
    def nobody(name: str) -> subprocess.CompletedProcess[bytes]:
        return run(sys.executable, "-I", "-S", "-c", _CONNECT, str(daemon.folder / name))

    assert nobody("few").stderr == b"Permission denied\n"
    assert talk(daemon.folder / "few") == b"few\n"
    assert nobody("ruled").stdout == b"nobody\n"
    assert talk(daemon.folder / "ruled") == b"go away\n"
    assert daemon.wait_event("connection_refused", service="ruled")["remote"] == "unix:uid=0"


def test_haproxy_speaks_for_its_clients_over_a_unix_socket(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as front:
        config = daemon.folder / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
            f"listen front\n  bind fd@{front.fileno()}\n"
            f"  server s unix@{daemon.folder}/balanced send-proxy-v2\n"
        )
        haproxy = subprocess.Popen(
            [peers.require("haproxy"), "-db", "-q", "-f", str(config)], pass_fds=[front.fileno()]
        )
        try:
            with socket.create_connection(front.getsockname(), TIMEOUT, ("127.0.0.7", 0)) as sock:
                said = exchange(sock).decode()
        finally:
            haproxy.send_signal(signal.SIGTERM)
            haproxy.wait(TIMEOUT)
    assert "PROTO=TCP\n" in said
    assert "TCPREMOTEIP=127.0.0.7\n" in said
    assert "UNIX" not in said
    served = daemon.wait_event("connection_served", service="balanced")
    assert served["remote"].startswith("127.0.0.7:")
    assert served["balancer"] == OWN


def test_sessions_and_the_socket_outlive_the_loop_and_an_upgrade(daemon: Daemon) -> None:
    folder = daemon.folder
    made = (folder / "echo").stat().st_ino
    with connected(folder / "echo") as session:
        session.sendall(b"before")
        assert session.recv(6) == b"before"
        (loop,) = daemon.processes("loop")
        os.kill(loop["pid"], signal.SIGKILL)
        daemon.wait_event("loop_started", sessions=1)
        (found,) = client.call(daemon.control, "sessions", {"ip": OWN}, TIMEOUT)["sessions"]
        assert (found["service"], found["remote"]) == ("echo", OWN)
        client.call(daemon.control, "upgrade", {}, TIMEOUT, to_end=True)
        assert talk(folder / "echo", b"new") == b"new"
        assert exchange(session, b"after") == b"after"
    assert (folder / "echo").stat().st_ino == made


def test_the_path_goes_with_the_listener_and_one_that_is_left_is_replaced(folder: Path) -> None:
    config = {"services": services(folder)}
    killed = Daemon(folder, config).start()
    try:
        killed.signal(signal.SIGKILL)
        killed.wait()
    finally:
        killed.kill()
    assert (folder / "echo").is_socket()
    with running(folder, config) as daemon:
        assert talk(folder / "echo", b"new") == b"new"
        left = {name: entry for name, entry in services(folder).items() if name != "echo"}
        daemon.reload({"services": left})
        assert not os.path.lexists(folder / "echo")
    assert [path.name for path in folder.iterdir() if path.is_socket()] == []
