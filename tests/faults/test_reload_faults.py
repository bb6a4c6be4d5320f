"""A thousand SIGHUPs while clients come, for files that are valid, broken and impossible in turn."""

import collections
import itertools
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients import load
from daemon import TIMEOUT, Daemon, exchange, running, wait_gone
from faults import PER_LAUNCHER, descriptors, memory

SIGNALS = 1000
RELOADS = 12
AT_A_TIME = 200
"""Signals that are sent before a reload is waited for: those that come during one become one more."""

GROWTH = 1 << 20
"""Bytes of memory that the master may be larger by."""

SERVICES: dict[str, Any] = {
    "echo": {"listen": "127.0.0.1:0", "program": ["cat"]},
    "other": {"listen": "127.0.0.1:0", "program": ["cat"], "umask": "077"},
}
EXTRA = {"listen": "127.0.0.1:0", "program": ["cat"], "umask": "070"}
NOWHERE = "192.0.2.1:9"
"""An address that no host has (RFC 5737)."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, {"services": SERVICES}) as daemon:
        yield daemon


def files(daemon: Daemon) -> list[tuple[str, bool]]:
    """Return the texts of files, and whether each can be in force."""
    return [
        (yaml.safe_dump(daemon.config | {"services": SERVICES | services}), possible)
        for services, possible in (
            ({"extra": EXTRA}, True),
            ({"impossible": EXTRA | {"listen": NOWHERE}}, False),
            ({"broken": {"listen": "what?", "program": []}}, False),
        )
    ]


def come(address: tuple[str, int], over: threading.Event, answers: list[bytes]) -> None:
    while not over.is_set():
        with socket.create_connection(address, TIMEOUT) as sock:
            answers.append(exchange(sock, b"word"))


def held(daemon: Daemon) -> int:
    """Return how many descriptors the master has, but for those of launchers, of which there may be more."""
    return descriptors(daemon.pid) - PER_LAUNCHER * len(daemon.children("ucspid: launche"))


def settle(daemon: Daemon, descriptors: int) -> None:
    """Wait until the file is in force, and the master holds no more than before."""
    end = time.monotonic() + TIMEOUT
    daemon.write()
    daemon.reload()
    while held(daemon) != descriptors:
        assert time.monotonic() < end, f"{held(daemon)} descriptors, and {descriptors} before"
        assert daemon.reload() == []


def test_a_thousand_hangups_cost_no_client_anything(daemon: Daemon) -> None:
    daemon.reload({"services": SERVICES | {"extra": EXTRA}})
    daemon.reload({"services": SERVICES})
    for launcher in daemon.children("ucspid: launche"):
        if launcher not in {process["pid"] for process in daemon.processes("launcher")}:
            wait_gone(launcher)
    daemon.reload()  # whatever has ended is forgotten by now
    before, over, answers = held(daemon), threading.Event(), list[bytes]()
    addresses, lasting = (
        [daemon.address(name) for name in SERVICES],
        [daemon.connect(name) for name in SERVICES],
    )
    clients = [threading.Thread(target=come, args=(address, over, answers)) for address in addresses]
    for client in clients:
        client.start()
    texts, sizes, failures = itertools.cycle(files(daemon)), [], 0
    try:
        for _ in range(SIGNALS // AT_A_TIME):
            burst = [*itertools.islice(texts, AT_A_TIME)]
            for text, _possible in burst:
                daemon.replace(text)
                daemon.signal(signal.SIGHUP)
            if not burst[-1][1]:  # it is the last that counts, whatever became of those before
                failures += 1
                daemon.wait_events(failures, "reload_failed")
            failures = len(daemon.wait_events(0, "reload_failed"))
            settle(daemon, before)
            sizes.append(memory(daemon.pid))
    finally:
        over.set()
        for client in clients:
            client.join()
    assert set(answers) == {b"word"}
    for sock in lasting:
        with sock:
            assert exchange(sock, b"still") == b"still"
    assert sizes[-1] - sizes[len(sizes) // 2] < GROWTH
    ends = collections.Counter(event["event"] for event in daemon.events)
    sys.stdout.write(
        f"\n{SIGNALS} signals: {ends['reloaded']} reloads, {ends['reload_failed']} that failed, "
        f"{len(answers)} clients\n"
    )
    assert ends["reloaded"] + ends["reload_failed"] > len(sizes)
    assert ends["reload_failed"] >= failures > 0


def test_a_reload_that_takes_variables_away_costs_no_client_anything(tmp_path: Path) -> None:
    """Reloads that in turn add and take away what a start in flight may still set: a rule's, a dialect's."""
    echo = {"listen": "127.0.0.1:0", "program": ["cat"], "max_connections": 40}
    rule = {"from": "127.0.0.0/8", "allow": True, "env": {"RELAYCLIENT": ""}}
    more = {"rules": [rule], "env_dialect": "systemd"}
    with running(tmp_path, {"services": {"echo": echo | more}}) as daemon:
        with load(daemon.address("echo"), 6) as clients:
            for settings in [{}, more] * (RELOADS // 2):
                daemon.reload({"services": {"echo": echo | settings}})
        assert clients.failed == []
        assert len(clients.seconds) > 10 * RELOADS
        assert daemon.service("echo")["failed"] == {}
