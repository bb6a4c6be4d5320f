"""What tcpserver says and how it exits when it cannot come up: the same of Debian's and of ours."""

import os
import socket
from pathlib import Path

import pytest

from private_network import private_network
from tcpservers import BOTH, Which, usage_of

both = pytest.mark.parametrize("which", BOTH, ids=lambda which: which.name)

USAGE = (
    b"tcpserver: usage: tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] "
    b"[ -g gid ] [ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] host port program\n"
)
UNRESOLVABLE = b"tcpserver: fatal: no IP address for "


@both
@pytest.mark.parametrize(
    "arguments", [(), ("-v",), ("0",), ("0", "0"), ("-v", "--", "0", "0"), ("-1c40", "0")], ids=" ".join
)
def test_too_few_words(which: Which, arguments: tuple[str, ...]) -> None:
    assert usage_of(which, *arguments) == (100, USAGE)


@both
@pytest.mark.parametrize("arguments", [("-q",), ("-q", "0"), ("-vq", "0", "0")], ids=" ".join)
def test_quiet_says_nothing_of_missing_words(which: Which, arguments: tuple[str, ...]) -> None:
    assert usage_of(which, *arguments) == (100, b"")


@both
@pytest.mark.parametrize("word", ["-z", "-vz", "-l0z -z", "-q -z", "-c40 -z"])
def test_unknown_options(which: Which, word: str) -> None:
    code, said = usage_of(which, *word.split(), "0", "0", "cat")
    assert (code, said) == (100, b"tcpserver: illegal option -- z\n" + USAGE)


@both
@pytest.mark.parametrize("letter", list("bBcgltux"))
def test_a_missing_argument(which: Which, letter: str) -> None:
    code, said = usage_of(which, f"-{letter}")
    assert (code, said) == (100, b"tcpserver: option requires an argument -- %c\n" % ord(letter) + USAGE)


@both
@pytest.mark.parametrize("port", ["no-such-service", "25x", "-1"])
def test_an_unknown_port(which: Which, port: str) -> None:
    expected = b"tcpserver: fatal: unable to figure out port number for " + port.encode() + b"\n"
    assert usage_of(which, "127.0.0.1", port, "cat") == (111, expected)
    assert usage_of(which, "127.0.0.1", port) == (111, expected)  # before the program is missed
    assert usage_of(which, "-q", "127.0.0.1", port, "cat") == (111, b"")


@both
def test_a_port_in_use(which: Which) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        expected = 111, b"tcpserver: fatal: unable to bind: address already used\n"
        assert usage_of(which, "127.0.0.1", port, "cat") == expected
        assert usage_of(which, "-v", "127.0.0.1", port, "cat") == expected
        assert usage_of(which, "-q", "127.0.0.1", port, "cat") == (111, b"")


@both
@pytest.mark.parametrize("host", ["192.0.2.1", "[192.0.2.1]", "192.0.2.1.7", "448.0.2.1"])
def test_an_address_of_another_host(which: Which, host: str) -> None:
    expected = 111, b"tcpserver: fatal: unable to bind: address not available\n"
    assert usage_of(which, host, "0", "cat") == expected


@both
@pytest.mark.parametrize("host", ["1.2.3", "..", "[1.2]"])
def test_what_is_no_address(which: Which, host: str) -> None:
    expected = 111, UNRESOLVABLE + host.encode() + b"\n"
    assert usage_of(which, host, "0", "cat") == expected


@both
def test_a_name_that_does_not_exist(which: Which, tmp_path: Path) -> None:
    with private_network(tmp_path) as network, network.serving_names({}):
        for host in ("nowhere.test", "nowhere.test."):
            command = network.command(*which.command(), host, "0", "cat")
            assert usage_by(command) == (111, UNRESOLVABLE + host.encode() + b"\n")


@both
@pytest.mark.skipif(os.geteuid() != 0, reason="another user can take no ids at all")
def test_ids_without_the_right(which: Which) -> None:
    for option, what in (("-g", b"gid"), ("-u", b"uid")):
        command = [*which.command(), option, "7", "127.0.0.1", "0", "cat"]
        under = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *command]
        assert usage_by(under) == (111, b"tcpserver: fatal: unable to set %b: permission denied\n" % what)


def usage_by(command: list[str]) -> tuple[int, bytes]:
    class Command(Which):
        def command(self) -> list[str]:
            return command

    return usage_of(Command("a command"))
