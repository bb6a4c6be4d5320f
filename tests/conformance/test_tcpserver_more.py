"""What only our tcpserver has: IPv6, as ucspi-tcp6 has it, and long options."""

import contextlib
import functools
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dns_server
from daemon import receive_all
from folders import public_folder
from private_network import PrivateNetwork, private_network
from tcpservers import BOTH, TIMEOUT, TcpServer, compiled, normal, parse_environment, serving, usage_of

OURS = BOTH[1]
SERVER, CLIENT = "2001:db8::25", "2001:db8::7"
QUICK = ("-R", "-H", "-l0")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[PrivateNetwork]:
    with private_network(tmp_path, addresses=[f"{SERVER}/128", f"{CLIENT}/128"]) as inside:
        yield inside


@contextlib.contextmanager
def inside(network: PrivateNetwork, *arguments: str, **settings: Any) -> Iterator[TcpServer]:
    settings = {"program": ("env", "-0"), "prefix": network.command, "cwd": "/", **settings}
    with serving(OURS, *arguments, **settings) as server:
        yield server


def told(network: PrivateNetwork, server: TcpServer, host: str, source: str = "") -> dict[str, str]:
    """Return the variables of a connection, empty if there is none."""
    connect = functools.partial(
        socket.create_connection, (host, server.port), TIMEOUT, source_address=(source, 0) if source else None
    )
    try:
        with network.call(connect) as client:
            got = parse_environment(receive_all(client))
    except ConnectionRefusedError:
        return {}
    return {name: got[name] for name in got if name.startswith(("TCP", "PROTO"))}


@pytest.mark.parametrize(
    ("arguments", "host", "families"),
    [
        ((), "0", "4"),
        (("-4",), "0", "4"),
        (("-6",), "0", "6"),
        (("-6",), "::", "6"),
        ((), "::", "6"),
        (("-46",), "0", "46"),
        ((), ":0", "46"),
        ((), SERVER, "6"),
    ],
)
def test_the_families(network: PrivateNetwork, arguments: tuple[str, ...], host: str, families: str) -> None:
    with inside(network, *QUICK, *arguments, host=host) as server:
        assert bool(told(network, server, "127.0.0.1")) == ("4" in families)
        assert bool(told(network, server, SERVER)) == ("6" in families)


def test_the_variables_over_ipv6(network: PrivateNetwork) -> None:
    with inside(network, "-v6", *QUICK, host="0") as server:
        got = told(network, server, SERVER, CLIENT)
        port = got["TCPREMOTEPORT"]
        assert got == {
            "PROTO": "TCP6",
            **{f"{proto}LOCALIP": SERVER for proto in ("TCP", "TCP6")},
            **{f"{proto}LOCALPORT": str(server.port) for proto in ("TCP", "TCP6")},
            **{f"{proto}REMOTEIP": CLIENT for proto in ("TCP", "TCP6")},
            **{f"{proto}REMOTEPORT": port for proto in ("TCP", "TCP6")},
            "TCPLOCALHOST": "0",
            "TCP6LOCALHOST": "0",
        }
        server.wait_lines(6)
        assert f"tcpserver: ok P1 0:{SERVER}:PORT :{CLIENT}::N" in normal(server.end(), server)


def test_both_families_show_ipv4_as_it_is(network: PrivateNetwork) -> None:
    with inside(network, *QUICK, host=":0") as server:
        got = told(network, server, "127.0.0.1")
        assert (got["PROTO"], got["TCPREMOTEIP"], got["TCPLOCALIP"]) == ("TCP", "127.0.0.1", "127.0.0.1")
        assert not any(name.startswith("TCP6") for name in got)


def test_names_have_ipv6_addresses(network: PrivateNetwork) -> None:
    zone: dns_server.Zone = {"mx.test AAAA": [SERVER], "mx.test A": ["127.0.0.1"]}
    with network.serving_names(zone), inside(network, "-6", *QUICK, host="mx.test") as server:
        assert told(network, server, SERVER)["TCPLOCALIP"] == SERVER


def test_an_interface_for_an_address_of_a_link(network: PrivateNetwork) -> None:
    link = "fe80::25"
    network.add_address(f"{link}/64")
    with inside(network, "-I", "lo", *QUICK, host=link) as server:
        assert told(network, server, f"{link}%lo")["TCPLOCALIP"] == link


def test_what_is_wrong_is_named() -> None:
    fatal = b"tcpserver: fatal: "
    assert usage_of(OURS, "-I", "nowhere0", "0", "0", "cat") == (
        111,
        fatal + b"unable to find interface nowhere0\n",
    )
    assert usage_of(OURS, "fe80::z", "0", "cat") == (111, fatal + b"no IP address for fe80::z\n")


# What tcpserver lacks


def test_a_client_has_a_limit_of_its_own() -> None:
    options = ("--max-per-ip", "1", "--refuse-message", "busy")
    with serving(OURS, "-v", *options, *QUICK) as server, server.connect() as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        assert server.talk() == b"busy"
        assert server.talk(b"y", source="127.0.0.2") == b"y"
        said = b"".join(server.wait_lines(14))
        denied = [line for line in said.splitlines() if b"tcpserver: deny " in line]
        assert [line.split()[-1] for line in denied] == [b"per_ip"]


def test_a_client_has_a_rate_of_its_own() -> None:
    with serving(OURS, "--rate-per-ip=1/d", *QUICK) as server:
        assert server.talk(b"x") == b"x"
        assert server.talk(b"x") == b""
        assert server.talk(b"x", source="127.0.0.2") == b"x"


def test_rules_set_no_limits_but_those_of_the_command_line_hold() -> None:
    with public_folder() as folder:
        cdb = compiled(folder, "127.0.0.2:deny\n:allow\n")
        with serving(OURS, "--max-per-ip", "1", "-x", str(cdb), *QUICK) as server:
            assert server.talk(b"x") == b"x"
            assert server.talk(b"x", source="127.0.0.2") == b""


def test_a_control_socket_answers_and_goes_away(tmp_path: Path) -> None:
    control = tmp_path / "control"
    with serving(OURS, "--control", "control", *QUICK, cwd=tmp_path) as server:
        status = [*OURS.command()[:-1], "status", "--control", str(control)]
        said = subprocess.run(status, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
        assert "port-0" in said
        reload = [*OURS.command()[:-1], "reload", "--control", str(control)]
        said = subprocess.run(reload, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
        assert "nothing changed" in said
        upgrade = [*OURS.command()[:-1], "upgrade", "--control", str(control)]
        refused = subprocess.run(upgrade, check=False, capture_output=True, text=True, timeout=TIMEOUT)
        assert (refused.returncode, "restart it" in refused.stderr) == (111, True)
        assert server.talk(b"x") == b"x"
        server.end()
        assert not control.exists()


@pytest.mark.parametrize("options", [(), ("-v", "-c5", "-x", "rules.cdb", "-X"), ("-u", "1", "-g", "1")])
def test_the_configuration_that_is_printed_is_right(options: tuple[str, ...], tmp_path: Path) -> None:
    command = [*OURS.command(), "--print-config", *options, "0", "smtp", "cat"]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT, cwd=tmp_path).stdout
    (tmp_path / "ucspid.yaml").write_bytes(printed)
    check = [*OURS.command()[:-1], "check", "-c", str(tmp_path / "ucspid.yaml")]
    subprocess.run(check, check=True, timeout=TIMEOUT)
