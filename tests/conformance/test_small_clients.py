"""who@, date@, finger@, http@, tcpcat, mconnect and mconnect-io: what is asked, what is shown, exit codes."""

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from private_network import PrivateNetwork, private_network
from tool_programs import TIMEOUT, Tools

REFUSED = "tcpclient: unable to connect to {} port {}: connection refused"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[PrivateNetwork]:
    with private_network(tmp_path) as it:
        yield it


Talk = Callable[[socket.socket], None]


def saying(answer: bytes, asked: list[bytes] | None = None, lines: int = 0) -> Talk:
    """Return a talk that hears some lines, and then says something."""

    def talk(client: socket.socket) -> None:
        with client.makefile("rb") as file:
            heard = b"".join(file.readline() for _ in range(lines))
        if asked is not None:
            asked.append(heard)
        client.sendall(answer)

    return talk


ODD = b"a\r\nb\r\r\nc\n\0\x1b[2J\t\x7f\x80\xe9\xff\r"
SHOWN = b"a\nb^M\nc\n^@^[[2J\t^?M-^@M-iM-^?^M"


@pytest.mark.parametrize(("tool", "port"), [("who@", 11), ("date@", 13)])
@pytest.mark.parametrize("words", [[], [""], ["0"], ["127.0.0.1"], ["127.0.0.1", "other"]], ids=str)
def test_who_and_date(tools: Tools, network: PrivateNetwork, tool: str, port: int, words: list[str]) -> None:
    with network.serving(saying(ODD), port=port):
        ended = tools.within(network).run(tool, *words)
    assert (ended.code, ended.out, ended.err) == (0, SHOWN, b"")


@pytest.mark.parametrize(("tool", "port"), [("who@", 11), ("date@", 13), ("finger@", 79), ("http@", 80)])
def test_nobody_answers(tools: Tools, network: PrivateNetwork, tool: str, port: int) -> None:
    ended = tools.within(network).run(tool, "127.0.0.1")
    assert (ended.code, ended.out, ended.lines) == (0, b"", [REFUSED.format("127.0.0.1", port)])
    ended = tools.within(network).run(tool, "1.2.3")
    assert (ended.code, ended.lines) == (0, ["tcpclient: fatal: no IP address for 1.2.3"])


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], b"\r\n"),
        (["127.0.0.1"], b"\r\n"),
        (["127.0.0.1", ""], b"\r\n"),
        (["127.0.0.1", "me"], b"me\r\n"),
        (["0", "/W me you"], b"/W me you\r\n"),
    ],
    ids=str,
)
def test_finger(tools: Tools, network: PrivateNetwork, words: list[str], asked: bytes) -> None:
    heard: list[bytes] = []
    with network.serving(saying(ODD, heard, lines=1), port=79):
        ended = tools.within(network).run("finger@", *words)
    assert heard == [asked]
    assert (ended.code, ended.out, ended.err) == (0, SHOWN, b"")


ANSWER = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nline\r\n\r\nmore\xff\n\n\r\nend"


@pytest.mark.parametrize(
    ("words", "port", "asked"),
    [
        ([], 80, b"GET / HTTP/1.0\r\nHost: 0:80\r\n\r\n"),
        (["127.0.0.1"], 80, b"GET / HTTP/1.0\r\nHost: 127.0.0.1:80\r\n\r\n"),
        (["127.0.0.1", "a/b?c d"], 80, b"GET /a/b?c d HTTP/1.0\r\nHost: 127.0.0.1:80\r\n\r\n"),
        (["127.0.0.1", "x", "8080"], 8080, b"GET /x HTTP/1.0\r\nHost: 127.0.0.1:8080\r\n\r\n"),
    ],
    ids=str,
)
def test_http(tools: Tools, network: PrivateNetwork, words: list[str], port: int, asked: bytes) -> None:
    heard: list[bytes] = []
    with network.serving(saying(ANSWER, heard, lines=3), port=port):
        ended = tools.within(network).run("http@", *words)
    assert heard == [asked]
    assert (ended.code, ended.out, ended.err) == (0, b"line\nmore\xff\nend\n", b"")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.0 200 OK\r\n", b"x\n\n", b"\n", b"\r\n\r\n", b"\nbody", b"x\n\nb\n\n"]
)
def test_answers_of_http(tools: Tools, network: PrivateNetwork, answer: bytes) -> None:
    with network.serving(saying(answer, lines=3), port=80):
        ended = tools.within(network).run("http@")
    assert ended.out == {b"\nbody": b"body\n", b"x\n\nb\n\n": b"b\n"}.get(answer, b"")


def test_much_is_shown(tools: Tools, network: PrivateNetwork) -> None:
    page = b"".join(b"line %d\r\n" % number for number in range(30000))
    with network.serving(saying(b"HTTP/1.0 200 OK\r\n\r\n" + page, lines=3), port=80):
        assert tools.within(network).run("http@").out == page.replace(b"\r\n", b"\n")


def test_a_server_that_resets(tools: Tools, network: PrivateNetwork) -> None:
    def talk(client: socket.socket) -> None:
        client.sendall(b"partly")
        client.recv(1000, socket.MSG_PEEK)  # is not read, so that closing resets

    with network.serving(talk, port=79):
        ended = tools.within(network).run("finger@", "127.0.0.1", "me")
    assert (ended.code, ended.out) in {(0, b"partly"), (0, b"")}


