"""The servers that ucspid is compared with: how each is started, with which settings."""

import os
import subprocess
from pathlib import Path

from bench.contest import Settings
from bench.floors import Floor, TwoProcesses, Uvloop
from bench.launching import find, lacking, launch, log_file, port_said
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
from bench.unpacking import Unpacked, unpacked

MAX_A_MINUTE = 1_000_000
"""In inetd.conf: starts of a service in a minute, after which inetd would close it for all."""

_SOCKET_ACTIVATE = "systemd-socket-activate"


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

    def __init__(self, settings: Settings) -> None:
        """Run it from where its package is unpacked for this run, if it is not installed."""
        self._settings = settings

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        missing = lacking("inetd", self.name)
        if missing is None:
            return None
        if self._settings.short:
            return f"{missing}; with --short nothing is downloaded"
        return self._unpacked().absent

    def _unpacked(self) -> Unpacked:
        return unpacked(self.name, "usr/sbin/inetd", self._settings.files)

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        ports = [free_port() for _ in range(workload.services)]
        config = workload.files / f"inetd-{ports[0]}.conf"
        user = "root" if os.geteuid() == 0 else str(os.geteuid())
        words = [user, workload.program[0], *workload.program]
        config.write_text(
            "".join(
                f"{LOOPBACK}:{port} stream tcp nowait.{MAX_A_MINUTE} {' '.join(words)}\n" for port in ports
            )
        )
        program = self._unpacked().path if lacking("inetd", self.name) else find("inetd")
        command = [program, "-i", "-R", "0", "-q", str(BACKLOG), str(config)]
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


def all_peers(settings: Settings) -> list[Peer]:
    """Return every peer, installed or not."""
    return [
        Tcpserver(),
        Tcpsvd(),
        Xinetd(),
        OpenbsdInetd(settings),
        SocketActivate(),
        Unavailable("s6-tcpserver", "Debian has s6, but not s6-networking"),
        Unavailable("busybox tcpsvd", "Debian's busybox is built without tcpsvd and inetd"),
        Uvloop(),
        TwoProcesses(),
        Floor(settings.programs.floor),
    ]
