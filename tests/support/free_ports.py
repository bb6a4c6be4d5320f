"""Ports for servers that cannot be given port 0: a file names it, or two of them are to have the same."""

import fcntl
import functools
import itertools
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(10_000, max(20_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])))
"""Below those of clients: one that has ended keeps its port from listeners for a minute."""

_RANDOM = random.SystemRandom()
"""Tests that are repeated in the same order take other ports."""


class _Reserved:
    """The ports that this process has taken: for each, it has locked a byte of a file that all share."""

    def __init__(self) -> None:
        path = Path(tempfile.gettempdir()) / f"ucspid-test-ports-{os.geteuid()}"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._ports: set[int] = set()

    def take(self, port: int) -> bool:
        """Take a port until this process ends, unless somebody has it."""
        if port in self._ports:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._ports.add(port)
        return True


@functools.cache
def _reserved() -> _Reserved:
    return _Reserved()


def free_ports(count: int) -> list[int]:
    """Return different ports on which nobody listens, and which no client and no other test will have."""
    free = (
        port
        for port in _RANDOM.sample(PORTS, min(len(PORTS), 1000))
        if _is_free(port) and _reserved().take(port)
    )
    ports = list(itertools.islice(free, count))
    assert len(ports) == count, "the ports of this host are in use"
    return ports


def free_port() -> int:
    """Return one port as free_ports() does."""
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    families = [(socket.AF_INET, "")] + [(socket.AF_INET6, "::")] * socket.has_dualstack_ipv6()
    for family, host in families:
        with socket.socket(family) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True
