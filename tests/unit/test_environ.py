"""The variables of a connection, byte for byte."""

from typing import get_args

import pytest

from ucspid.net.unix import UnixClient
from ucspid.policy.client_facts import NO_FACTS, ClientFacts
from ucspid.policy.environ import NAMES, Dialect, inheritable, local_variables, names_of, variables

ALL = ClientFacts(b"there.example", b"here.example", b"joe")
IPV4 = ("192.0.2.1", "198.51.100.7")
IPV6 = ("2001:db8::1", "2001:db8::7")


def parsed(strings: bytes) -> dict[str, str]:
    """Return the variables as a launcher would set them: the last of one name holds."""
    return dict(item.decode().split("=", 1) for item in strings.split(b"\0"))


def strings(
    ends: tuple[str, str],
    dialect: Dialect = "tcp",
    found: ClientFacts = NO_FACTS,
    env: tuple[tuple[bytes, bytes], ...] = (),
) -> dict[str, str]:
    local, remote = ends
    return parsed(variables(local_variables(local, 25, dialect), remote, 40000, 0xABC, dialect, found, env))


TCP4 = {
    "PROTO": "TCP",
    "TCPLOCALIP": "192.0.2.1",
    "TCPLOCALPORT": "25",
    "TCPREMOTEIP": "198.51.100.7",
    "TCPREMOTEPORT": "40000",
    "UCSPID_CONN_ID": "abc",
}
TCP6 = TCP4 | {"TCPLOCALIP": "2001:db8::1", "TCPREMOTEIP": "2001:db8::7"}
FOUND = {"TCPREMOTEHOST": "there.example", "TCPLOCALHOST": "here.example", "TCPREMOTEINFO": "joe"}


def test_an_ipv4_connection() -> None:
    assert strings(IPV4) == TCP4


def test_an_ipv6_connection_is_tcp_as_well() -> None:
    assert strings(IPV6) == TCP6


def test_names_that_were_found() -> None:
    assert strings(IPV4, found=ALL) == TCP4 | FOUND


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("ends", [IPV4, IPV6])
def test_what_was_not_found_is_not_set(dialect: Dialect, ends: tuple[str, str]) -> None:
    assert strings(ends, dialect, ClientFacts(None, None, None)) == strings(ends, dialect)
    assert not [name for name in strings(ends, dialect) if name.endswith(("HOST", "INFO"))]


def test_an_ident_error_is_set_and_empty() -> None:
    assert strings(IPV4, found=ClientFacts(info=b"")) == TCP4 | {"TCPREMOTEINFO": ""}


def test_arbitrary_bytes_are_passed_on() -> None:
    odd = variables(local_variables(*("::1", 1)), "::1", 2, 3, "tcp", ClientFacts(info=b"\xff\n=;$(x)"))
    assert odd.endswith(b"\0TCPREMOTEINFO=\xff\n=;$(x)")


def test_tcp6_gives_an_ipv6_connection_twice() -> None:
    assert strings(IPV6, "tcp6", ALL) == TCP6 | FOUND | {
        "PROTO": "TCP6",
        "TCP6LOCALIP": "2001:db8::1",
        "TCP6LOCALPORT": "25",
        "TCP6REMOTEIP": "2001:db8::7",
        "TCP6REMOTEPORT": "40000",
        "TCP6REMOTEHOST": "there.example",
        "TCP6LOCALHOST": "here.example",
    }


def test_tcp6_gives_an_ipv4_connection_as_tcp() -> None:
    assert strings(IPV4, "tcp6", ALL) == TCP4 | FOUND


@pytest.mark.parametrize(("ends", "expected"), [(IPV4, TCP4), (IPV6, TCP6)])
def test_systemd_adds_its_own(ends: tuple[str, str], expected: dict[str, str]) -> None:
    own = {"REMOTE_ADDR": ends[1], "REMOTE_PORT": "40000"}
    assert strings(ends, "systemd", ALL) == expected | FOUND | own


def test_rules_have_the_last_word() -> None:
    env = ((b"TCPREMOTEHOST", b"x"), (b"RELAYCLIENT", b""), (b"PROTO", b"a=b"), (b"PROTO", b"\xc3\xa9"))
    expected = TCP4 | FOUND | {"TCPREMOTEHOST": "x", "RELAYCLIENT": "", "PROTO": "é"}
    assert strings(IPV4, found=ALL, env=env) == expected


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_what_may_be_set_is_what_is_set_when_all_is_known(dialect: Dialect) -> None:
    assert sorted(NAMES[dialect]) == sorted(strings(IPV6, dialect, ALL))


UNIX = {
    "PROTO": "UNIX",
    "UNIXLOCALPATH": "/run/x.sock",
    "UNIXREMOTEEUID": "1000",
    "UNIXREMOTEEGID": "100",
    "UNIXREMOTEPID": "4711",
    "IPCLOCALPATH": "/run/x.sock",
    "IPCREMOTEEUID": "1000",
    "IPCREMOTEEGID": "100",
    "UCSPID_CONN_ID": "abc",
}


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_over_a_unix_socket_there_is_a_process_and_no_address(dialect: Dialect) -> None:
    ends = "unix:/run/x.sock", UnixClient.of(1000, 100, 4711)
    assert strings(ends, dialect) == UNIX
    assert strings(ends, dialect, env=((b"UNIXREMOTEEUID", b"0"),))["UNIXREMOTEEUID"] == "0"
    assert set(UNIX) <= {*names_of(dialect, proxied=False, unix=True)}
    assert not set(UNIX) - {"PROTO", "UCSPID_CONN_ID"} & {*names_of(dialect, proxied=True)}


def test_what_describes_another_connection_over_a_unix_socket_is_not_inherited() -> None:
    assert inheritable(UNIX | {"HOME": "/root"}) == {"HOME": "/root"}
