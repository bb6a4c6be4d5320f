"""tcpclient with addresses: options, messages, exit codes, environment, descriptors, peers that refuse."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from free_ports import free_port
from private_network import answering, serving_clients
from tool_programs import TIMEOUT, Ended, Tools, connection_variables, environment_of

USAGE = (
    "tcpclient: usage: tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] "
    "[ -l localname ] [ -t timeoutinfo ] host port program"
)
QUICK = "-RHl0"
"""No lookups."""


@dataclass
class Server:
    """A server on loopback, and who came."""

    port: str
    clients: list[tuple[str, int]] = field(default_factory=list)


@contextlib.contextmanager
def server(host: str = "127.0.0.1", say: bytes = b"") -> Iterator[Server]:
    """Serve clients: say something, and then what they say, until they end."""
    listener = socket.create_server((host, 0))
    it = Server(str(listener.getsockname()[1]))

    def talk(client: socket.socket) -> None:
        it.clients.append(client.getpeername())
        client.sendall(say)
        while data := client.recv(4096):
            client.sendall(data)

    with serving_clients(listener, talk):
        yield it


@pytest.fixture
def refusing() -> Iterator[str]:
    """Return a port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield str(bound.getsockname()[1])


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """Yield a port that hears and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield str(port)


# the command line


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["host"],
        ["host", "25"],
        ["--"],
        ["--", "host", "25"],
        ["-R", "host", "25"],
        ["-i", "x", "127.0.0.1", "1", "true"],
        ["-i", "1.2.3", "127.0.0.1", "1", "true"],
        ["-i", "", "127.0.0.1", "1", "true"],
    ],
    ids=str,
)
def test_usage(tools: Tools, words: list[str]) -> None:
    ended = tools.run("tcpclient", *words)
    assert (ended.code, ended.out, ended.lines) == (100, b"", [USAGE])


@pytest.mark.parametrize("letter", [*"abcefgjkmnosuwxyzABCEFGJKLMNOPSUVWXYZ0123", "\xe9", ":", "?"])
def test_an_option_that_does_not_exist(tools: Tools, letter: str) -> None:
    ended = tools.run("tcpclient", f"-R{letter}".encode("latin-1"), "127.0.0.1", "1", "true")
    assert (ended.code, ended.lines) == (100, [f"tcpclient: illegal option -- {letter}", USAGE])


@pytest.mark.parametrize("letter", "ipTlt")
def test_an_option_without_its_argument(tools: Tools, letter: str) -> None:
    ended = tools.run("tcpclient", f"-R{letter}")
    assert (ended.code, ended.lines) == (100, [f"tcpclient: option requires an argument -- {letter}", USAGE])


def test_what_ends_the_options(tools: Tools) -> None:
    with server() as peer:
        for words in (["-RHl0"], ["-R", "-H", "-l0", "--"], ["-RHl", "0"], ["-RHl0", "--"]):
            assert tools.run("tcpclient", *words, "127.0.0.1", peer.port, "true").code == 0
    assert tools.run("tcpclient", "-", "1", "true").lines[0].startswith("tcpclient: fatal:")


def test_a_quiet_client_says_nothing(tools: Tools, refusing: str) -> None:
    for options, code in (("-q", 111), ("-vq", 111), ("-Qq", 111)):
        ended = tools.run("tcpclient", options, QUICK, "127.0.0.1", refusing, "true")
        assert (ended.code, ended.err) == (code, b"")
    with server() as peer:
        ended = tools.run("tcpclient", "-q", QUICK, "127.0.0.1", peer.port, "/nowhere")
        assert (ended.code, ended.err) == (111, b"")
    assert (tools.run("tcpclient", "-q").code, tools.run("tcpclient", "-q").err) == (100, b"")
    assert tools.run("tcpclient", "-qz").lines == ["tcpclient: illegal option -- z", USAGE], "too early"
    assert tools.run("tcpclient", "-q", "127.0.0.1", "nosuchport", "true").err == b""


def test_a_later_option_holds(tools: Tools) -> None:
    with server() as peer:
        connected = f"tcpclient: connected to 127.0.0.1 port {peer.port}"
        for options, lines in (
            ("-v", [connected]),
            ("-qv", [connected]),
            ("-vQ", []),
            ("-vq", []),
            ("-Q", []),
        ):
            ended = tools.run("tcpclient", options, QUICK, "127.0.0.1", peer.port, "true")
            assert (ended.code, ended.lines) == (0, lines), options


# hosts and ports


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "", "0", "[127.0.0.1]", "127.0.0.1.", "127.0.0.257", "383.0.0.1"]
)
def test_forms_of_an_address(tools: Tools, host: str) -> None:
    with server() as peer:
        ended = tools.run("tcpclient", QUICK, host, peer.port, "sh", "-c", "echo $TCPREMOTEIP")
        assert (ended.code, ended.out) == (0, b"127.0.0.1\n")


@pytest.mark.parametrize("host", ["1.2.3", "...", "[]", "1.", "."])
def test_numbers_that_are_no_address(tools: Tools, host: str) -> None:
    env = {"LOCALDOMAIN": ""}
    ended = tools.run("tcpclient", QUICK, host, "25", "true", env=env)
    assert (ended.code, ended.lines) == (111, [f"tcpclient: fatal: no IP address for {host}"])


def test_two_addresses_in_one(tools: Tools) -> None:
    with server() as peer:
        ended = tools.run("tcpclient", QUICK, "127.0.0.9.127.0.0.1", peer.port, "true")
        assert ended.code == 0
        assert ended.lines == [
            f"tcpclient: unable to connect to 127.0.0.9 port {peer.port}: connection refused"
        ]


def test_forms_of_a_port(tools: Tools) -> None:
    with server() as peer:
        for port in (peer.port, "00" + peer.port, str(int(peer.port) + 65536), str(int(peer.port) + 2**64)):
            assert tools.run("tcpclient", QUICK, "127.0.0.1", port, "true").code == 0, port


@pytest.mark.parametrize("port", ["nosuchport", "25x", "-1", " 25", "\xe9", "smtp "])
def test_a_port_that_there_is_not(tools: Tools, port: str) -> None:
    ended = tools.run("tcpclient", QUICK, "127.0.0.1", port.encode("latin-1"), "true")
    expected = f"tcpclient: fatal: unable to figure out port number for {port}"
    assert (ended.code, ended.lines) == (111, [expected])


@pytest.mark.parametrize(("port", "number"), [("smtp", 25), ("pop3", 110), ("", 0), ("0", 0)])
def test_a_port_that_nobody_has(tools: Tools, port: str, number: int) -> None:
    ended = tools.run("tcpclient", QUICK, "127.0.0.99", port, "true")
    expected = f"tcpclient: unable to connect to 127.0.0.99 port {number}: connection refused"
    assert (ended.code, ended.lines) == (111, [expected])


def test_refused(tools: Tools, refusing: str) -> None:
    ended = tools.run("tcpclient", QUICK, "127.0.0.1", refusing, "true")
    expected = f"tcpclient: unable to connect to 127.0.0.1 port {refusing}: connection refused"
    assert (ended.code, ended.lines) == (111, [expected])


# -T


@pytest.mark.parametrize("timeouts", ["0", "0+0", "x", "", "+", "0+x", "+0", "0x+5"])
def test_no_time_at_all(tools: Tools, timeouts: str) -> None:
    with silence() as port:
        ended = tools.run("tcpclient", QUICK, "-T", timeouts, "127.0.0.1", port, "true")
    expected = f"tcpclient: unable to connect to 127.0.0.1 port {port}: timed out"
    assert (ended.code, ended.lines) == (111, [expected])


@pytest.mark.parametrize("timeouts", ["1", "0+1", "1+0"])
def test_one_address_has_one_pass_of_both_times(tools: Tools, timeouts: str) -> None:
    with silence() as port:
        ended = tools.run("tcpclient", QUICK, "-T", timeouts, "127.0.0.1", port, "true")
    assert ended.lines == [f"tcpclient: unable to connect to 127.0.0.1 port {port}: timed out"]


def test_two_addresses_have_two_passes(tools: Tools) -> None:
    """One that is silent is tried again at the end; one that refuses is reported at once."""
    with silence() as port:
        unable = "tcpclient: unable to connect to"
        ended = tools.run("tcpclient", QUICK, "-T0+0", "127.0.0.1.127.0.0.2", port, "true")
        assert ended.lines == [
            f"{unable} 127.0.0.1 port {port}: timed out",
            f"{unable} 127.0.0.2 port {port}: connection refused",
        ], "without a second pass"
        ended = tools.run("tcpclient", QUICK, "-T0+1", "127.0.0.1.127.0.0.2", port, "true")
        assert ended.lines == [
            f"{unable} 127.0.0.2 port {port}: connection refused",
            f"{unable} 127.0.0.1 port {port}: timed out",
        ], "with one"


def test_a_silent_address_does_not_hide_the_next(tools: Tools) -> None:
    with silence() as port:
        listener = socket.create_server(("127.0.0.2", int(port)))
        with serving_clients(listener, lambda _client: None):
            ended = tools.run("tcpclient", QUICK, "-v", "-T0+60", "127.0.0.1.127.0.0.2", port, "true")
    assert (ended.code, ended.lines) == (0, [f"tcpclient: connected to 127.0.0.2 port {port}"])


# -i and -p


def test_the_local_address(tools: Tools) -> None:
    with server() as peer:
        for options in (["-i", "127.0.0.5"], ["-i127.0.0.5x"], ["-i", "383.0.0.5"]):
            command = ["-c", "echo $TCPLOCALIP"]
            ended = tools.run("tcpclient", QUICK, *options, "127.0.0.1", peer.port, "sh", *command)
            assert ended.out == b"127.0.0.5\n"
    assert {ip for ip, _port in peer.clients} == {"127.0.0.5"}


def test_the_local_port(tools: Tools) -> None:
    port = free_port()
    with server() as peer:
        words = [
            "-i127.0.0.6",
            "-p",
            str(port + 65536),
            "127.0.0.1",
            peer.port,
            "sh",
            "-c",
            "echo $TCPLOCALPORT",
        ]
        ended = tools.run("tcpclient", QUICK, *words)
    assert ended.out == b"%d\n" % port
    assert peer.clients == [("127.0.0.6", port)]


def test_a_local_address_that_is_not_here(tools: Tools, refusing: str) -> None:
    ended = tools.run("tcpclient", QUICK, "-i192.0.2.1", "127.0.0.1", refusing, "true")
    expected = "tcpclient: fatal: unable to bind socket: address not available"
    assert (ended.code, ended.lines) == (111, [expected])


def test_a_local_port_that_is_taken(tools: Tools) -> None:
    with server() as peer:
        ended = tools.run("tcpclient", QUICK, "-p", peer.port, "127.0.0.1", peer.port, "true")
    expected = "tcpclient: fatal: unable to bind socket: address already used"
    assert (ended.code, ended.lines) == (111, [expected])


# what the program gets


def run_env(tools: Tools, peer: Server, *options: str, **env: str) -> Ended:
    return tools.run("tcpclient", *options, "127.0.0.1", peer.port, "env", "-0", env=env)


def test_the_environment(tools: Tools) -> None:
    with server() as peer:
        ended = run_env(
            tools, peer, "-RHlname", A="", LC_ALL="C", TCPLOCALHOST="x", TCPREMOTEHOST="x", TCPREMOTEINFO="x"
        )
    _ip, local_port = peer.clients[0]
    assert environment_of(ended) == {
        **tools.env,
        "A": "",
        "LC_ALL": "C",
        "PROTO": "TCP",
        "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": str(local_port),
        "TCPLOCALHOST": "name",
        "TCPREMOTEIP": "127.0.0.1",
        "TCPREMOTEPORT": peer.port,
    }


@pytest.mark.parametrize("name", ["", "0", "a b=c"])
def test_the_local_name(tools: Tools, name: str) -> None:
    with server() as peer:
        ended = run_env(tools, peer, "-RH", "-l", name)
    assert connection_variables(ended)["TCPLOCALHOST"] == name


def test_other_variables_stay(tools: Tools) -> None:
    with server() as peer:
        ended = run_env(tools, peer, "-RHl0", TCP6REMOTEIP="x", PROTO="SSL", SSLREMOTEIP="y")
    variables = environment_of(ended)
    assert (variables["TCP6REMOTEIP"], variables["PROTO"], variables["SSLREMOTEIP"]) == ("x", "TCP", "y")


def test_the_descriptors(tools: Tools) -> None:
    with server() as peer:
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, "sh", "-c", "ls /proc/$$/fd")
        assert ended.out.split() == [b"0", b"1", b"2", b"6", b"7"]
        others = "3</dev/null 6</dev/null 7</dev/null 8</dev/null"
        script = f"exec $tcpclient -RHl0 127.0.0.1 $1 sh -c 'ls /proc/$$/fd' {others}"
        assert tools.shell(script, peer.port).out.split() == [b"0", b"1", b"2", b"3", b"6", b"7", b"8"]


def test_closed_descriptors_stay_closed(tools: Tools) -> None:
    with server() as peer:
        script = "exec $tcpclient -RHl0 127.0.0.1 $1 ls -x /proc/self/fd <&- >&2"
        assert tools.shell(script, peer.port).err.split() == [b"0", b"1", b"2", b"6", b"7"], "ls opens 0"


def test_both_descriptors_are_the_connection(tools: Tools) -> None:
    with server(say=b"hello\n") as peer:
        script = "read line <&6; echo $line; echo back >&7; read line <&6; echo $line"
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, "sh", "-c", script)
        assert (ended.code, ended.out) == (0, b"hello\nback\n")


def test_the_connection_blocks(tools: Tools) -> None:
    with server() as peer:
        script = "grep flags /proc/$$/fdinfo/6 /proc/$$/fdinfo/7"
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, "sh", "-c", script)
    flags = {int(line.split()[1], 8) for line in ended.out.decode().splitlines()}
    assert all(not flag & os.O_NONBLOCK for flag in flags)


def test_the_program_has_the_process_and_its_exit_status(tools: Tools) -> None:
    with server() as peer:
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, "sh", "-c", "echo $$; exit 77")
        assert (ended.code, ended.out.strip()) == (77, b"%d" % ended.pid)
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, "sh", "-c", "kill -9 $$")
        assert ended.code == -signal.SIGKILL


def test_the_program_has_default_signals(tools: Tools) -> None:
    with server() as peer:
        command = ["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, *command)
    assert {line.split()[1] for line in ended.out.decode().splitlines()} == {"0" * 16}


@pytest.mark.parametrize(
    ("program", "reason"),
    [("nowhere", "file does not exist"), ("/etc/passwd", "access denied"), ("", "access denied")],
)
def test_a_program_that_cannot_be_run(tools: Tools, program: str, reason: str) -> None:
    with server() as peer:
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", peer.port, program)
    expected = f"tcpclient: fatal: unable to run {program}: {reason}"
    assert (ended.code, ended.lines) == (111, [expected])


@pytest.mark.parametrize(("options", "nodelay"), [("-D", True), ("-d", False), ("-Dd", False), ("-v", False)])
def test_nodelay(tools: Tools, options: str, nodelay: bool) -> None:
    program = "import socket; s = socket.socket(fileno=6); print(s.getsockopt(6, 1)); s.detach()"
    with server() as peer:
        ended = tools.run("tcpclient", options, QUICK, "127.0.0.1", peer.port, "python3", "-ISc", program)
    assert (ended.out == b"1\n") is nodelay


def test_a_signal_while_it_waits(tools: Tools) -> None:
    with silence() as port:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with tools.start(
                "tcpclient", QUICK, "-v", "-T0+60", "127.0.0.2.127.0.0.1", port, "true"
            ) as process:
                assert process.stderr is not None
                assert b"127.0.0.2" in process.stderr.readline(), "it waits for the other one"
                process.send_signal(number)
                assert process.wait(TIMEOUT) == -number


def test_a_server_that_answers_once(tools: Tools) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with serving_clients(listener, answering(b"you said PORTS\r\n")) as port:
        script = "echo hello >&7; cat <&6"
        ended = tools.run("tcpclient", QUICK, "127.0.0.1", str(port), "sh", "-c", script)
    assert ended.out == b"you said hello\r\n"
