"""Name servers that fail, or are not there: each tool waits 11 seconds for them, side by side."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import dns_server
from daemon import receive_all
from private_network import PrivateNetwork, private_network, why_not
from rblsmtpd import IP, PROGRAM, outcome
from side_by_side import side_by_side
from tcpservers import BOTH, TIMEOUT, parse_environment, serving
from tool_programs import Tools, connection_variables

LISTS: dns_server.Zone = {
    "7.2.0.192.list.test TXT": ['"listed"'],
    "7.2.0.192.bad.test TXT": dns_server.failing,
    "7.2.0.192.bad.test A": dns_server.failing,
}
FAILING = {
    "-r bad.test": "",
    "-c -r bad.test": "451 temporary RBL lookup error",
    "-cC -r bad.test": "",
    "-b -r bad.test -r list.test": "451 listed",
    "-a bad.test -r list.test": "",
    "-c -b -a bad.test -r list.test": "451 listed",
}
UNRESOLVED = "temporarily unable to figure out IP address for mx.test"


def a_list_that_fails(options: str, tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names(LISTS):
        inside = tools.within(network)
        ended = inside.run("rblsmtpd", *options.split(), *PROGRAM, given=b"rcpt\n", env=IP)
    assert outcome(ended) == FAILING[options]


def the_host_of_tcpclient(zone: dns_server.Zone, reason: str, tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names(zone, "127.0.0.1" if zone else "127.0.0.9"):
        ended = tools.within(network).run("tcpclient", "-RHl0", "mx.test", "25", "true")
    assert (ended.code, ended.lines) == (111, [f"tcpclient: fatal: {UNRESOLVED}: {reason}"])


def the_names_of_tcpclient(tools: Tools, network: PrivateNetwork) -> None:
    """A name that is not known for now is no variable; one that does not exist is an empty one."""
    zone: dns_server.Zone = {"7.2.0.192.in-addr.arpa PTR": dns_server.failing}
    with network.serving_names(zone), network.serving(lambda _client: None, "0.0.0.0") as port:
        command = ["tcpclient", "-RH", "-h", "-i127.0.0.1", "192.0.2.7", str(port), "env", "-0"]
        ended = tools.within(network).run(*command, env={"TCPREMOTEHOST": "stale"})
    assert (ended.code, ended.err) == (0, b"")
    found = connection_variables(ended)
    assert (found["TCPLOCALHOST"], found.get("TCPREMOTEHOST")) == ("", None)


def the_host_of_tcpserver(tools: Tools, network: PrivateNetwork) -> None:
    command = network.command(*BOTH[tools.ours].command(), "mx.test", "0", "cat")
    ended = subprocess.run(command, check=False, capture_output=True, timeout=TIMEOUT)
    expected = f"tcpserver: fatal: {UNRESOLVED}: connection refused\n"
    assert (ended.returncode, ended.stderr.decode()) == (111, expected)


def the_confirmation_of_tcpserver(tools: Tools, network: PrivateNetwork) -> None:
    zone: dns_server.Zone = {
        "1.0.0.127.in-addr.arpa PTR": ["client.example."],
        "client.example A": dns_server.failing,
    }
    which, program = BOTH[tools.ours], ("env", "-0")
    with (
        network.serving_names(zone),
        serving(which, "-Rpl0", program=program, prefix=network.command, cwd="/") as server,
        network.connect("127.0.0.1", server.port) as client,
    ):
        client.settimeout(TIMEOUT)
        found = parse_environment(receive_all(client))
    assert (found["TCPLOCALHOST"], found.get("TCPREMOTEHOST")) == ("0", None)


EVERYTHING_FAILS = dns_server.everything(dns_server.failing)
CASES: dict[str, Callable[[Tools, PrivateNetwork], None]] = {
    **{f"rblsmtpd {options}": partial(a_list_that_fails, options) for options in FAILING},
    "tcpclient, failing": partial(the_host_of_tcpclient, EVERYTHING_FAILS, "temporary failure"),
    "tcpclient, none": partial(the_host_of_tcpclient, {}, "connection refused"),
    "names of tcpclient": the_names_of_tcpclient,
    "tcpserver": the_host_of_tcpserver,
    "tcpserver -p": the_confirmation_of_tcpserver,
}


def within(case: Callable[[Tools, PrivateNetwork], None], tools: Tools, folder: Path) -> None:
    """Run a case in a network of its own."""
    folder.mkdir()
    with private_network(folder, addresses=["192.0.2.7/32"]) as network:
        case(tools, network)


@pytest.mark.waits
def test_what_is_waited_for(tools: Tools, tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    side_by_side(
        {
            name: partial(within, case, tools, tmp_path / str(number))
            for number, (name, case) in enumerate(CASES.items())
        }
    )
