"""Round trips of socket units: what systemd's own accept does, ucspid does with what was imported."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from folders import public_folder
from free_ports import free_ports
from imported import (
    HOLD,
    LOOPBACK,
    REPORT,
    accepted,
    ask,
    imported,
    running_text,
    serving,
    variables,
    write_program,
)

ACTIVATE = peers.require("systemd-socket-activate")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="services take users' rights, which takes root")


@pytest.fixture
def folder() -> Iterator[Path]:
    with public_folder() as path:
        write_program(path / "report", REPORT)
        write_program(path / "hold", HOLD)
        yield path


def without_limits(answer: list[str]) -> list[str]:
    """Leave out what systemd lowers for what it starts, whatever the units say: the limit of descriptors."""
    return [line for line in answer if not line.startswith("limits ")]


def units(folder: Path, name: str, sock: str, service: str) -> Path:
    (folder / f"{name}@.service").write_text(f"[Service]\nStandardInput=socket\n{service}")
    path = folder / f"{name}.socket"
    path.write_text(f"[Socket]\nAccept=yes\n{sock}")
    return path


def test_a_connection_gets_the_same_program(folder: Path) -> None:
    (port,) = free_ports(1)
    path = units(
        folder,
        "report",
        f"ListenStream={LOOPBACK}:{port}\n",
        f"ExecStart={folder}/report one 'two  three' ${{GREETING}}\nEnvironment=GREETING=hello 'MORE=a b'\n",
    )
    text, description = imported(path)
    assert list(description.all_notes()) == []
    activate = [
        ACTIVATE,
        "-l",
        f"{LOOPBACK}:{port}",
        "--accept",
        "--inetd",
        "-E",
        "GREETING=hello",
        "-E",
        "MORE=a b",
    ]
    with serving([*activate, folder / "report", "one", "two  three", "hello"], port):
        theirs = without_limits(ask(port))
    with running_text(folder, text):
        assert without_limits(ask(port)) == theirs
        given = variables(port)
    assert given["REMOTE_ADDR"] == LOOPBACK
    assert given["REMOTE_PORT"].isdecimal()


def test_limits_refuse_as_systemd_does(folder: Path) -> None:
    """systemd-socket-activate has no limits: these are systemd.socket(5)'s."""
    (port, other) = free_ports(2)
    execute = f"ExecStart={folder}/hold\nUser=daemon\n"
    text, description = imported(
        units(folder, "few", f"ListenStream={LOOPBACK}:{port}\nMaxConnections=2\n", execute),
        units(folder, "each", f"ListenStream={LOOPBACK}:{other}\nMaxConnectionsPerSource=1\n", execute),
    )
    assert list(description.all_notes()) == []
    with running_text(folder, text):
        assert accepted(port, 3) == ["ready\n", "ready\n", ""]
        assert accepted(other, 2) == ["ready\n", ""]
        assert accepted(other, 1, "127.0.0.2") == ["ready\n"]
