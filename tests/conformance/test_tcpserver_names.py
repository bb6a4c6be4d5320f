"""Names, ident users and rules that need them: the same of Debian's tcpserver and of ours."""

import contextlib
import functools
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dns_server
from daemon import receive_all
from folders import public_folder
from private_network import IDENT_PORT, PrivateNetwork, answering, private_network
from tcpservers import BOTH, TIMEOUT, TcpServer, Which, compiled, normal, parse_environment, serving

both = pytest.mark.parametrize("which", BOTH, ids=lambda which: which.name)

MX, CLIENT = "127.0.0.1", "192.0.2.7"
MX_PTR, CLIENT_PTR = "1.0.0.127.in-addr.arpa PTR", "7.2.0.192.in-addr.arpa PTR"
ZONE: dns_server.Zone = {
    MX_PTR: ["mx.test."],
    CLIENT_PTR: ["Client.Example."],
    "client.example A": ["192.0.2.9", CLIENT],
}


@dataclass
class Case:
    """A network of the test's, in which tcpserver runs and is connected to."""

    which: Which
    network: PrivateNetwork
    folder: Path

    @contextlib.contextmanager
    def serving(self, *arguments: str, **settings: Any) -> Iterator[TcpServer]:
        """Run a tcpserver inside."""
        settings = {"program": ("env", "-0"), "prefix": self.network.command, "cwd": "/", **settings}
        with serving(self.which, *arguments, **settings) as server:
            yield server

    def connect(self, server: TcpServer, source: str = CLIENT) -> socket.socket:
        """Connect inside, from a source address."""
        connect = functools.partial(
            socket.create_connection, (MX, server.port), TIMEOUT, source_address=(source, 0)
        )
        return self.network.call(connect)

    def environment(self, server: TcpServer, source: str = CLIENT) -> dict[str, str]:
        """Return what the program was told of a connection."""
        with self.connect(server, source) as client, contextlib.suppress(ConnectionError):
            return parse_environment(receive_all(client))
        return {}


@pytest.fixture
def case(which: Which, tmp_path: Path) -> Iterator[Case]:
    network = private_network(tmp_path, addresses=[f"{CLIENT}/32"])
    with network as inside, public_folder() as folder:
        yield Case(which, inside, folder)


def names(environment: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    """Return the local name, the client's, and its user, None where they are not set."""
    local, remote, info = (environment.get(f"TCP{end}") for end in ("LOCALHOST", "REMOTEHOST", "REMOTEINFO"))
    return local, remote, info


@both
def test_both_ends_have_names(case: Case) -> None:
    with case.network.serving_names(ZONE), case.serving("-Rv") as server:
        assert names(case.environment(server)) == ("mx.test", "client.example", None)
        assert names(case.environment(server, MX)) == ("mx.test", "mx.test", None)
        server.wait_lines(11)
        assert "tcpserver: ok P1 mx.test:127.0.0.1:PORT client.example:192.0.2.7::N" in normal(
            server.end(), server
        )


@both
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-RH",), ("mx.test", None, None)),
        (("-Rl0",), ("0", "client.example", None)),
        (("-Rl", ""), ("", "client.example", None)),
        (("-RHh",), ("mx.test", "client.example", None)),
        (("-RHl0",), ("0", None, None)),
    ],
    ids=["-H", "-l0", "-l", "-Hh", "-Hl0"],
)
def test_names_are_looked_up_as_asked(
    case: Case, options: tuple[str, ...], expected: tuple[str | None, ...]
) -> None:
    inherited = {"TCPREMOTEHOST": "inherited", "TCPLOCALHOST": "inherited", "PATH": "/usr/bin:/bin"}
    with case.network.serving_names(ZONE), case.serving(*options, env=inherited) as server:
        assert names(case.environment(server)) == expected


@pytest.mark.parametrize(
    ("which", "zone"),
    [
        (BOTH[0], {}),
        (BOTH[1], {}),
        (BOTH[1], {dns_server.EVERYTHING: dns_server.failing}),  # the original takes a minute for this
    ],
    ids=["ucspi-tcp", "ucspid", "ucspid-failing"],
)
def test_without_names_they_are_not_set(case: Case, zone: dns_server.Zone) -> None:
    inherited = {"TCPREMOTEHOST": "inherited", "TCPLOCALHOST": "inherited", "PATH": "/usr/bin:/bin"}
    with case.network.serving_names(zone), case.serving("-R", env=inherited) as server:
        assert names(case.environment(server)) == (None, None, None)


