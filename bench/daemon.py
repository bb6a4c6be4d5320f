"""ucspid as a server to be measured."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench import measure
from bench.server import BACKLOG, LOOPBACK, CannotStartError, Server, Workload
from ucspid.cli import client

TIMEOUT = 60.0


class Ucspid(Server):
    """A running daemon."""

    def __init__(self, process: subprocess.Popen[Any], control: Path, started_in: float) -> None:
        """Ask it what it listens on; started_in are the seconds until it was ready."""
        self.control = control
        self.started_in = started_in
        status = self.status()
        addresses = {item["service"]: item["address"] for item in status["listeners"]}
        super().__init__(process, [int(addresses[name].rpartition(":")[2]) for name in sorted(addresses)])

    def status(self) -> dict[str, Any]:
        """Return what `ucspid status --json` prints."""
        return client.call(self.control, "status", {}, TIMEOUT)

    def reload(self) -> None:
        """Have it read its file again, and wait until that is done."""
        client.call(self.control, "reload", {}, TIMEOUT)

    def pids(self) -> list[int]:
        """Return master, loop and launchers; launchers come as they are needed."""
        return [self.process.pid, *(pid for pid in measure.children(self.process.pid) if _is_ours(pid))]

    def roles(self) -> dict[str, list[int]]:
        """Return master, loop, launchers and, where there is TLS, its processes, by role."""
        pids: dict[str, list[int]] = {"master": [], "loop": [], "launcher": []}
        for process in self.status()["processes"]:
            pids.setdefault(process["role"], []).append(process["pid"])
        return pids

    def named(self, name: str) -> list[int]:
        """Return the children of the master with a name."""
        return [pid for pid in measure.children(self.process.pid) if _name(pid) == name]

    def loop(self) -> int:
        """Return the process of the event loop."""
        return self.roles()["loop"][0]


def _is_ours(pid: int) -> bool:
    return _name(pid).startswith("ucspid: ")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


class UcspidPeer:
    """How ucspid is started.

    config is added to its file, service to each of its services, and what of_each returns to the one with
    that number.
    """

    def __init__(
        self,
        name: str = "ucspid",
        *,
        config: dict[str, Any] | None = None,
        service: dict[str, Any] | None = None,
        of_each: Callable[[int], dict[str, Any]] | None = None,
    ) -> None:
        """Take what differs from a plain configuration."""
        self.name = name
        self._config = config or {}
        self._service = service or {}
        self._of_each = of_each or (lambda _number: {})

    def absent(self) -> str | None:
        """Return None."""
        return None

    def start(self, workload: Workload) -> Ucspid:
        """Start it and wait for its readiness message."""
        folder = workload.files / f"{self.name.replace(' ', '-')}-{time.monotonic_ns()}"
        folder.mkdir(mode=0o755)
        path = folder / "ucspid.yaml"
        path.write_text(yaml.dump(self._file(workload, folder), Dumper=_Plain, sort_keys=False))
        reading, writing = os.pipe()
        began = time.monotonic()
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ucspid", "run", "-c", str(path), "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(writing,),
            )
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        if said != b"\n":
            process.kill()  # it ends by itself, unless something is very wrong
            exit_ = process.wait()
            raise CannotStartError((folder / "log").read_text() or f"exit {exit_}")
        return Ucspid(process, folder / "control", time.monotonic() - began)

    def _file(self, workload: Workload, folder: Path) -> dict[str, Any]:
        limits = {"max_connections": workload.max_connections, "max_per_ip": workload.max_per_ip}
        service: dict[str, Any] = {
            "listen": f"{LOOPBACK}:0",
            "program": list(workload.program),
            "env": dict(workload.env),
            "backlog": BACKLOG,
            "rate_per_ip": workload.rate_per_ip,
            "kill_timeout": 1,
            "drain_timeout": 1,
            **limits,
            **self._service,
        }
        if service.keys() & {"python", "module", "forward"}:
            del service["program"]
        if workload.rules is not None:
            service["rules"] = str(workload.rules)
        return {
            "control": str(folder / "control"),
            "log": {"format": "json", "level": "info" if workload.logs else "warning"},
            "limits": {"max_connections": workload.max_connections},
            "services": {
                f"bench{number:05}": service | self._of_each(number) for number in range(workload.services)
            },
            **self._config,
        }


class _Plain(yaml.SafeDumper):
    """Writes every service in full, as people do."""

    def ignore_aliases(self, data: Any) -> bool:
        """Say that nothing is written as a reference."""
        return data is not None or super().ignore_aliases(data)
