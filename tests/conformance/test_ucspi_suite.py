"""What Debian's own conformance script for tools of UCSPI (ucspi_tcp_test, by P. Pentchev) asks of a client.

The script is in the source of the package ucspi-tcp, not in the package; it passes with our tools, too.
"""

import socket
from collections.abc import Iterator

import pytest

from tool_programs import TIMEOUT, Tools

MESSAGE = b"a01 hello\na02 bye\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as it:
        it.settimeout(TIMEOUT)
        yield it


@pytest.mark.parametrize(
    ("tool", "options", "program"),
    [
        ("tcpcat", [], []),
        ("tcpclient", ["-RHl0", "--"], ["sh", "-c", "set -e; exec <&6; exec cat"]),
    ],
)
def test_what_a_server_says_arrives(
    tools: Tools, listener: socket.socket, tool: str, options: list[str], program: list[str]
) -> None:
    host, port = listener.getsockname()
    with tools.start(tool, *options, host, str(port), *program) as process:
        client, _address = listener.accept()
        with client:
            client.sendall(MESSAGE)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (0, MESSAGE, b"")
