"""A server that is measured: a process of ours that listens, with those below it."""

import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from bench import measure

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
"""Connections that wait in the kernel, for every server that can be set: no client is to try again."""

START_TIMEOUT = 30.0
STOP_TIMEOUT = 30.0
_LOOK_AGAIN = 5
"""Milliseconds between attempts to connect, for servers that do not say when they listen."""

_LEAST_PORT = 10_000
_MAX_TRIES = 1000
_RANDOM = random.SystemRandom()
"""Runs beside each other take different ports."""


class CannotStartError(Exception):
    """A server did not come to listen."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a server is asked to do: the same for all that are compared.

    files is a folder for what the server needs. rules is a text file as tcprules takes it. The limits
    per client are None where there are none.
    """

    program: tuple[str, ...]
    files: Path
    env: Mapping[str, str] = field(default_factory=dict)
    max_connections: int = 400
    max_per_ip: int | None = None
    rate_per_ip: str | None = None
    logs: bool = False
    rules: Path | None = None
    services: int = 1


class Server:
    """A running server; a context manager that ends it."""

    share = 1.0
    """Which part of a case's connections it gets: less for one so slow that the others would wait for it."""

    def __init__(self, process: subprocess.Popen[Any], ports: Sequence[int]) -> None:
        """Take over a process that listens on the ports, one for each service."""
        self.process = process
        self.ports = list(ports)

    @property
    def port(self) -> int:
        """Return the port of the first service."""
        return self.ports[0]

    def pids(self) -> list[int]:
        """Return the processes of the server itself, without the programs it runs."""
        return [self.process.pid]

    def roles(self) -> dict[str, list[int]]:
        """Return its processes by what they do; where all do the same, that has no name."""
        return {"": self.pids()}

    def stay(self, seconds: float) -> None:
        """Let it be for so long, or until it ends."""
        with os.fdopen(os.pidfd_open(self.process.pid), "rb") as pidfd:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(seconds * 1e3)

    def stop(self) -> None:
        """End it, and whatever it started: by process id."""
        below = {pid: measure.start_time(pid) for pid in measure.descendants(self.process.pid)[1:]}
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        for pid, began in below.items():
            kill_left(pid, began)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


class Peer(Protocol):
    """A kind of server."""

    name: str

    def absent(self) -> str | None:
        """Return why it cannot be measured on this machine, or None if it can."""

    def start(self, workload: Workload) -> Server:
        """Start it and wait until it listens. Raises CannotStartError."""


def free_port() -> int:
    """Return a port that nobody listens on now, for servers that cannot choose one themselves.

    It is below those that the kernel gives to clients: one of them could get it before the server does.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = _RANDOM.sample(range(_LEAST_PORT, max(2 * _LEAST_PORT, lowest)), _MAX_TRIES)
    return next(filter(_is_free, ports))


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def wait_until_listening(process: subprocess.Popen[Any], port: int) -> None:
    """Wait until a process accepts connections on a port. Raises CannotStartError if it ends."""
    deadline = time.monotonic() + START_TIMEOUT
    with os.fdopen(os.pidfd_open(process.pid), "rb") as pidfd:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while time.monotonic() < deadline:
            if _answers(port):
                return
            if poll.poll(_LOOK_AGAIN):
                raise CannotStartError(f"{process.args!r} ended: exit {process.wait()}")
    process.kill()
    process.wait()
    raise CannotStartError(f"{process.args!r} does not listen on {port}")


def _answers(port: int) -> bool:
    """Return whether somebody else listens on a port; let the program that was started for it end."""
    with socket.socket() as sock:
        # A port from which connections are made may be given to this one: then it meets itself.
        if sock.connect_ex((LOOPBACK, port)) or sock.getsockname() == sock.getpeername():
            return False
        sock.settimeout(START_TIMEOUT)
        with contextlib.suppress(OSError):  # whatever becomes of the connection, somebody has taken it
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                """What the program says is of no interest."""
    return True


def kill_left(pid: int, began: str) -> None:
    """Kill a process that the server left behind, and no other that has got its number since."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(pidfd, "rb"):
        if began and measure.start_time(pid) == began:
            with contextlib.suppress(ProcessLookupError):  # it may end at any moment, by itself
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
