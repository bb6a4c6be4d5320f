"""The tools of UCSPI as programs, whoever made them, and what came of running one."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from private_network import PrivateNetwork

TIMEOUT = 40.0
"""Seconds: the resolver of the originals takes its time with a server that fails."""
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Ended:
    """What a tool did: its exit code, negative for a signal, what it wrote, and its process id."""

    code: int
    out: bytes
    err: bytes
    pid: int

    @property
    def lines(self) -> list[str]:
        """What it wrote to descriptor 2."""
        return self.err.decode("latin-1").splitlines()


@dataclass
class Tools:
    """One implementation: a folder with a program for each tool."""

    name: str
    folder: Path
    network: PrivateNetwork | None = None
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})

    @property
    def ours(self) -> bool:
        return self.name == "ucspid"

    def within(self, network: PrivateNetwork) -> "Tools":
        """Return the same tools, run inside a private network."""
        return Tools(self.name, self.folder, network, self.env)

    def command(self, tool: str, *arguments: str | bytes) -> list[str | bytes]:
        command: list[str | bytes] = [str(self.folder / tool), *arguments]
        return command if self.network is None else [*self.network.command(), *command]

    def start(
        self, tool: str, *arguments: str | bytes, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a tool with pipes for 0, 1 and 2 unless options of Popen say otherwise."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        whole = {**self.env, **(env or {})}
        return subprocess.Popen(self.command(tool, *arguments), **{**pipes, "env": whole, **options})

    def run(
        self,
        tool: str,
        *arguments: str | bytes,
        given: bytes = b"",
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Ended:
        """Run a tool to its end."""
        with self.start(tool, *arguments, env=env, **options) as process:
            try:
                out, err = process.communicate(given, TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Ended(process.returncode, out or b"", err or b"", process.pid)

    def shell(self, script: str, *arguments: str, given: bytes = b"") -> Ended:
        """Run a script of the shell in which each tool is a variable: $argv0, $mconnect_io."""
        names: Sequence[str] = sorted(path.name for path in self.folder.iterdir() if "@" not in path.name)
        env = {name.replace("-", "_"): str(self.folder / name) for name in names if name in TOOLS}
        command = ["/bin/sh", "-c", script, "sh", *arguments]
        if self.network is not None:
            command = self.network.command(*command)
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.env, **env},
        ) as process:
            out, err = process.communicate(given, TIMEOUT)
        return Ended(process.returncode, out, err, process.pid)


TOOLS = (
    "addcr", "argv0", "delcr", "fixcrio", "mconnect", "mconnect-io", "rblsmtpd", "recordio", "tcpcat",
    "tcpclient", "tcprules", "tcprulescheck",
)  # fmt: skip


def environment_of(ended: Ended) -> dict[str, str]:
    """Return the variables that env -0 printed."""
    items = [item.decode("latin-1").partition("=") for item in ended.out.split(b"\0") if item]
    return {name: value for name, _equals, value in items}


def connection_variables(ended: Ended) -> dict[str, str]:
    """Return those of a connection."""
    return {name: value for name, value in environment_of(ended).items() if name.startswith(("TCP", "PROTO"))}