@pytest.mark.parametrize(("tool", "port"), [("who@", 11), ("http@", 80)])
def test_output_that_nobody_reads(tools: Tools, network: PrivateNetwork, tool: str, port: int) -> None:
    page = b"header\n\n" + b"line\n" * 100000
    with network.serving(saying(page), port=port), tools.within(network).start(tool) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(TIMEOUT) in {-signal.SIGPIPE, 128 + signal.SIGPIPE}


# tcpcat and mconnect


@contextlib.contextmanager
def port_of(network: PrivateNetwork, talk: Talk) -> Iterator[str]:
    with network.serving(talk) as number:
        yield str(number)


def test_tcpcat(tools: Tools, network: PrivateNetwork) -> None:
    with port_of(network, saying(ODD)) as port:
        for host in ("127.0.0.1", "0", ""):
            ended = tools.within(network).run("tcpcat", host, port, "other", given=b"ignored")
            assert (ended.code, ended.out, ended.err) == (0, ODD, b"")
    with network.serving(saying(ODD), port=17):
        assert tools.within(network).run("tcpcat").out == ODD
        assert tools.within(network).run("tcpcat", "127.0.0.1", "qotd").out == ODD


def test_a_server_that_resets_tcpcat(tools: Tools, network: PrivateNetwork) -> None:
    shown = threading.Event()

    def talk(client: socket.socket) -> None:
        client.sendall(b"x")
        assert shown.wait(TIMEOUT)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with port_of(network, talk) as port, tools.within(network).start("tcpcat", "", port) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        shown.set()
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (1, b"", b"cat: -: Connection reset by peer\n")


@pytest.mark.parametrize(("tool", "port"), [("who@", 11), ("date@", 13), ("tcpcat", 17), ("finger@", 79)])
def test_output_that_cannot_be_written(tools: Tools, network: PrivateNetwork, tool: str, port: int) -> None:
    with network.serving(saying(b"hello\r\n"), port=port), Path("/dev/full").open("wb") as full:
        ended = tools.within(network).run(tool, stdout=full)
    assert (ended.code, ended.lines) == (1, ["cat: write error: No space left on device"])


@pytest.mark.parametrize(("tool", "port"), [("tcpcat", 17), ("mconnect", 25)])
def test_nobody_answers_those_that_exec(tools: Tools, network: PrivateNetwork, tool: str, port: int) -> None:
    ended = tools.within(network).run(tool)
    assert (ended.code, ended.lines) == (111, [REFUSED.format("127.0.0.1", port)])
    ended = tools.within(network).run(tool, "127.0.0.1", "nosuchport")
    expected = "tcpclient: fatal: unable to figure out port number for nosuchport"
    assert (ended.code, ended.lines) == (111, [expected])
    with network.serving_names({}):
        ended = tools.within(network).run(tool, "-x", env={"LOCALDOMAIN": ""})
    assert (ended.code, ended.lines) == (111, ["tcpclient: fatal: no IP address for -x"]), "a host's name"


def test_mconnect(tools: Tools, network: PrivateNetwork) -> None:
    heard: list[bytes] = []

    def talk(client: socket.socket) -> None:
        client.sendall(b"220 hello\r\n")
        with client.makefile("rb") as file:
            for line in file:
                heard.append(line)
                client.sendall(b"250 " + line)
                if line.lower().startswith(b"quit"):
                    return

    with network.serving(talk, port=25), tools.within(network).start("mconnect") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"220 hello\r\n"
        for line in (b"EHLO x", b"a\r", b"QUIT"):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"250 " + line + b"\r\n"
        assert process.stdout.read() == b""
        assert process.wait(TIMEOUT) == 0
    assert heard == [b"EHLO x\r\n", b"a\r\r\n", b"QUIT\r\n"]


def test_mconnect_goes_on_after_the_end_of_its_input(tools: Tools, network: PrivateNetwork) -> None:
    """Nothing says so to the server: what it sends is shown until it closes."""
    closed = threading.Event()

    def talk(client: socket.socket) -> None:
        client.recv(100)
        assert closed.wait(TIMEOUT)
        client.sendall(b"late\r\n")

    with port_of(network, talk) as port, tools.within(network).start("mconnect", "", port) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x\n")
        process.stdin.close()
        closed.set()
        assert process.stdout.read() == b"late\r\n"
        assert process.wait(TIMEOUT) == 0


def test_mconnect_io(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "server").write_bytes(ODD)
    ended = tools.shell('exec $mconnect_io 6<"$1" 7>/dev/null', str(tmp_path / "server"))
    assert (ended.code, ended.out, ended.err) == (0, ODD, b"")
    ended = tools.shell('exec $mconnect_io 6<"$1" 7>/dev/null >/dev/full', str(tmp_path / "server"))
    assert (ended.code, ended.err) == (0, b"")
    assert tools.shell("exec $mconnect_io 6<&- 7>&-", given=b"x\n").code == 0
    assert tools.shell("exec $mconnect_io 6</dev/null 7>/dev/full", given=b"x\n").code == 0
