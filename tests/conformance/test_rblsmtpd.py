"""rblsmtpd: the variable, lists, errors of lists, the conversation with clients that are refused."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import dns_server
from private_network import PrivateNetwork, private_network
from rblsmtpd import IP, PROGRAM, outcome
from tool_programs import TIMEOUT, Ended, Tools

USAGE = "rblsmtpd: usage: rblsmtpd [ -b ] [ -R ] [ -t timeout ] [ -r base ] [ -a base ] smtpd [ arg ... ]"
GREETING, OK, BYE = "220 rblsmtpd.local", "250 rblsmtpd.local", "221 rblsmtpd.local"


def run(tools: Tools, *options: str, **env: str) -> str:
    return outcome(tools.run("rblsmtpd", *options, *PROGRAM, given=b"rcpt\n", env={**IP, **env}))


@pytest.mark.parametrize("words", [[], ["-b"], ["--"], ["-t", "5"], ["-bcCB", "--"]], ids=str)
def test_usage(tools: Tools, words: list[str]) -> None:
    ended = tools.run("rblsmtpd", *words)
    assert (ended.code, ended.lines) == (100, [USAGE])


@pytest.mark.parametrize("letter", "dR0z")
def test_an_option_that_does_not_exist(tools: Tools, letter: str) -> None:
    ended = tools.run("rblsmtpd", f"-b{letter}", *PROGRAM)
    assert (ended.code, ended.lines) == (100, [f"rblsmtpd: illegal option -- {letter}", USAGE])


@pytest.mark.parametrize("letter", "tra")
def test_an_option_without_its_argument(tools: Tools, letter: str) -> None:
    ended = tools.run("rblsmtpd", f"-{letter}")
    assert (ended.code, ended.lines) == (100, [f"rblsmtpd: option requires an argument -- {letter}", USAGE])


def test_without_lists_the_program_runs(tools: Tools) -> None:
    assert run(tools) == ""
    ended = tools.run("rblsmtpd", "sh", "-c", "echo $$; exit 7", env=IP)
    assert (ended.code, ended.out.strip()) == (7, b"%d" % ended.pid)
    ended = tools.run("rblsmtpd", "/nowhere")
    assert (ended.code, ended.lines) == (
        111,
        ["rblsmtpd: fatal: unable to run /nowhere: file does not exist"],
    )


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        ("", ""),
        ("go away", "451 go away"),
        ("-go away", "553 go away"),
        ("--x", "553 -x"),
        ("-", "553 "),
        (" ", "451  "),
        ("x\x01\t\x7f\xe9y", "451 x?????y"),
        ("x" * 300, "451 " + "x" * 200),
    ],
)
def test_the_variable(tools: Tools, value: str, reply: str) -> None:
    assert run(tools, RBLSMTPD=value) == reply


def test_the_variable_comes_before_options(tools: Tools) -> None:
    for options in (["-b"], ["-B"], ["-c"], ["-r", "nowhere.test"], ["-a", "nowhere.test"]):
        assert run(tools, *options, RBLSMTPD="x") == "451 x"
        assert run(tools, *options, RBLSMTPD="") == ""


def test_the_conversation(tools: Tools) -> None:
    commands = (
        "HELO x\r\nehlo\nMail from:<a@b>\r\nRSET\r\nnoop x\r\nrcpt to:<c>\r\nDATA\r\n\r\nhelox\r\nquit x\r\n"
    )
    ended = tools.run("rblsmtpd", *PROGRAM, given=commands.encode(), env={**IP, "RBLSMTPD": "no"})
    replies = ended.out.decode().split("\r\n")
    assert replies == [GREETING, *[OK] * 5, *["451 no"] * 4, BYE, ""]
    assert (ended.code, ended.lines) == (0, [f"rblsmtpd: 192.0.2.7 pid {ended.pid}: 451 no"])


def test_a_client_that_hangs_up(tools: Tools) -> None:
    for given in (b"", b"rcpt", b"rcpt\r"):
        ended = tools.run("rblsmtpd", *PROGRAM, given=given, env={**IP, "RBLSMTPD": "no"})
        assert (ended.code, ended.out) == (0, GREETING.encode() + b"\r\n")


@pytest.mark.parametrize(
    "command", [b"QUIT\0\n", b"quit\r\r\n", b" quit\n", b"\tquit\n", b"x" * 5000 + b"\n"]
)
def test_odd_commands_are_refused(tools: Tools, command: bytes) -> None:
    ended = tools.run("rblsmtpd", *PROGRAM, given=command, env={**IP, "RBLSMTPD": "no"})
    assert ended.out.decode().split("\r\n") == [GREETING, "451 no", ""]


def test_replies_come_at_once(tools: Tools) -> None:
    with tools.start("rblsmtpd", *PROGRAM, env={**IP, "RBLSMTPD": "no"}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"220 rblsmtpd.local\r\n"
        for _ in range(3):
            process.stdin.write(b"noop\r\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"250 rblsmtpd.local\r\n"
        process.stdin.write(b"quit\r\n")
        process.stdin.flush()
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("seconds", ["0", "x", ""])
def test_no_time_for_a_conversation(tools: Tools, seconds: str) -> None:
    options = ["-t", seconds] if seconds else ["-t", "", "--"]
    ended = tools.run("rblsmtpd", *options, *PROGRAM, env={**IP, "RBLSMTPD": "no"})
    assert (ended.code, ended.out) == (0, b"451 no\r\n")


def test_time_for_a_conversation(tools: Tools) -> None:
    with tools.start("rblsmtpd", "-t1", *PROGRAM, env={**IP, "RBLSMTPD": "no"}) as process:
        assert process.wait(TIMEOUT) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"220 rblsmtpd.local\r\n"


def test_a_client_that_no_longer_reads(tools: Tools) -> None:
    with tools.start("rblsmtpd", *PROGRAM, env={**IP, "RBLSMTPD": "no"}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"noop\r\n")
        process.stdin.close()
        assert process.wait(TIMEOUT) == -signal.SIGPIPE


def test_without_an_address(tools: Tools) -> None:
    ended = tools.run("rblsmtpd", "-t0", *PROGRAM, env={"RBLSMTPD": "no"})
    assert ended.lines == [f"rblsmtpd:  pid {ended.pid}: 451 no"]


# lists


@pytest.fixture
def network(tmp_path: Path) -> Iterator[PrivateNetwork]:
    with private_network(tmp_path) as it:
        yield it


ZONE: dns_server.Zone = {
    "7.2.0.192.list.test TXT": ['"listed"'],
    "7.2.0.192.two.test TXT": ['"first" " second"', '"third\\200"'],
    "7.2.0.192.empty.test TXT": ['""'],
    "7.2.0.192.a.test A": ["127.0.0.2"],
    "7.2.0.192.good.test A": ["127.0.0.2"],
    "8.2.0.192.list.test TXT": ['"another"'],
    "list.test TXT": ['"nobody"'],
}


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ("-r list.test", "451 listed"),
        ("-rlist.test", "451 listed"),
        ("-r nowhere.test", ""),
        ("-r empty.test", ""),
        ("-r a.test", ""),
        ("-r two.test", "451 first secondthird?"),
        ("-r nowhere.test -r list.test", "451 listed"),
        ("-r list.test -r two.test", "451 listed"),
        ("-a good.test -r list.test", ""),
        ("-r list.test -a good.test", "451 listed"),
        ("-a nowhere.test -r list.test", "451 listed"),
        ("-a list.test -r list.test", "451 listed"),
        ("-b -r list.test", "553 listed"),
        ("-r list.test -b", "451 listed"),
        ("-bB -r list.test", "451 listed"),
        ("-cb -r list.test", "553 listed"),
    ],
)
def test_lists(tools: Tools, network: PrivateNetwork, options: str, reply: str) -> None:
    with network.serving_names(ZONE):
        assert run(tools.within(network), *options.split()) == reply


def test_lists_are_asked_in_order_until_one_decides(tools: Tools, network: PrivateNetwork) -> None:
    with network.serving_names(ZONE) as names:
        assert (
            run(tools.within(network), "-r", "nowhere.test", "-r", "list.test", "-r", "two.test")
            == "451 listed"
        )
        assert list(names.asked) == ["7.2.0.192.nowhere.test TXT", "7.2.0.192.list.test TXT"]
        names.asked.clear()
        assert run(tools.within(network), "-r", "list.test", RBLSMTPD="") == ""
        assert not names.asked


@pytest.mark.parametrize(
    ("ip", "asked"),
    [
        ("1.2.3", "3.2.1.list.test"),
        ("x.y", "y.x.list.test"),
        ("", "list.test"),
        ("1..2", "2.1.list.test"),
    ],
)
def test_odd_addresses(tools: Tools, network: PrivateNetwork, ip: str, asked: str) -> None:
    with network.serving_names(ZONE) as names:
        tools.within(network).run("rblsmtpd", "-t0", "-r", "list.test", *PROGRAM, env={"TCPREMOTEIP": ip})
        assert list(names.asked) == [f"{asked} TXT"]


# what only ours has


@pytest.mark.parametrize("ip", ["2001:db8::7", "2001:0DB8::7"])
def test_ipv6(ours: Tools, network: PrivateNetwork, ip: str) -> None:
    name = "7" + ".0" * 23 + ".8.b.d.0.1.0.0.2.list.test TXT"
    with network.serving_names({name: ['"six"']}):
        ended = ours.within(network).run(
            "rblsmtpd", "-t0", "-r", "list.test", *PROGRAM, env={"TCPREMOTEIP": ip}
        )
        assert ended.out == b"451 six\r\n"


def test_ipv4_that_is_written_as_ipv6(ours: Tools, network: PrivateNetwork) -> None:
    with network.serving_names(ZONE):
        env = {"TCPREMOTEIP": "::ffff:192.0.2.7"}
        ended = ours.within(network).run("rblsmtpd", "-t0", "-r", "list.test", *PROGRAM, env=env)
        assert ended.out == b"451 listed\r\n"


def delayed(tools: Tools, given: bytes | None, *options: str, **env: str) -> tuple[Ended, bytes]:
    """Run it on a socket of which the client has sent something, or hung up if None."""
    client, server = socket.socketpair()
    with client, server:
        if given is None:
            client.close()
        elif given:
            client.sendall(given)
        command = [*options, *PROGRAM]
        pipes = {"stdin": server, "stdout": server, "stderr": subprocess.PIPE}
        with tools.start("rblsmtpd", *command, env={**IP, **env}, **pipes) as process:
            server.close()
            _out, err = process.communicate(timeout=TIMEOUT)
        ended = Ended(process.returncode, b"", err, process.pid)
        return ended, client.recv(1000) if given is not None else b""


def test_a_client_waits_for_its_greeting(ours: Tools) -> None:
    ended, answer = delayed(ours, b"", "-w1")
    assert ended.lines == [f"rblsmtpd: 192.0.2.7 pid {ended.pid}: greetdelay: 1"]
    assert answer == b"the program\n"
    ended, answer = delayed(ours, b"", "-W", GREETDELAY="1")
    assert (len(ended.lines), answer) == (1, b"the program\n")
    for options, env in (
        (["-W"], {}),
        (["-w0"], {}),
        (["-W"], {"GREETDELAY": "x"}),
        (["-w60"], {"RBLSMTPD": ""}),
    ):
        ended, answer = delayed(ours, b"", *options, **env)
        assert (ended.lines, answer) == ([], b"the program\n")


def test_a_client_that_does_not_wait_for_its_greeting(ours: Tools) -> None:
    ended, answer = delayed(ours, b"EHLO x\r\n", "-w60", "-t0")
    assert ended.lines[1] == f"rblsmtpd: 192.0.2.7 pid {ended.pid}: 451 wait for the greeting"
    assert answer == b"451 wait for the greeting\r\n"
    ended, _answer = delayed(ours, None, "-w60")
    assert (ended.code, len(ended.lines)) == (0, 1)


def test_without_a_socket_there_is_only_the_delay(ours: Tools) -> None:
    ended = ours.run("rblsmtpd", "-w1", *PROGRAM, given=b"EHLO x\r\n", env=IP)
    assert ended.out == b"the program\n"
