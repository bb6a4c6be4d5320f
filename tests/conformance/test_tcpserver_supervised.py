"""tcpserver under what supervises it: daemontools, runit, s6, the same of Debian's and of ours; systemd."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon import exchange
from free_ports import free_port
from peers import require
from tcpservers import BOTH, LOOPBACK, QUICK, TIMEOUT, Which, serving

both = pytest.mark.parametrize("which", BOTH, ids=lambda which: which.name)


@dataclass(frozen=True)
class Supervisor:
    """A program that runs a service's folder, the one that sends a command, and the commands."""

    supervise: str
    control: str
    restart: tuple[str, ...]
    stop: tuple[str, ...]


SUPERVISORS = {
    "daemontools": Supervisor("supervise", "svc", ("-t",), ("-dx",)),
    "runit": Supervisor("runsv", "sv", ("term",), ("force-stop",)),
    "s6": Supervisor("s6-supervise", "s6-svc", ("-t",), ("-wD", "-T10000", "-dx")),
}

RUN = """#!/bin/sh
exec 2>>{log}
exec {command} -vRHl0 {host} {port} cat
"""


@dataclass
class Supervised:
    """A tcpserver in a folder."""

    supervisor: Supervisor
    folder: Path
    port: int
    log: Path

    def order(self, *command: str) -> None:
        subprocess.run([self.supervisor.control, *command, str(self.folder)], check=True, timeout=TIMEOUT)

    def connect(self) -> socket.socket:
        """Connect as soon as it listens."""
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                return socket.create_connection((LOOPBACK, self.port), TIMEOUT)

    @property
    def starts(self) -> int:
        """How often it has been started: with a client there, only a new one says that there is none."""
        return self.log.read_text().splitlines().count("tcpserver: status: 0/40")

    def talks(self) -> bool:
        """Return whether a client is served."""
        with self.connect() as client, contextlib.suppress(ConnectionResetError):
            return exchange(client, b"x") == b"x"
        return False


@contextlib.contextmanager
def supervised(which: Which, supervisor: Supervisor, folder: Path) -> Iterator[Supervised]:
    for program in (supervisor.supervise, supervisor.control):
        require(program)
    service = folder / "service"
    service.mkdir()
    log, port = folder / "log", free_port()
    run = service / "run"
    command = " ".join(which.command())
    run.write_text(RUN.format(log=log, command=command, host=LOOPBACK, port=port))
    run.chmod(0o755)
    with subprocess.Popen([supervisor.supervise, str(service)], start_new_session=True) as process:
        it = Supervised(supervisor, service, port, log)
        try:
            assert it.talks()
            yield it
        finally:
            it.order(*supervisor.stop)
            if supervisor.supervise == "runsv":
                it.order("exit")
            process.wait(TIMEOUT)


@both
@pytest.mark.parametrize("name", SUPERVISORS)
def test_it_is_restarted_and_leaves_nothing(which: Which, name: str, tmp_path: Path) -> None:
    with supervised(which, SUPERVISORS[name], tmp_path) as service, service.connect() as client:
        client.sendall(b"before")
        assert client.recv(6, socket.MSG_WAITALL) == b"before"
        service.order(*service.supervisor.restart)
        while service.starts < 2:
            service.talks()
        client.sendall(b"after")
        assert client.recv(5, socket.MSG_WAITALL) == b"after"
    kept = {"run", "supervise", "event"}  # the supervisors' own
    assert {entry.name for entry in service.folder.iterdir()} <= kept
    lines = service.log.read_text().splitlines()
    assert all(line.startswith("tcpserver: ") for line in lines)
    assert [line for line in lines if "warning" in line or "fatal" in line] == []
    assert sorted(os.listdir(tmp_path)) == ["log", "service"]


def test_systemd_is_notified_when_it_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(TIMEOUT)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with serving(BOTH[1], *QUICK, env=env, program=("env", "-0")) as server:
            said = b""
            while b"READY=1" not in said:
                said = manager.recv(4096)
            assert server.environment()["NOTIFY_SOCKET"] == str(tmp_path / "notify")
