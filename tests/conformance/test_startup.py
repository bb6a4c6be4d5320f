"""What the tools take to start: little more than the interpreter alone."""

import socket
import subprocess
import sys
import time

import pytest

from private_network import serving_clients
from tool_programs import Tools

ROUNDS = 15
FACTOR = 2.5
"""Of the interpreter's own time; importing enum, typing or re would double it alone."""


def seconds(*command: str) -> float:
    """Return how long a command takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - began


def measured(ours: Tools, words: list[str]) -> tuple[float, float]:
    """Return the least that the interpreter alone and a tool take, in alternation: others only add to it."""
    command = [str(ours.folder / words[0]), *words[1:]]
    bare, tool = [], []
    for _ in range(ROUNDS):
        bare.append(seconds(sys.executable, "-IS", "-c", "pass"))
        tool.append(seconds(*command))
    return min(bare), min(tool)


CHAIN = {
    "addcr": [],
    "argv0": ["/bin/true", "true"],
    "recordio": ["/bin/true"],
    "fixcrio": ["/bin/true"],
    "rblsmtpd": ["/bin/true"],
}


@pytest.mark.alone
@pytest.mark.parametrize("tool", CHAIN)
def test_a_chain_program_starts_as_fast_as_an_interpreter(ours: Tools, tool: str) -> None:
    bare, taken = measured(ours, [tool, *CHAIN[tool]])
    assert taken < FACTOR * bare


@pytest.mark.alone
def test_a_client_starts_as_fast_as_an_interpreter(ours: Tools) -> None:
    with serving_clients(socket.create_server(("127.0.0.1", 0)), lambda _client: None) as port:
        bare, taken = measured(ours, ["tcpclient", "-RHl0", "127.0.0.1", str(port), "/bin/true"])
    assert taken < FACTOR * bare
