"""Behind a real HAProxy, and before a real SMTP client that speaks as a balancer."""

import contextlib
import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import peers
from contract import REPORT, entries
from daemon import TIMEOUT, Daemon, receive_all, running
from folders import public_folder
from ucspid.net.proxy_sending import header

BALANCER = "127.0.0.9"
PROXY = {"from": BALANCER}
SERVER = "server ucspid {host}:{port} source {balancer} check inter 100ms"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    report = {"listen": "127.0.0.1:0", "program": REPORT}
    services: dict[str, dict[str, Any]] = {
        "v1": {**report, "proxy": {**PROXY, "versions": 1}},
        "v2": {**report, "proxy": {**PROXY, "versions": [2]}},
        "tls": {**report, "proxy": PROXY},
        "per_ip": {**report, "proxy": PROXY, "rules": [{"from": "127.0.0.2", "deny": None, "message": "no"}]},
        "smtp": {
            "listen": "127.0.0.1:0",
            "program": [peers.require("smtpfront-echo")],
            "env": {"PLUGINS": "accept"},
            "proxy": {"from": "127.0.0.1", "others": "direct"},
        },
    }
    with (
        public_folder() as folder,
        running(folder, {"log": {"level": "debug"}, "services": services}) as daemon,
    ):
        yield daemon


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ca.pem, and server.pem and client.pem that it has signed, each with its key."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=TIMEOUT)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        openssl(*new, "-subj", f"/CN={name}.example.org", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = (
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
        )
        openssl(*signed, "-out", f"{name}.crt")
        (folder / f"{name}.pem").write_bytes(
            (folder / f"{name}.crt").read_bytes() + (folder / f"{name}.key").read_bytes()
        )
    return folder


@contextlib.contextmanager
def haproxy(
    folder: Path, daemon: Daemon, service: str, sending: str, bind: str = ""
) -> Iterator[tuple[str, int]]:
    """Run HAProxy in front of a service; yield where it listens."""
    host, port = daemon.address(service)
    server = SERVER.format(host=host, port=port, balancer=BALANCER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = folder / f"{service}.cfg"
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
            f"listen front\n  bind fd@{listener.fileno()} {bind}\n  {server} {sending}\n"
        )
        command = [peers.require("haproxy"), "-db", "-q", "-f", str(config)]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)


def environment(told: bytes) -> dict[str, str]:
    """Return the variables that a program has reported."""
    texts = [entry.decode() for entry in entries(json.loads(told))]
    return dict(text.split("=", 1) for text in texts)


def connect(address: tuple[str, int], source: str) -> socket.socket:
    return socket.create_connection(address, TIMEOUT, (source, 0))


@pytest.mark.parametrize(("service", "sending"), [("v1", "send-proxy"), ("v2", "send-proxy-v2")])
def test_a_program_sees_the_client_and_the_balancer(
    tmp_path: Path, daemon: Daemon, service: str, sending: str
) -> None:
    with haproxy(tmp_path, daemon, service, sending) as front, connect(front, "127.0.0.3") as sock:
        own, local = sock.getsockname(), sock.getpeername()
        told = environment(receive_all(sock))
        assert (told["TCPREMOTEIP"], told["TCPREMOTEPORT"]) == (own[0], str(own[1]))
        assert (told["TCPLOCALIP"], told["TCPLOCALPORT"]) == (local[0], str(local[1]))
        assert told["UCSPID_PROXY_IP"] == BALANCER
        served = daemon.wait_event("connection_served", remote=f"{own[0]}:{own[1]}")
        assert served["balancer"] == f"{BALANCER}:{told['UCSPID_PROXY_PORT']}"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_understands_the_header_that_forward_sends(
    tmp_path: Path, daemon: Daemon, version: str
) -> None:
    client = {"TCPREMOTEIP": "2001:db8::7", "TCPREMOTEPORT": "4321"}
    server = {"TCPLOCALIP": "2001:db8::1", "TCPLOCALPORT": "25", "SSL_PROTOCOL": "TLSv1.3"}
    tls = {"SSL_TLS_SNI_SERVERNAME": "mail.example.org", "SSL_PEER_CERT_CN": "client.example.org"}
    with (
        haproxy(tmp_path, daemon, "v1", "send-proxy", "accept-proxy") as front,
        connect(front, "127.0.0.3") as sock,
    ):
        sock.sendall(header(version, client | server | tls))
        told = environment(receive_all(sock))
    assert {name: told[name] for name in client} == client
    assert (told["TCPLOCALIP"], told["TCPLOCALPORT"]) == ("2001:db8::1", "25")


