"""Ports that tests take are theirs until the process of the tests ends."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import free_ports

SUPPORT = Path(free_ports.__file__).parent
TAKES = "import free_ports; free_ports.PORTS = {ports}; print(free_ports.free_port())"


def others(ports: list[int]) -> str:
    """Return which of the ports another process takes."""
    ended = subprocess.run(
        [sys.executable, "-c", TAKES.format(ports=ports)],
        env=os.environ | {"PYTHONPATH": str(SUPPORT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.stdout.strip() or ended.stderr.splitlines()[-1]


def test_no_client_gets_one() -> None:
    (lowest, _highest) = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert all(port < int(lowest) for port in free_ports.free_ports(10))


@pytest.mark.slow
def test_each_is_given_once_whoever_asks() -> None:
    ours, other = free_ports.free_ports(2)
    assert ours != other
    assert "in use" in others([ours, other])


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_one_that_somebody_has_is_not_given(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        monkeypatch.setattr(free_ports, "PORTS", [taken.getsockname()[1]])
        with pytest.raises(AssertionError, match="in use"):
            free_ports.free_port()
