"""An installation as the README says it, on a host with systemd."""

import pytest
import yaml

from container import Container

pytestmark = pytest.mark.timeout(200)

CONFIG = {
    "user": "ucspid",
    "control": "/run/ucspid/control",
    "services": {"echo": {"listen": "127.0.0.1:7010", "program": ["cat"]}},
}


def test_it_is_installed_runs_and_is_removed(container: Container) -> None:
    command = "/opt/ucspid/bin/ucspid"
    said = container.run(command, "install", "--write")
    assert "made      user ucspid" in said
    assert "run       systemctl daemon-reload" in said
    container.write("/etc/ucspid/ucspid.yaml", yaml.safe_dump(CONFIG))
    container.run("ucspid", "check")
    container.run("systemctl", "enable", "--now", "ucspid")
    assert "echo" in container.run("ucspid", "status")
    assert "still" in container.run(
        "python3", "-c",
        "import socket; sock = socket.create_connection(('127.0.0.1', 7010), 20); sock.sendall(b'still'); "
        "print(sock.recv(10))",
    )  # fmt: skip
    assert "is there" in container.run(command, "install")
    said = container.run(command, "uninstall", "--write")
    assert "kept      folder /etc/ucspid: it is not empty" in said
    assert container.attempt("systemctl", "status", "ucspid").returncode == 4
    assert container.attempt("id", "ucspid").returncode != 0
