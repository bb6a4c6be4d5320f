"""What the tools take to start: little more than the interpreter alone."""

import socket
import subprocess
import sys
import time

import pytest

from private_network import serving_clients
from tool_programs import Tools

MIN_ROUNDS, MAX_ROUNDS = 10, 200
FACTOR = 2.5
"""Of the interpreter's own time; importing enum, typing or re would double it alone."""


def seconds(*command: str) -> float:
    """Return how long a command takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - began


def starts_as_fast(ours: Tools, words: list[str]) -> bool:
    """Return whether the least that a tool takes is little more than the least of the interpreter alone.

    They are run in alternation. Others on the machine only add to it, so more rounds are fairer to both.
    """
    command = [str(ours.folder / words[0]), *words[1:]]
    bare = tool = float("inf")
    for number in range(MAX_ROUNDS):
        bare = min(bare, seconds(sys.executable, "-IS", "-c", "pass"))
        tool = min(tool, seconds(*command))
        if number >= MIN_ROUNDS and tool < FACTOR * bare:
            return True
    return False


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
    assert starts_as_fast(ours, [tool, *CHAIN[tool]])


@pytest.mark.alone
def test_a_client_starts_as_fast_as_an_interpreter(ours: Tools) -> None:
    with serving_clients(socket.create_server(("127.0.0.1", 0)), lambda _client: None) as port:
        assert starts_as_fast(ours, ["tcpclient", "-RHl0", "127.0.0.1", str(port), "/bin/true"])
