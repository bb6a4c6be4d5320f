"""https@: what is asked, what is shown, and when it is shown nothing."""

import socket
import ssl
from pathlib import Path

import pytest

import tls_servers
from tls_servers import authority, context, tls_server
from tool_programs import Tools

HEADER = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n"
LINES = b"a line of a page\r\n" * 200000


class Pages:
    """Answers with a page, and has what was asked."""

    def __init__(self, body: bytes, *, notify: bool = True) -> None:
        self.asked: list[bytes] = []
        self._body, self._notify = body, notify

    def __call__(self, client: ssl.SSLSocket) -> None:
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += client.recv(65536)
        self.asked.append(heard)
        client.sendall(HEADER + self._body)
        if self._notify:
            client.unwrap()


@pytest.fixture
def trusted() -> dict[str, str]:
    """Return an environment with which OpenSSL trusts the tests' certificates."""
    return {"SSL_CERT_FILE": authority()}


@pytest.mark.parametrize("body", [b"", b"one\r\n\r\nend", LINES])
def test_a_page(ours: Tools, trusted: dict[str, str], body: bytes) -> None:
    pages = Pages(body)
    with tls_server(pages, context("addresses")) as server:
        ended = ours.run("https@", "127.0.0.1", "a/b?c", server.port, env=trusted)
    shown = b"".join(line + b"\n" for line in body.split(b"\r\n") if line)
    assert (ended.code, ended.out == shown, ended.err) == (0, True, b"")
    assert pages.asked == [f"GET /a/b?c HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()]


def test_a_server_that_is_not_the_one_is_asked_nothing(ours: Tools, trusted: dict[str, str]) -> None:
    pages = Pages(b"page")
    for kind, env, why in (
        ("addresses", {}, "unable to get local issuer certificate"),
        ("good", trusted, "ip address mismatch, certificate is not valid for '127.0.0.1'"),
    ):
        with tls_server(pages, context(kind)) as server:
            ended = ours.run("https@", "127.0.0.1", "", server.port, env=env)
        line = f"https@: fatal: unable to start TLS with 127.0.0.1 port {server.port}: {why}"
        assert (ended.code, ended.out, ended.lines) == (98, b"", [line])
    assert pages.asked == []


def test_a_page_that_is_cut_off(ours: Tools, trusted: dict[str, str]) -> None:
    with tls_server(Pages(b"part", notify=False), context("addresses")) as server:
        ended = ours.run("https@", "127.0.0.1", "", server.port, env=trusted)
    missing = "it ended without close_notify, so something may be missing"
    line = f"https@: warning: connection to 127.0.0.1 port {server.port} broken: {missing}"
    assert (ended.code, ended.out, ended.lines) == (1, b"part\n", [line])

    def reset(client: ssl.SSLSocket) -> None:
        client.recv(65536)
        tls_servers.reset(client)

    with tls_server(reset, context("addresses")) as server:
        ended = ours.run("https@", "127.0.0.1", "", server.port, env=trusted)
    assert (ended.code, ended.out) == (1, b"")
    assert ended.lines[0].endswith("broken: Connection reset by peer")


def test_nobody_answers(ours: Tools) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        ended = ours.run("https@", "127.0.0.1", "", str(port))
    line = f"https@: unable to connect to 127.0.0.1 port {port}: connection refused"
    assert (ended.code, ended.out, ended.lines) == (111, b"", [line])


def test_a_page_that_cannot_be_written(ours: Tools, trusted: dict[str, str]) -> None:
    with tls_server(Pages(LINES), context("addresses")) as server, Path("/dev/full").open("wb") as full:
        ended = ours.run("https@", "127.0.0.1", "", server.port, env=trusted, stdout=full)
    assert (ended.code, ended.lines) == (1, ["cat: write error: No space left on device"])
