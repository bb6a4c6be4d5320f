"""The servers that ucspid's TLS is compared with: each forwards to a backend, with one process or thread."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench import measure
from bench.launching import find, lacking, launch, log_file, port_said
from bench.peers import Tcpserver
from bench.server import LOOPBACK, Server, Workload, free_port, wait_until_listening

_OPENSSL_TIMEOUT = 30.0
_SHARE_OF_PROCESSES = 0.1
KINDS = {
    "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "rsa": ("-newkey", "rsa:2048"),
}
"""Keys, as openssl req makes them."""


@dataclass(frozen=True)
class Behind:
    """What servers have in common: a file with certificate and key, if there is TLS; the backend's port."""

    pem: Path | None
    backend: int


def certificate(folder: Path, name: str, kind: str) -> Path:
    """Make a certificate of a kind of KINDS, signed by itself, and its key; return the file with both."""
    pem, key = folder / f"{kind}.pem", folder / f"{kind}.key"
    if pem.exists():
        return pem
    command = ["openssl", "req", "-x509", "-nodes", *KINDS[kind], "-days", "30", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True, timeout=_OPENSSL_TIMEOUT)
    with pem.open("a") as file:
        file.write(key.read_text())
    return pem


@contextlib.contextmanager
def backend(program: str, files: Path) -> Iterator[int]:
    """Run what all servers but ucspid forward to, which is not counted; yield its port."""
    process = launch(
        [program, "listen"], Workload(program=(), files=files), subprocess.DEVNULL, says_port=True
    )
    try:
        yield port_said(process)
    finally:
        with Server(process, []):
            """It ends with what it has started."""


class Forwarder(Server):
    """A running server that forwards."""

    def pids(self) -> list[int]:
        """Return all its processes."""
        return measure.descendants(self.process.pid)


class _Slow(Forwarder):
    """A server with a process for each connection: it gets fewer."""

    share = _SHARE_OF_PROCESSES


def _started(name: str, command: list[str], port: int, workload: Workload) -> Forwarder:
    with log_file(workload, name) as log:
        process = launch(command, workload, log, says_port=False)
    wait_until_listening(process, port)
    return Forwarder(process, [port])


def _as_nobody(setting: str) -> str:
    return setting if os.geteuid() == 0 else ""


def _if_tls(setting: str, behind: Behind) -> str:
    return "" if behind.pem is None else f"{setting}{behind.pem}"


class Stunnel:
    """One process with a thread for each connection."""

    name = "stunnel"

    def __init__(self, behind: Behind) -> None:
        """Forward to what is behind."""
        self._behind = behind

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("stunnel4", "stunnel4")

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        port = free_port()
        config = workload.files / f"stunnel-{port}.conf"
        config.write_text(
            "foreground = yes\npid =\nsyslog = no\ndebug = 0\noutput = /dev/null\n"
            + _as_nobody("setuid = nobody\n")
            + f"[bench]\naccept = {LOOPBACK}:{port}\nconnect = {LOOPBACK}:{self._behind.backend}\n"
            + f"cert = {self._behind.pem}\n"
            + "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        )
        return _started(self.name, [find("stunnel4"), str(config)], port, workload)


class Haproxy:
    """One process with one thread."""

    name = "haproxy"

    def __init__(self, behind: Behind) -> None:
        """Forward to what is behind."""
        self._behind = behind

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("haproxy", "haproxy")

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        port = free_port()
        config = workload.files / f"haproxy-{port}.cfg"
        config.write_text(
            f"global\n maxconn {workload.max_connections}\n nbthread 1\n{_as_nobody(' user nobody')}\n"
            "defaults\n mode tcp\n timeout client 10m\n timeout server 10m\n timeout connect 10s\n"
            f"listen bench\n bind {LOOPBACK}:{port}{_if_tls(' ssl crt ', self._behind)}\n"
            f" server backend {LOOPBACK}:{self._behind.backend}\n"
        )
        return _started(self.name, [find("haproxy"), "-f", str(config)], port, workload)


class Hitch:
    """One worker, and its master."""

    name = "hitch"

    def __init__(self, behind: Behind) -> None:
        """Forward to what is behind."""
        self._behind = behind

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("hitch", "hitch")

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        port = free_port()
        config = workload.files / f"hitch-{port}.conf"
        config.write_text(
            f'frontend = "[{LOOPBACK}]:{port}"\nbackend = "[{LOOPBACK}]:{self._behind.backend}"\n'
            f'pem-file = "{self._behind.pem}"\nworkers = 1\ndaemon = off\ntls-protos = TLSv1.2 TLSv1.3\n'
            'ocsp-verify-staple = off\nocsp-dir = ""\n' + _as_nobody('user = "nobody"\n')
        )
        return _started(self.name, [find("hitch"), f"--config={config}"], port, workload)


class StunnelFromTcpserver:
    """A stunnel for each connection, as from inetd; tcpserver starts them."""

    name = "stunnel from tcpserver"

    def __init__(self, behind: Behind) -> None:
        """Forward to what is behind."""
        self._behind = behind

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("stunnel4", "stunnel4") or Tcpserver().absent()

    def start(self, workload: Workload) -> Server:
        """Start tcpserver."""
        config = workload.files / f"stunnel-inetd-{self._behind.backend}.conf"
        config.write_text(
            "pid =\nsyslog = no\ndebug = 0\noutput = /dev/null\n"
            f"connect = {LOOPBACK}:{self._behind.backend}\ncert = {self._behind.pem}\n"
        )
        running = Tcpserver().start(replace(workload, program=(find("stunnel4"), str(config))))
        return _Slow(running.process, running.ports)


class Socat:
    """A process for each connection, forked."""

    name = "socat"

    def __init__(self, behind: Behind) -> None:
        """Forward to what is behind."""
        self._behind = behind

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("socat", "socat")

    def start(self, workload: Workload) -> Server:
        """Start it."""
        port = free_port()
        tls = _if_tls(",verify=0,cert=", self._behind)
        listening = f"{'OPENSSL' if tls else 'TCP'}-LISTEN:{port},bind={LOOPBACK},reuseaddr,fork,nodelay{tls}"
        command = [find("socat"), listening, f"TCP:{LOOPBACK}:{self._behind.backend},nodelay"]
        forwarder = _started(self.name, command, port, workload)
        return _Slow(forwarder.process, forwarder.ports)


class XinetdRedirect:
    """A process for each connection, forked, without TLS."""

    name = "xinetd"

    def __init__(self, behind: Behind) -> None:
        """Forward to what is behind."""
        self._behind = behind

    def absent(self) -> str | None:
        """Return why it cannot be measured."""
        return lacking("xinetd", "xinetd")

    def start(self, workload: Workload) -> Server:
        """Start it in the foreground."""
        port = free_port()
        config = workload.files / f"xinetd-redirect-{port}.conf"
        config.write_text(
            f"service bench-{port}\n{{\n type = UNLISTED\n socket_type = stream\n protocol = tcp\n"
            " wait = no\n"
            f" user = {'nobody' if os.geteuid() == 0 else os.geteuid()}\n bind = {LOOPBACK}\n port = {port}\n"
            f" redirect = {LOOPBACK} {self._behind.backend}\n instances = UNLIMITED\n cps = 1000000 1\n}}\n"
        )
        command = [find("xinetd"), "-dontfork", "-f", str(config), "-pidfile", f"{config}.pid"]
        return _started(self.name, command, port, workload)
