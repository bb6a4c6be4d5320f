"""tcpclient with names: the DNS, qualification, the names of both ends, ident; in a private network."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rdatatype
import pytest

import dns_server
from private_network import IDENT_PORT, PrivateNetwork, answering, private_network
from tool_programs import Ended, Tools, connection_variables

PORT = 25
LOCAL, REMOTE = "1.0.0.127.in-addr.arpa PTR", "7.2.0.192.in-addr.arpa PTR"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[PrivateNetwork]:
    with private_network(tmp_path, addresses=["192.0.2.7/32", "192.0.2.8/32", "2001:db8::7/128"]) as it:
        yield it


@pytest.fixture
def smtp(network: PrivateNetwork) -> Iterator[None]:
    """Have a server on the port of SMTP, at every address."""
    with network.serving(lambda _client: None, "0.0.0.0", PORT):
        yield


def run(tools: Tools, network: PrivateNetwork, *words: str, **env: str) -> Ended:
    return tools.within(network).run("tcpclient", *words, env=env)


def variables(tools: Tools, network: PrivateNetwork, *words: str, **env: str) -> dict[str, str]:
    ended = run(tools, network, *words, str(PORT), "env", "-0", **env)
    assert (ended.code, ended.err) == (0, b"")
    return {
        name: value
        for name, value in connection_variables(ended).items()
        if name not in {"TCPLOCALPORT", "TCPREMOTEPORT", "PROTO"}
    }


# hosts


@pytest.mark.usefixtures("smtp")
def test_a_host_of_one_address(tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names({"mx.test A": ["192.0.2.7"]}):
        for host in ("mx.test", "mx.test.", "MX.Test", "mx..test", "\\155x.test"):
            assert variables(tools, network, "-RHl0", host)["TCPREMOTEIP"] == "192.0.2.7", host


@pytest.mark.usefixtures("smtp")
def test_a_host_of_another_name(tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names({"mx.test CNAME": ["other.test."], "other.test A": ["192.0.2.7"]}):
        assert variables(tools, network, "-RHl0", "mx.test")["TCPREMOTEIP"] == "192.0.2.7"


def test_all_addresses_are_tried_in_random_order(tools: Tools, network: PrivateNetwork) -> None:
    orders = set()
    with network.serving_names({"mx.test A": ["192.0.2.7", "192.0.2.8", "127.0.0.9"]}):
        for _ in range(20):
            ended = run(tools, network, "-RHl0", "mx.test", "25", "true")
            assert ended.code == 111
            assert {line.split()[5] for line in ended.lines} == {"192.0.2.7", "192.0.2.8", "127.0.0.9"}
            orders.add(ended.err)
    assert len(orders) > 1


def test_a_silent_address_is_tried_again_at_the_end(tools: Tools, network: PrivateNetwork) -> None:
    with (
        network.silence("192.0.2.7", PORT),
        network.silence("192.0.2.8", PORT),
        network.serving_names({"mx.test A": ["192.0.2.7", "192.0.2.8", "127.0.0.9"]}),
    ):
        ended = run(tools, network, "-RHl0", "-T0+1", "mx.test", "25", "true")
    assert ended.lines[0] == "tcpclient: unable to connect to 127.0.0.9 port 25: connection refused"
    assert {line.split()[5] for line in ended.lines[1:]} == {"192.0.2.7", "192.0.2.8"}
    assert all(line.endswith(" port 25: timed out") for line in ended.lines[1:])


@pytest.mark.parametrize("host", ["nowhere.test", "empty.test", "aaaa.test"])
def test_a_host_without_an_address(tools: Tools, network: PrivateNetwork, host: str) -> None:
    zone: dns_server.Zone = {"empty.test TXT": ['"x"'], "aaaa.test TXT": ['"x"']}
    with network.serving_names(zone):
        ended = run(tools, network, "-RHl0", host, "25", "true")
    assert (ended.code, ended.lines) == (111, [f"tcpclient: fatal: no IP address for {host}"])


@pytest.mark.parametrize("host", ["x" * 64 + ".test", ".".join(["x" * 60] * 5)])
def test_a_host_that_is_too_long(tools: Tools, network: PrivateNetwork, host: str) -> None:
    ended = run(tools, network, "-RHl0", host, "25", "true")
    start = "tcpclient: fatal: temporarily unable to figure out IP address for"
    assert (ended.code, ended.lines) == (111, [f"{start} {host}: protocol error"])


@pytest.mark.usefixtures("smtp")
def test_a_name_server_that_lies_first(tools: Tools, network: PrivateNetwork) -> None:
    zone: dns_server.Zone = {REMOTE: dns_server.lying("liar.test.", "honest.test.")}
    with network.serving_names(zone):
        assert variables(tools, network, "-Rl0", "192.0.2.7")["TCPREMOTEHOST"] == "honest.test"


@contextlib.contextmanager
def resolving(folder: Path, resolv_conf: str, zone: dns_server.Zone) -> Iterator[PrivateNetwork]:
    """Make a network with a file for resolvers, a name server and a server on the port of SMTP."""
    folder /= "resolving"
    folder.mkdir()
    with (
        private_network(folder, {"/etc/resolv.conf": resolv_conf}, addresses=["192.0.2.7/32"]) as network,
        network.serving(lambda _client: None, "0.0.0.0", PORT),
        network.serving_names(zone, "::1" if "::1" in resolv_conf else "127.0.0.1"),
    ):
        yield network


def test_the_second_name_server_answers(tools: Tools, tmp_path: Path) -> None:
    resolv_conf = "nameserver 127.0.0.8\nnameserver\t 127.0.0.1\n"
    with resolving(tmp_path, resolv_conf, {"mx.test A": ["192.0.2.7"]}) as network:
        assert variables(tools, network, "-RHl0", "mx.test")["TCPREMOTEIP"] == "192.0.2.7"


@pytest.mark.usefixtures("smtp")
def test_name_servers_of_the_environment(tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names({"mx.test A": ["192.0.2.7"]}, "127.0.0.3"):
        for servers in ("127.0.0.3", ".127.0.0.8.127.0.0.3.", "127.0.0.3x"):
            env = {"DNSCACHEIP": servers}
            assert variables(tools, network, "-RHl0", "mx.test", **env)["TCPREMOTEIP"] == "192.0.2.7"


@pytest.mark.usefixtures("smtp")
def test_a_reply_that_was_cut(tools: Tools, network: PrivateNetwork) -> None:
    addresses = [f"127.0.{number}.1" for number in range(100)]
    with network.serving_names({"mx.test A": addresses}) as names:
        assert variables(tools, network, "-RHl0", "mx.test")["TCPREMOTEIP"] in addresses
    assert names.asked["mx.test A tcp"] == 1


def test_a_reply_that_was_cut_of_a_server_without_tcp(tools: Tools, network: PrivateNetwork) -> None:
    def cut(question: dns.message.Message) -> list[bytes]:
        response = dns_server.reply(question)
        response.flags |= dns.flags.TC
        return [response.to_wire()]

    with network.serving_names(dns_server.everything(cut)):
        ended = run(tools, network, "-RHl0", "mx.test", "25", "true")
    assert ended.code == 111
    start = "tcpclient: fatal: temporarily unable to figure out IP address for mx.test: "
    assert ended.lines[0].startswith(start)


# qualification


QUALIFIED = {"a.one.test A": ["192.0.2.7"], "b.two.test A": ["192.0.2.8"], "c A": ["127.0.0.1"]}


@pytest.mark.usefixtures("smtp")
@pytest.mark.parametrize("domains", ["one.test two.test", "one.test", "nowhere.test one.test"])
def test_search_domains_of_the_environment(tools: Tools, network: PrivateNetwork, domains: str) -> None:
    with network.serving_names(QUALIFIED):
        env = {"LOCALDOMAIN": domains}
        assert variables(tools, network, "-RHl0", "a", **env)["TCPREMOTEIP"] == "192.0.2.7"
        assert (
            run(tools, network, "-RHl0", "a.", "25", "true", **env).lines[0].endswith("no IP address for a.")
        )
        if "two" in domains:
            assert variables(tools, network, "-RHl0", "b", **env)["TCPREMOTEIP"] == "192.0.2.8"


LINES = ["search one.test two.test", "search\tone.test", "domain one.test", "search  one.test"]


@pytest.mark.parametrize("line", LINES)
def test_search_domains_of_the_file(tools: Tools, tmp_path: Path, line: str) -> None:
    with resolving(tmp_path, f"nameserver 127.0.0.1\n{line}\n", QUALIFIED) as network:
        assert variables(tools, network, "-RHl0", "a")["TCPREMOTEIP"] == "192.0.2.7"


@pytest.mark.usefixtures("smtp")
def test_rewriting_of_names(tools: Tools, network: PrivateNetwork, tmp_path: Path) -> None:
    rules = tmp_path / "rewrite"
    rules.write_text("# a comment\n=me:127.0.0.1\n*.a:.one.test\n-.local:192.0.2.8\n?:.one.test \t\n*.:\n")
    with network.serving_names(QUALIFIED):
        env = {"DNSREWRITEFILE": str(rules), "LOCALDOMAIN": "nowhere.test"}
        hosts = {"me": "127.0.0.1", "a.a": "192.0.2.7", "x.local": "192.0.2.8", "A": "192.0.2.7"}
        for host, ip in hosts.items():
            assert variables(tools, network, "-RHl0", host, **env)["TCPREMOTEIP"] == ip


# names of the ends


@pytest.mark.usefixtures("smtp")
@pytest.mark.parametrize(
    ("record", "name"),
    [
        (["client.test."], "client.test"),
        (["Client.TEST."], "client.test"),
        (["a.test.", "b.test."], "a.test"),
        (["."], "."),
        (["od\\032d\\255_-.test."], "od\\040d\\377_-.test"),
        (["a\\.b.test."], "a\\056b.test"),
        (["x=y.test."], "x\\075y.test"),
        (None, ""),
    ],
    ids=str,
)
def test_names_of_both_ends(
    tools: Tools, network: PrivateNetwork, record: list[str] | None, name: str
) -> None:
    zone: dns_server.Zone = {} if record is None else {LOCAL: record, REMOTE: record}
    with network.serving_names(zone):
        found = variables(tools, network, "-R", "-i127.0.0.1", "192.0.2.7")
        assert found == {
            "TCPLOCALIP": "127.0.0.1",
            "TCPLOCALHOST": name,
            "TCPREMOTEIP": "192.0.2.7",
            "TCPREMOTEHOST": name,
        }


@pytest.mark.usefixtures("smtp")
def test_names_that_nobody_asked_for(tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names({LOCAL: ["local.test."], REMOTE: ["remote.test."]}) as names:
        found = variables(tools, network, "-RHl0", "192.0.2.7", TCPREMOTEHOST="stale")
        assert (found["TCPLOCALHOST"], found.get("TCPREMOTEHOST")) == ("0", None)
        assert not names.asked
        found = variables(tools, network, "-RHh", "-i127.0.0.1", "192.0.2.7")
        assert (found["TCPLOCALHOST"], found["TCPREMOTEHOST"]) == ("local.test", "remote.test")


# ident


@contextlib.contextmanager
def ident(network: PrivateNetwork, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    with network.serving(talk, "0.0.0.0", IDENT_PORT):
        yield


@pytest.mark.usefixtures("smtp")
@pytest.mark.parametrize(
    ("answer", "info"),
    [
        (b"PORTS : USERID : UNIX : me\r\n", "me"),
        (b"PORTS:USERID:UNIX:me\n", "me"),
        (b"PORTS : USERID : UNIX : m e\tx:y\r\n", "mex:y"),
        (b"PORTS : ERROR : NO-USER\r\n", ""),
        (b"\r\n", ""),
        (b"garbage without an end", None),
        (b"", None),
        (b"PORTS : USERID : UNIX : me", None),
        (b":::" + b"x" * 256 + b"\n", "x" * 256),
        (b":::" + b"x" * 257 + b"\n", "x" * 257),
        (b":::" + b"x" * 300, "x" * 257),
        (b":::a\xff\x01b\n", "a\xff\x01b"),
        (b":::a\0b\n", "a"),
    ],
    ids=range(13),
)
def test_the_user_at_the_other_end(
    tools: Tools, network: PrivateNetwork, answer: bytes, info: str | None
) -> None:
    with ident(network, answering(answer)):
        found = variables(tools, network, "-Hl0", "192.0.2.7", TCPREMOTEINFO="stale")
    assert found.get("TCPREMOTEINFO") == info


@pytest.mark.usefixtures("smtp")
@pytest.mark.parametrize("seconds", ["4294967295", "5000000", "4294967356"])
def test_long_timeouts(tools: Tools, network: PrivateNetwork, seconds: str) -> None:
    with ident(network, answering(b":::me\n")):
        words = ["-Hl0", f"-t{seconds}", f"-T{seconds}", "192.0.2.7"]
        assert variables(tools, network, *words)["TCPREMOTEINFO"] == "me"


@pytest.mark.usefixtures("smtp")
def test_what_an_ident_server_is_asked(tools: Tools, network: PrivateNetwork) -> None:
    with ident(network, answering(b":::<PORTS>\n")):
        ended = run(tools, network, "-Hl0", "-i127.0.0.5", "192.0.2.7", str(PORT), "env", "-0")
        found = connection_variables(ended)
        assert found["TCPREMOTEINFO"] == f"<{PORT},{found['TCPLOCALPORT']}>"


@pytest.mark.usefixtures("smtp")
def test_an_ident_server_that_is_not_there(tools: Tools, network: PrivateNetwork) -> None:
    assert "TCPREMOTEINFO" not in variables(tools, network, "-Hl0", "192.0.2.7", TCPREMOTEINFO="stale")


@pytest.mark.usefixtures("smtp")
@pytest.mark.parametrize("seconds", ["1", "0", "x"])
def test_an_ident_server_that_says_nothing(tools: Tools, network: PrivateNetwork, seconds: str) -> None:
    with ident(network, answering(b":::partly", close=False)):
        assert "TCPREMOTEINFO" not in variables(tools, network, "-Hl0", f"-t{seconds}", "192.0.2.7")


@pytest.mark.usefixtures("smtp")
def test_an_ident_server_whose_queue_is_full(tools: Tools, network: PrivateNetwork) -> None:
    with network.silence("192.0.2.7", IDENT_PORT):
        assert "TCPREMOTEINFO" not in variables(tools, network, "-Hl0", "-t1", "192.0.2.7")


@pytest.mark.usefixtures("smtp")
def test_no_ident(tools: Tools, network: PrivateNetwork) -> None:
    with ident(network, answering(b":::me\n")):
        assert "TCPREMOTEINFO" not in variables(tools, network, "-RHl0", "192.0.2.7", TCPREMOTEINFO="stale")
        assert variables(tools, network, "-RrHl0", "192.0.2.7")["TCPREMOTEINFO"] == "me"


def test_a_network_that_cannot_be_reached(tools: Tools, network: PrivateNetwork) -> None:
    ended = run(tools, network, "-RHl0", "198.51.100.1", "25", "true")
    expected = "tcpclient: unable to connect to 198.51.100.1 port 25: network unreachable"
    assert (ended.code, ended.lines) == (111, [expected])


# what only ours has


V6 = {"mx.test AAAA": ["2001:db8::7"], "both.test A": ["192.0.2.7"], "both.test AAAA": ["2001:db8::7"]}
V6_NAME = "7" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa PTR"


@pytest.fixture
def smtp6(network: PrivateNetwork) -> Iterator[None]:
    with network.serving(lambda _client: None, "2001:db8::7", PORT):
        yield


@pytest.mark.usefixtures("smtp6")
def test_ipv6(ours: Tools, network: PrivateNetwork) -> None:
    with (
        network.serving_names({**V6, V6_NAME: ["six.test."]}),
        network.serving(answering(b":::me\n"), "2001:db8::7", IDENT_PORT),
    ):
        for host in ("2001:db8::7", "2001:DB8:0::7", "mx.test"):
            ended = run(ours, network, "-l0", host, str(PORT), "env", "-0")
            assert (ended.code, ended.err) == (0, b"")
            found = connection_variables(ended)
            assert found["TCPLOCALPORT"] == found["TCP6LOCALPORT"]
            del found["TCPLOCALPORT"], found["TCP6LOCALPORT"]
            assert found == {
                "PROTO": "TCP6",
                "TCPLOCALIP": "2001:db8::7",
                "TCP6LOCALIP": "2001:db8::7",
                "TCPLOCALHOST": "0",
                "TCPREMOTEIP": "2001:db8::7",
                "TCP6REMOTEIP": "2001:db8::7",
                "TCPREMOTEPORT": "25",
                "TCP6REMOTEPORT": "25",
                "TCPREMOTEHOST": "six.test",
                "TCPREMOTEINFO": "me",
            }


@pytest.mark.usefixtures("smtp6")
def test_families(ours: Tools, network: PrivateNetwork) -> None:
    """IPv4 is tried first; each option leaves only its family, and so does a local address."""
    refused = "tcpclient: unable to connect to 192.0.2.7 port 25: connection refused"
    connected = "tcpclient: connected to 2001:db8::7 port 25"

    def lines(*words: str) -> list[str]:
        return run(ours, network, "-vRHl0", *words, "25", "true").lines

    with network.serving_names(V6):
        assert lines("both.test") == [refused, connected]
        assert lines("-4", "both.test") == [refused]
        assert lines("-6", "both.test") == [connected]
        assert lines("-i::1", "both.test") == [connected]
        assert lines("-i127.0.0.1", "both.test") == [refused]
        assert lines("-4", "mx.test") == ["tcpclient: fatal: no IP address for mx.test"]
        assert lines("-6", "192.0.2.7") == ["tcpclient: fatal: no IP address for 192.0.2.7"]


def test_the_loopback_address_of_ipv6(ours: Tools, network: PrivateNetwork) -> None:
    with network.serving(lambda _client: None, "::1", PORT):
        for host in ("", "0", "::1"):
            assert run(ours, network, "-6RHl0", host, "25", "true").code == 0


def test_an_interface(ours: Tools, network: PrivateNetwork) -> None:
    network.add_address("fe80::7/64")
    ended = run(ours, network, "-Ilo", "-RHl0", "fe80::7", "25", "true")
    assert ended.lines == ["tcpclient: unable to connect to fe80::7 port 25: connection refused"]
    ended = run(ours, network, "-RHl0", "fe80::7%lo", "25", "true")
    assert ended.lines == ["tcpclient: unable to connect to fe80::7 port 25: connection refused"]
    ended = run(ours, network, "-RHl0", "fe80::7", "25", "true")
    assert ended.lines == ["tcpclient: unable to connect to fe80::7 port 25: invalid argument"]
    ended = run(ours, network, "-Inowhere", "::1", "25", "true")
    assert (ended.code, ended.lines) == (111, ["tcpclient: fatal: unable to find interface nowhere"])


@pytest.mark.usefixtures("smtp")
def test_ipv6_that_cannot_be_asked_for_does_not_matter(ours: Tools, network: PrivateNetwork) -> None:
    with network.serving_names({"mx.test A": ["192.0.2.7"], "mx.test AAAA": dns_server.failing}):
        assert variables(ours, network, "-RHl0", "mx.test")["TCPREMOTEIP"] == "192.0.2.7"


def test_a_name_server_of_ipv6(ours: Tools, tmp_path: Path) -> None:
    with resolving(tmp_path, "nameserver ::1\n", {"mx.test A": ["192.0.2.7"]}) as network:
        assert variables(ours, network, "-RHl0", "mx.test")["TCPREMOTEIP"] == "192.0.2.7"