@pytest.mark.parametrize("check", ["", "check-send-proxy"])
def test_health_checks_are_counted_apart_and_start_no_program(
    tmp_path: Path, daemon: Daemon, check: str
) -> None:
    before = daemon.service("v2")
    with haproxy(tmp_path, daemon, "v2", f"send-proxy-v2 {check}"):
        checked = before["refused"].get("health_check", 0)
        daemon.wait_events(checked + 3, "health_check", service="v2")
    after = daemon.service("v2")
    assert after["refused"]["health_check"] >= checked + 3
    assert after["served"] == before["served"]
    assert after["refused"].get("proxy_header") == before["refused"].get("proxy_header")


def test_what_the_balancer_knows_of_tls_reaches_the_program(
    tmp_path: Path, daemon: Daemon, certificates: Path
) -> None:
    bind = f"ssl crt {certificates / 'server.pem'} ca-file {certificates / 'ca.pem'} verify optional"
    client = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 asks for
    client.check_hostname = False
    client.load_cert_chain(certificates / "client.pem")
    sending = "send-proxy-v2-ssl-cn proxy-v2-options authority,crc32c,unique-id,ssl-cipher"
    with (
        haproxy(tmp_path, daemon, "tls", sending, bind) as front,
        connect(front, "127.0.0.3") as sock,
        client.wrap_socket(sock, server_hostname="mail.example.org") as secure,
    ):
        told = environment(receive_all(secure))
        cipher = secure.cipher()
        assert cipher is not None
        assert told["SSL_PROTOCOL"] == secure.version()
        assert told["SSL_CIPHER"] == cipher[0]
        assert told["SSL_PEER_CERT_CN"] == "client.example.org"
        assert told["SSL_TLS_SNI_SERVERNAME"] == "mail.example.org"


def test_rules_are_for_clients_and_not_for_the_balancer(tmp_path: Path, daemon: Daemon) -> None:
    with haproxy(tmp_path, daemon, "per_ip", "send-proxy-v2") as front:
        with connect(front, "127.0.0.2") as sock:
            remote = "{}:{}".format(*sock.getsockname())
            assert receive_all(sock) == b"no"
        refused = daemon.wait_event("connection_refused", remote=remote)
        assert refused["reason"] == "denied"
        with connect(front, "127.0.0.3") as sock:
            assert environment(receive_all(sock))["TCPREMOTEIP"] == "127.0.0.3"


def test_who_is_no_balancer_is_refused_whatever_it_claims(daemon: Daemon) -> None:
    with daemon.connect("v1", source="127.0.0.4") as sock:
        remote = "{}:{}".format(*sock.getsockname())
        sock.send(b"PROXY TCP4 127.0.0.3 127.0.0.1 1 2\r\n")
        assert daemon.wait_event("connection_refused", remote=remote)["reason"] == "not_proxied"


@pytest.mark.parametrize("version", ["1", "2"])
def test_swaks_speaks_as_a_balancer_and_mailfront_logs_its_client(daemon: Daemon, version: str) -> None:
    host, port = daemon.address("smtp")
    family = "TCP4" if version == "1" else "AF_INET"
    command = [
        peers.require("swaks"), "--server", host, "--port", str(port), "--from", "me@example.org",
        "--to", "you@example.org", "--proxy-version", version, "--proxy-family", family,
        "--proxy-source", "192.0.2.77", "--proxy-source-port", "4000", "--proxy-dest", "192.0.2.1",
        "--proxy-dest-port", "25",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert run.returncode == 0, run.stdout + run.stderr
    daemon.wait_event("connection_served", service="smtp", remote="192.0.2.77:4000")


def test_a_flood_of_balancers_without_headers_is_bounded_and_costs_others_nothing(daemon: Daemon) -> None:
    host, port = daemon.address("v1")
    while daemon.service("v1")["live"]:
        """The last session of another test is about to end."""
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(socket.create_connection((host, port), TIMEOUT, (BALANCER, 0)))
        status = next(item for item in daemon.status()["services"] if item["name"] == "v1")
        assert status["live"] <= 256
        greeting = daemon.talk("smtp", b"QUIT\r\n", source="127.0.0.4")
        assert greeting.startswith(b"220 ")
