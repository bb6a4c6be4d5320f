"""Services that pass their clients on, with the real daemon: to services of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
from daemon import Daemon, exchange, receive_all, running
from folders import public_folder
from proxy_headers import v1

NAMES = ("TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALPORT", "SSL_PROTOCOL", "SSL_TLS_SNI_SERVERNAME")
WHO = ["sh", "-c", f"echo {' '.join(f'${name}' for name in NAMES)} $SSL_ALPN_PROTOCOL $SSL_PEER_CERT_CN"]
WHO[2] += "; cat >/dev/null"
BACKENDS: dict[str, dict[str, Any]] = {
    "echo": {"program": ["cat"]},
    "who": {"program": WHO, "proxy": {"from": "127.0.0.1"}},
}


def at(daemon: Daemon, service: str) -> str:
    host, port = daemon.address(service)
    return f"{host}:{port}"


def forwards(daemon: Daemon, dead: str) -> dict[str, dict[str, Any]]:
    """Return services that forward to others of the same daemon; dead refuses connections."""
    ca = str(certificates.shared() / "ca.pem")
    tls = {"mode": "implicit", "alpn": ["imap"], "client_certificates": "request", "client_ca": ca}
    who = {"to": at(daemon, "who"), "proxy": "v2"}
    return {
        "plain": {"forward": at(daemon, "echo")},
        "named": {"forward": {**who, "proxy": "v1"}},
        "secure": {"forward": at(daemon, "echo"), "tls": tls},
        "described": {"forward": who, "tls": tls},
        "behind": {"forward": who, "proxy": {"from": "127.0.0.1"}},
        "next": {"forward": {"to": [dead, "unix:/nonexistent", at(daemon, "echo")]}},
        "down": {"forward": {"to": [dead, "unix:/nonexistent"]}},
    }


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with public_folder(parent="/var/tmp") as folder, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it does not listen
        shutil.copy(certificates.shared() / "mail.example.org.pem", folder / "mail.pem")
        config = {"tls": {"certificates": "mail.pem"}, "log": {"format": "json", "level": "debug"}}
        everywhere = {"listen": "127.0.0.1:0"}
        backends = {name: everywhere | service for name, service in BACKENDS.items()}
        with running(folder, {**config, "services": backends}) as daemon:
            (folder / "empty").mkdir()
            dead = f"127.0.0.1:{bound.getsockname()[1]}"
            more = {name: everywhere | service for name, service in forwards(daemon, dead).items()}
            if os.geteuid() == 0:
                more["jailed"] = everywhere | {"forward": at(daemon, "echo"), "chroot": "empty"}
            daemon.reload({"services": backends | more})
            yield daemon


@contextlib.contextmanager
def secured(daemon: Daemon, service: str) -> Iterator[ssl.SSLSocket]:
    made = certificates.shared()
    context = ssl.create_default_context(cafile=str(made / "ca.pem"))
    context.load_cert_chain(made / "client.example.org.pem")
    context.set_alpn_protocols(["imap"])
    with (
        daemon.connect(service) as sock,
        context.wrap_socket(sock, server_hostname="mail.example.org") as secure,
    ):
        yield secure


def served(daemon: Daemon, service: str, sock: socket.socket) -> dict[str, Any]:
    """Return how the session of a client has ended, with the line that it has said of it."""
    remote = "{}:{}".format(*sock.getsockname())
    event = daemon.wait_event("connection_served", service=service, remote=remote)
    end = f" (conn {event['conn']})"
    count = 1
    while True:
        lines = [said["line"] for said in daemon.wait_events(count, "program_stderr", service=service)]
        for line in lines:
            if line.endswith(end):
                return {**event, "line": line}
        count = len(lines) + 1


def test_what_is_sent_comes_back_and_each_direction_ends_by_itself(daemon: Daemon) -> None:
    with daemon.connect("plain") as sock:
        assert exchange(sock, b"hello") == b"hello"
        end = served(daemon, "plain", sock)
    begin = f"forwarded to {at(daemon, 'echo')}: 5 bytes from the client, 5 bytes to it, "
    assert end["line"].startswith(begin)
    assert " s: closed (conn " in end["line"]
    assert end["status"] == 0


def test_the_server_sees_the_client(daemon: Daemon) -> None:
    with daemon.connect("named", "127.0.0.3") as sock:
        ip, port = sock.getsockname()
        listens_at = daemon.address("named")[1]
        assert exchange(sock).split() == [ip.encode(), b"%d" % port, b"%d" % listens_at]


def test_tls_ends_before_it(daemon: Daemon) -> None:
    with secured(daemon, "secure") as secure:
        secure.sendall(b"hello")
        assert secure.recv(100) == b"hello"
        secure.unwrap()
        assert "5 bytes from the client, 5 bytes to it" in served(daemon, "secure", secure)["line"]


def test_the_server_is_sent_what_is_known_of_tls(daemon: Daemon) -> None:
    with secured(daemon, "described") as secure:
        ip, port = secure.getsockname()
        said = secure.makefile("rb").readline().decode().split()
    assert said[:2] == [ip, str(port)]
    assert said[3:] == ["TLSv1.3", "mail.example.org", "imap", "client.example.org"]


def test_a_client_behind_a_balancer_stays_who_it_is(daemon: Daemon) -> None:
    with daemon.connect("behind") as sock:
        assert exchange(sock, v1("192.0.2.7", "198.51.100.1")).split() == [b"192.0.2.7", b"4321", b"25"]


def test_a_server_that_does_not_answer_is_passed_over(daemon: Daemon) -> None:
    for _ in range(4):  # it begins with any of them
        assert daemon.talk("next", b"hello") == b"hello"


def test_without_a_server_the_status_is_111_and_the_log_says_why(daemon: Daemon) -> None:
    with daemon.connect("down") as sock:
        assert receive_all(sock) == b""
        end = served(daemon, "down", sock)
    assert end["status"] == 111
    assert end["line"].startswith("cannot forward: ")
    assert "unix:/nonexistent: No such file or directory" in end["line"]
    assert ": Connection refused" in end["line"]


def test_a_session_that_is_ended_says_how_far_it_was(daemon: Daemon) -> None:
    with daemon.connect("plain") as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        remote = "{}:{}".format(*sock.getsockname())
        process = daemon.wait_event("connection_started", service="plain", remote=remote)["pid"]
        shown = Path(f"/proc/{process}/cmdline").read_bytes()
        assert shown.startswith(f"ucspid-forward\0off\0005\0001800\0{at(daemon, 'echo')}".encode())
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        assert os.stat(f"/proc/{process}").st_uid == user
        os.kill(process, signal.SIGTERM)
        assert receive_all(sock) == b""
        end = served(daemon, "plain", sock)
    assert end["signal"] == "SIGTERM"
    assert "5 bytes from the client, 5 bytes to it" in end["line"]
    assert "ended by SIGTERM" in end["line"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root directory")
def test_it_runs_where_there_is_no_file(daemon: Daemon) -> None:
    with daemon.connect("jailed") as sock:
        assert exchange(sock, b"hello") == b"hello"
        assert "5 bytes from the client, 5 bytes to it" in served(daemon, "jailed", sock)["line"]


def test_a_reload_imports_nothing_again(daemon: Daemon) -> None:
    before = [item["pid"] for item in daemon.processes("launcher")]
    assert daemon.reload() == []
    assert [item["pid"] for item in daemon.processes("launcher")] == before
