"""The real daemon follows its certificates: without a reload, and after an upgrade."""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
from daemon import TIMEOUT, Daemon, running
from folders import public_folder
from ucspid.cli import client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    certificates.make_authority(folder)
    for name in ("one", "two", "three"):
        certificates.make(folder, name)
    return folder


@pytest.fixture
def daemon(made: Path) -> Iterator[Daemon]:
    with public_folder(parent="/var/tmp") as folder:
        (folder / "live").mkdir()
        put(folder, made, "one")
        services = {"echo": {"listen": "127.0.0.1:0", "program": ["cat"], "tls": "implicit"}}
        with running(folder, {"tls": {"certificates": "live"}, "services": services}) as daemon:
            daemon.wait_event("certificates_loaded", names=["one"])
            yield daemon


def put(folder: Path, made: Path, name: str) -> None:
    """Have a certificate where the daemon reads it, as a tool does that writes one file after the other."""
    shutil.copy(made / f"{name}.key", folder / "live/privkey.pem")
    shutil.copy(made / f"{name}.crt", folder / "live/fullchain.pem")


def name_of(daemon: Daemon, made: Path) -> str:
    """Return the name in the certificate that a client gets, which sends a word and gets it back."""
    context = ssl.create_default_context(cafile=made / "ca.pem")
    context.check_hostname = False
    with (
        socket.create_connection(daemon.address("echo"), TIMEOUT) as sock,
        context.wrap_socket(sock) as tls,
    ):
        tls.sendall(b"word")
        assert tls.recv(4) == b"word"
        certificate: Any = tls.getpeercert()
        ((_kind, name),) = certificate["subjectAltName"]
        return str(name)


def renewed(daemon: Daemon, made: Path, name: str) -> None:
    """Renew the certificate; once that is reported, new clients get it within a moment."""
    put(daemon.folder, made, name)
    daemon.wait_event("certificates_loaded", names=[name])
    while name_of(daemon, made) != name:
        """The TLS processes are taking it up."""


def test_a_renewed_certificate_is_in_force_without_a_reload_before_and_after_an_upgrade(
    daemon: Daemon, made: Path
) -> None:
    assert name_of(daemon, made) == "one"
    renewed(daemon, made, "two")
    assert [item["service"] for item in daemon.status()["certificates"]] == ["echo"]
    client.call(daemon.control, "upgrade", {}, TIMEOUT)
    daemon.wait_event("upgraded")
    renewed(daemon, made, "three")
    os.kill(daemon.processes("loop")[0]["pid"], signal.SIGKILL)
    daemon.wait_events(3, "loop_started")
    (shown,) = daemon.status()["certificates"]
    assert 29 * 86400 < shown["left"] <= 30 * 86400


def test_a_bad_certificate_leaves_the_old_in_force(daemon: Daemon, made: Path) -> None:
    shutil.copy(made / "two.key", daemon.folder / "live/privkey.pem")
    reason = daemon.wait_event("certificates_failed")["reason"]
    path = daemon.folder / "live"
    assert reason == (
        f"{path}/fullchain.pem: the private key in {path}/privkey.pem does not belong to the certificate"
    )
    assert name_of(daemon, made) == "one"
    shutil.copy(made / "two.crt", path / "fullchain.pem")
    daemon.wait_event("certificates_loaded", names=["two"])


def verdict(daemon: Daemon, made: Path, name: str, certificate: str | None) -> str:
    """Return the verdict about a client that asks for a name and has a certificate."""
    context = ssl.create_default_context(cafile=made / "ca.pem")
    context.check_hostname = False
    if certificate is not None:
        context.load_cert_chain(made / f"{certificate}.pem")
    with (
        socket.create_connection(daemon.address("ruled"), TIMEOUT) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        tls.sendall(b"word\n")
        return "".join(iter(lambda: tls.recv(100).decode(), ""))


def test_rules_are_about_what_a_handshake_shows(made: Path) -> None:
    encoded = ssl.PEM_cert_to_DER_cert((made / "two.crt").read_text())
    service = {
        "listen": "127.0.0.1:0",
        "program": ["sh", "-c", "read word; echo $WHO"],
        "tls": {
            "mode": "implicit",
            "certificates": str(made / "one.pem"),
            "client_certificates": "request",
            "client_ca": str(made / "ca.pem"),
        },
        "rules": [
            {"from": "sni:denied.example", "deny": True},
            {"from": "san:one", "allow": True, "env": {"WHO": "one"}},
            {"from": f"sha256:{hashlib.sha256(encoded).hexdigest()}", "allow": True, "env": {"WHO": "two"}},
            {"from": "127.0.0.0/8", "allow": True, "env": {"WHO": "somebody"}},
        ],
    }
    with public_folder() as folder, running(folder, {"services": {"ruled": service}}) as daemon:
        assert verdict(daemon, made, "one", "one") == "one\n"
        assert verdict(daemon, made, "one", "two") == "two\n"
        assert verdict(daemon, made, "one", "three") == verdict(daemon, made, "one", None) == "somebody\n"
        with contextlib.suppress(OSError):  # it ends without a word
            assert verdict(daemon, made, "Denied.Example", "one") == ""
        daemon.wait_event("connection_refused", reason="denied")