@both
@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (["192.0.2.9", CLIENT], "client.example"),
        (["192.0.2.9"], None),
        ([], None),
    ],
)
def test_paranoid_wants_the_address_back(case: Case, forward: Any, expected: str | None) -> None:
    zone = {**ZONE, "client.example A": forward}
    with case.network.serving_names(zone), case.serving("-Rpl0") as server:
        assert names(case.environment(server)) == ("0", expected, None)


@both
@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        (r"a\032b\.c\\d\"e_F-9.Test.", r"a\040b\056c\134d\042e_f-9.test"),
        (r"\255\000\010x.test.", r"\377\000\012x.test"),
        ("x" * 63 + "." + "y" * 63 + ".test.", "x" * 63 + "." + "y" * 63 + ".test"),
    ],
    ids=["punctuation", "bytes", "long"],
)
def test_odd_names_are_told_in_one_way(case: Case, pointer: str, expected: str) -> None:
    zone = {**ZONE, CLIENT_PTR: [pointer]}
    with case.network.serving_names(zone), case.serving("-Rvl0") as server:
        assert names(case.environment(server)) == ("0", expected, None)
        shown = expected[:100] + "..." if len(expected) >= 100 else expected
        server.wait_lines(6)
        line = f"tcpserver: ok P1 0:127.0.0.1:PORT {shown}:192.0.2.7::N"
        assert line in normal(server.end(), server)


@pytest.mark.parametrize(
    ("which", "expected"), [(BOTH[0], "."), (BOTH[1], None)], ids=["ucspi-tcp", "ucspid"]
)
def test_the_root_is_a_name_for_the_original_only(case: Case, expected: str | None) -> None:
    with case.network.serving_names({**ZONE, CLIENT_PTR: ["."]}), case.serving("-Rl0") as server:
        assert names(case.environment(server)) == ("0", expected, None)


@both
def test_the_first_of_several_names_holds(case: Case) -> None:
    zone = {**ZONE, CLIENT_PTR: ["one.test.", "two.test."]}
    with case.network.serving_names(zone), case.serving("-Rl0") as server:
        assert names(case.environment(server)) == ("0", "one.test", None)


@both
def test_another_name_server_is_asked(case: Case) -> None:
    env = {"DNSCACHEIP": "127.0.0.53", "PATH": "/usr/bin:/bin"}
    with case.network.serving_names(ZONE, host="127.0.0.53"), case.serving("-R", env=env) as server:
        assert names(case.environment(server)) == ("mx.test", "client.example", None)


@both
@pytest.mark.parametrize("host", ["mx.test", "mx"])
def test_the_host_may_be_a_name(which: Which, host: str, tmp_path: Path) -> None:
    files = {"/etc/resolv.conf": "nameserver 127.0.0.1\nsearch test\n"}
    zone: dns_server.Zone = {"mx.test A": ["127.0.0.5"]}
    with (
        private_network(tmp_path, files) as network,
        network.serving_names(zone),
        serving(which, "-RHl0", host=host, program=("env", "-0"), prefix=network.command, cwd="/") as server,
        network.connect("127.0.0.5", server.port) as client,
    ):
        assert parse_environment(receive_all(client))["TCPLOCALIP"] == "127.0.0.5"


# Ident


@both
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"PORTS : USERID : UNIX : joe\r\n", "joe"),
        (b"PORTS : USERID : UNIX , US-ASCII : a b\tc:d\r\n", "abc:d"),
        (b"PORTS : ERROR : NO-USER\r\n", ""),
        (b"what?\r\n", ""),
        (b"\n", ""),
        (b"1,2:x:y:not these ports\n", "nottheseports"),
        (b"PORTS:USERID:UNIX:" + b"j" * 400 + b"\n", "j" * 257),
        (b"PORTS:USERID:UNIX:cut off", None),
        (b"", None),
    ],
    ids=["user", "spaces", "error", "garbage", "empty", "ports", "long", "cut", "closed"],
)
def test_the_ident_user(case: Case, reply: bytes, expected: str | None) -> None:
    inherited = {"TCPREMOTEINFO": "inherited", "PATH": "/usr/bin:/bin"}
    with (
        case.network.serving(answering(reply), CLIENT, IDENT_PORT),
        case.serving("-vHl0", env=inherited) as server,
    ):
        assert case.environment(server).get("TCPREMOTEINFO") == expected
        server.wait_lines(6)
        shown = re.sub(":", "?", (expected or "")[:100]) + ("..." if len(expected or "") >= 100 else "")
        line = f"tcpserver: ok P1 0:127.0.0.1:PORT :192.0.2.7:{shown}:N"
        assert line in normal(server.end(), server)


