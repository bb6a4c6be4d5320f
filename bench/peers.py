"""The servers that ucspid is compared with: how each is started, with what it can be told."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from bench.server import (
    BACKLOG,
    LOOPBACK,
    CannotStartError,
    Peer,
    Server,
    Workload,
    free_port,
    wait_until_listening,
)

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
MOST_A_MINUTE = 1_000_000
"""In inetd.conf: starts of a service in a minute, after which inetd would close it for all."""

_SOCKET_ACTIVATE = "systemd-socket-activate"


def find(program: str) -> str:
    """Return the path of a program that is installed."""
    path = shutil.which(program, path=_PATH)
    assert path is not None
    return path


def lacking(program: str, package: str) -> str | None:
    """Return why a program cannot be had, or None if it is there."""
    if shutil.which(program, path=_PATH) is not None:
        return None
    return f"{program} is not installed (Debian package: {package})"


def launch(
    command: Sequence[str], workload: Workload, log: IO[bytes] | int, *, says_port: bool
) -> subprocess.Popen[bytes]:
    """Start a server with an environment of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if says_port else log,
        stderr=log,
        env={"PATH": _PATH, **workload.env},
    )


def port_said(process: subprocess.Popen[bytes]) -> int:
    """Return the port that a server writes when it listens. Raises CannotStartError."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CannotStartError(f"{process.args!r} ended: exit {process.wait()}")
    return int(line)


def log_file(workload: Workload, name: str) -> IO[bytes]:
    """Return a file for the log of a server."""
    return (workload.files / f"{name}.log").open("ab")


class Tcpserver:
    """Of ucspi-tcp: accept, fork, exec."""

    name = "tcpserver"

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("tcpserver", "ucspi-tcp")

    def start(self, workload: Workload) -> Server:
        """Start it with all look-ups off."""
        options = ["-1HRl0", "-v" if workload.logs else "-q"]
        options += ["-c", str(workload.max_connections), "-b", str(BACKLOG)]
        options += ["-x", _compiled(workload.rules)] if workload.rules else []
        command = [find("tcpserver"), *options, LOOPBACK, "0", *workload.program]
        with log_file(workload, self.name) as log:
            process = launch(command, workload, log, says_port=True)
        return Server(process, [port_said(process)])


def _compiled(rules: Path) -> str:
    compiled, new = rules.with_suffix(".cdb"), rules.with_suffix(".new")
    with rules.open("rb") as text:
        subprocess.run([find("tcprules"), str(compiled), str(new)], stdin=text, check=True, timeout=30)
    return str(compiled)


class Tcpsvd:
    """Of ipsvd: as tcpserver, with a limit per client."""

    name = "tcpsvd"

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("tcpsvd", "ipsvd")

    def start(self, workload: Workload) -> Server:
        """Start it."""
        port = free_port()
        options = ["-v"] if workload.logs else []
        options += ["-l", "0", "-c", str(workload.max_connections), "-b", str(BACKLOG)]
        if workload.max_per_ip is not None:
            options += ["-C", str(workload.max_per_ip)]
        command = [find("tcpsvd"), *options, LOOPBACK, str(port), *workload.program]
        with log_file(workload, self.name) as log:
            process = launch(command, workload, log, says_port=False)
        wait_until_listening(process, port)
        return Server(process, [port])


class Xinetd:
    """Many services in one process; here without its limits on rates, which close a service for all."""

    name = "xinetd"

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("xinetd", "xinetd")

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        ports = [free_port() for _ in range(workload.services)]
        config = workload.files / f"xinetd-{ports[0]}.conf"
        config.write_text("".join(_xinetd_service(workload, port) for port in ports))
        command = [find("xinetd"), "-dontfork", "-f", str(config), "-pidfile", f"{config}.pid"]
        with log_file(workload, self.name) as log:
            process = launch(command, workload, log, says_port=False)
        wait_until_listening(process, ports[-1])
        return Server(process, ports)


def _xinetd_service(workload: Workload, port: int) -> str:
    settings = {
        "type": "UNLISTED",
        "socket_type": "stream",
        "protocol": "tcp",
        "wait": "no",
        "user": "root" if os.geteuid() == 0 else str(os.geteuid()),
        "bind": LOOPBACK,
        "port": str(port),
        "server": workload.program[0],
        "instances": str(workload.max_connections),
        "per_source": "UNLIMITED" if workload.max_per_ip is None else str(workload.max_per_ip),
        "cps": "1000000 1",
    }
    if len(workload.program) > 1:
        settings["server_args"] = " ".join(workload.program[1:])
    if workload.env:
        settings["env"] = " ".join(f"{name}={value}" for name, value in workload.env.items())
    lines = [f"\t{key} = {value}\n" for key, value in settings.items()]
    return f"service bench-{port}\n{{\n{''.join(lines)}}}\n"


class OpenbsdInetd:
    """The classic inetd, with its limit on rates off."""

    name = "openbsd-inetd"

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("inetd", "openbsd-inetd")

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        ports = [free_port() for _ in range(workload.services)]
        config = workload.files / f"inetd-{ports[0]}.conf"
        user = "root" if os.geteuid() == 0 else str(os.geteuid())
        words = [user, workload.program[0], *workload.program]
        config.write_text(
            "".join(
                f"{LOOPBACK}:{port} stream tcp nowait.{MOST_A_MINUTE} {' '.join(words)}\n" for port in ports
            )
        )
        command = [find("inetd"), "-i", "-R", "0", "-q", str(BACKLOG), str(config)]
        with log_file(workload, self.name) as log:
            process = launch(command, workload, log, says_port=False)
        wait_until_listening(process, ports[-1])
        return Server(process, ports)


class SocketActivate:
    """systemd's accept, fork, exec without the manager: a lower bound for Accept=yes units."""

    name = _SOCKET_ACTIVATE

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking(_SOCKET_ACTIVATE, "systemd")

    def start(self, workload: Workload) -> Server:
        """Start it; its log of every connection goes nowhere."""
        port = free_port()
        options = ["-l", f"{LOOPBACK}:{port}", "--accept", "--inetd"]
        command = [find(_SOCKET_ACTIVATE), *options, *workload.program]
        process = launch(command, workload, subprocess.DEVNULL, says_port=False)
        wait_until_listening(process, port)
        return Server(process, [port])


