"""The scripts of docs/running.md, under the supervisors that they are for."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from daemon import TIMEOUT, Daemon, exchange
from folders import public_folder
from peers import require

RUNNING = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
ECHO = {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}}
EXECLINE = "/usr/lib/execline/bin"


@dataclass(frozen=True)
class Supervisor:
    """What runs a service's folder, and commands to it: reload, stop, what is its state, end."""

    supervise: str
    reload: tuple[str, ...]
    stop: tuple[str, ...]
    state: tuple[str, ...]
    end: tuple[str, ...]


SUPERVISORS = {
    "runit": Supervisor("runsv", ("sv", "hup"), ("sv", "term"), ("sv", "status"), ("sv", "exit")),
    "daemontools": Supervisor("supervise", ("svc", "-h"), ("svc", "-t"), ("svstat",), ("svc", "-dx")),
    "s6": Supervisor("s6-supervise", ("s6-svc", "-h"), ("s6-svc", "-t"), ("s6-svstat",), ("s6-svc", "-dx")),
}


def scripts(heading: str) -> dict[str, str]:
    """Return what stands under a heading as ucspid/NAME."""
    section = RUNNING.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names = [re.search(r"^# \S*\bucspid/(run|finish)\b", block, re.MULTILINE) for block in blocks]
    return {found[1]: block for found, block in zip(names, blocks, strict=True) if found}


def event(lines: IO[str], name: str) -> dict[str, Any]:
    """Return the next event of a name; pytest ends a wait that is in vain."""
    for line in lines:
        if line.startswith("{") and (said := json.loads(line))["event"] == name:
            return dict(said)
    raise AssertionError(f"no {name}")


@contextmanager
def supervised(supervisor: Supervisor, folder: Path) -> Iterator[IO[str]]:
    """Yield what the daemon prints."""
    environ = {**os.environ, "PATH": os.pathsep.join([os.environ["PATH"], EXECLINE])}
    command = [require(supervisor.supervise), str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            order(supervisor.end, folder)
            process.wait(TIMEOUT)


def order(command: tuple[str, ...], folder: Path) -> str:
    done = subprocess.run(
        [require(command[0]), *command[1:], str(folder)],
        check=False, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("name", SUPERVISORS)
def test_the_scripts_start_reload_and_do_not_try_a_wrong_file_again(name: str) -> None:
    supervisor = SUPERVISORS[name]
    if "execlineb" in scripts(name)["run"]:
        require("execlineb")
    with public_folder() as folder:
        daemon = Daemon(folder, ECHO)
        service = folder / "service"
        service.mkdir()
        for script, text in scripts(name).items():
            mine = rf"{sys.executable} -m ucspid \1 -c {daemon.config_path}"
            (service / script).write_text(re.sub(r"/opt/ucspid/bin/ucspid (\w+)", mine, text))
            (service / script).chmod(0o755)
        (service / "notification-fd").write_text("3\n")
        with supervised(supervisor, service) as lines:
            host, port = event(lines, "listening")["listener"].split(":")
            event(lines, "started")
            with socket.create_connection((host, port), TIMEOUT) as client:
                assert exchange(client, b"x") == b"x"
            order(supervisor.reload, service)
            event(lines, "reloaded")
            daemon.replace("services: {}\n")
            order(supervisor.stop, service)
            event(lines, "drained")
            mistake = next(line for line in lines if "services" in line)
            assert not mistake.startswith("{")
            state = "want up"
            while "want up" in state or not re.search(r"\bdown\b", state):
                state = order(supervisor.state, service)  # until the supervisor has seen the end