@both
def test_an_ident_server_asks_for_the_two_ports(case: Case) -> None:
    asked: list[bytes] = []

    def talk(client: socket.socket) -> None:
        with client.makefile("rb") as file:
            asked.append(file.readline())
        client.sendall(b"1,2:USERID:UNIX:joe\n")

    with case.network.serving(talk, CLIENT, IDENT_PORT), case.serving("-Hl0") as server:
        got = case.environment(server)
        assert asked == [f"{got['TCPREMOTEPORT']} , {server.port}\r\n".encode()]


@both
@pytest.mark.parametrize("options", [("-t1", "-Hl0"), ("-R", "-Hl0")], ids=["silent", "not asked"])
def test_without_an_answer_the_user_is_not_set(case: Case, options: tuple[str, ...]) -> None:
    with case.network.silence(CLIENT, IDENT_PORT), case.serving(*options) as server:
        assert "TCPREMOTEINFO" not in case.environment(server)


@both
def test_without_an_ident_server_the_user_is_not_set(case: Case) -> None:
    with case.serving("-Hl0") as server:
        assert "TCPREMOTEINFO" not in case.environment(server)


# Rules

KEYS = [
    "joe@192.0.2.7",
    "joe@=client.example",
    "192.0.2.7",
    "=client.example",
    "192.0.2.",
    "192.",
    "=.example",
    "=",
    "",
]
"""All keys that match the client of these tests, in their order."""


@both
@pytest.mark.parametrize("left_out", range(len(KEYS)))
def test_the_order_of_the_rules(case: Case, left_out: int) -> None:
    rules = "".join(f'{key}:allow,RULE="{key}"\n' for key in reversed(KEYS[left_out:]))
    cdb = compiled(case.folder, rules)
    ident = answering(b"PORTS:USERID:UNIX:joe\r\n")
    with (
        case.network.serving_names(ZONE),
        case.network.serving(ident, CLIENT, IDENT_PORT),
        case.serving("-x", str(cdb)) as server,
    ):
        assert case.environment(server)["RULE"] == KEYS[left_out]


@both
@pytest.mark.parametrize(
    "rules", ["192.0.2.:deny\n", "=client.example:deny\n", "=:deny\n", ":deny\n", "joe@192.0.2.7:deny\n"]
)
def test_a_denied_client_has_its_names_in_the_line(case: Case, rules: str) -> None:
    cdb = compiled(case.folder, rules)
    ident = answering(b"PORTS:USERID:UNIX:joe\r\n")
    with (
        case.network.serving_names(ZONE),
        case.network.serving(ident, CLIENT, IDENT_PORT),
        case.serving("-v", "-x", str(cdb)) as server,
    ):
        assert case.environment(server) == {}
        server.wait_lines(6)
        assert normal(server.end(), server) == [
            "tcpserver: status: 0/40",
            "tcpserver: status: 1/40",
            "tcpserver: pid P1 from 192.0.2.7",
            "tcpserver: deny P1 mx.test:127.0.0.1:PORT client.example:192.0.2.7:joe:N",
            "tcpserver: end P1 status 25600",
            "tcpserver: status: 0/40",
        ]


@both
def test_the_banner_comes_before_the_lookups(case: Case) -> None:
    zone = dns_server.everything(dns_server.silent)
    with (
        case.network.serving_names(zone),
        case.serving("-B", "220 mx ESMTP\r\n") as server,
        case.connect(server) as client,
    ):
        assert client.recv(100) == b"220 mx ESMTP\r\n"


@both
def test_rules_may_set_names(case: Case) -> None:
    cdb = compiled(case.folder, ':allow,TCPREMOTEHOST="told",TCPREMOTEINFO="",TCPLOCALHOST="mine"\n')
    with case.network.serving_names(ZONE), case.serving("-R", "-x", str(cdb)) as server:
        assert names(case.environment(server)) == ("mine", "told", "")