class Uvloop:
    """A floor: uvloop's own subprocess_exec, what a plain asyncio superserver would be."""

    name = "uvloop subprocess_exec"

    def absent(self) -> str | None:
        """Return None: ucspid has uvloop."""
        return None

    def start(self, workload: Workload) -> Server:
        """Start it."""
        command = [sys.executable, str(Path(__file__).with_name("naive_uvloop.py")), *workload.program]
        process = launch(command, workload, subprocess.DEVNULL, says_port=True)
        return Server(process, [port_said(process)])


class Floor:
    """A floor in C: accept, vfork, exec; or accept and close."""

    def __init__(self, program: str, kind: str = "exec") -> None:
        """Use the compiled program."""
        self.name = f"C {'accept+vfork+exec' if kind == 'exec' else 'accept+close'}"
        self._command = [program, kind]

    def absent(self) -> str | None:
        """Return None: without a compiler there is no bench at all."""
        return None

    def start(self, workload: Workload) -> Server:
        """Start it."""
        program = workload.program if self._command[1] == "exec" else ()
        process = launch([*self._command, *program], workload, subprocess.DEVNULL, says_port=True)
        return Server(process, [port_said(process)])


class Unavailable:
    """A peer that Debian does not have, or has without the part that is wanted: it is said, not left out."""

    def __init__(self, name: str, reason: str) -> None:
        """Say why."""
        self.name = name
        self._reason = reason

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return self._reason

    def start(self, workload: Workload) -> Server:
        """Raise: there is nothing to start."""
        raise CannotStartError(f"{self._reason}: {workload.program}")


def all_peers(floor: str) -> list[Peer]:
    """Return every peer, installed or not; floor is the path of the compiled C program."""
    return [
        Tcpserver(),
        Tcpsvd(),
        Xinetd(),
        OpenbsdInetd(),
        SocketActivate(),
        Unavailable("s6-tcpserver", "Debian has s6, but not s6-networking"),
        Unavailable("busybox tcpsvd", "Debian's busybox is built without tcpsvd and inetd"),
        Uvloop(),
        Floor(floor),
    ]
