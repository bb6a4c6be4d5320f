"""Parts killed with -9, ten times each, under load: what is lost, how long clients wait, what is counted.

docs/reliability.md has the bounds; `pytest -s tests/faults/test_kill.py` prints the figures.
"""

import contextlib
import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, receive_all, running
from reachable import reachable
from tiers import Stopwatch

KILLS = 10
CLIENTS = 4
"""Clients at a time, each of whom comes again as soon as it was served."""

LASTING = 20
HELD_BY_A_LOOP = 16 + 1
"""Connections that a loop may hold between accept(2) and a launcher: a batch, and one refused or counted."""

HELD_BY_A_LAUNCHER = 2
"""Starts that a launcher may have before it."""

PAUSE = 1.0
"""Seconds that no client may wait longer for; what is hoped for is 0.15.

The time in which something waits for a CPU, for memory or for a disk is not counted."""

CONFIG: dict[str, Any] = {
    "services": {
        "short": {"listen": "127.0.0.1:0", "program": ["echo", "ok"], "max_connections": 30},
        "other": {"listen": "127.0.0.1:0", "program": ["echo", "ok"], "umask": "077"},
        "lasting": {
            "listen": "127.0.0.1:0",
            "program": ["cat"],
            "max_connections": LASTING,
            "on_full": "refuse",
        },
    },
}  # fmt: skip


SCRIPTS = {"echo": 'print("ok")', "cat": "import os\nwhile data := os.read(0, 4096):\n    os.write(1, data)"}
"""In Python what the programs of CONFIG do, by their names."""


@dataclass(frozen=True)
class Visit:
    """One client: when it came and went, and what it got."""

    began: float
    ended: float
    waited: float
    """Seconds, without those in which something on the machine waited for what others used."""
    got: bytes | str

    @property
    def served(self) -> bool:
        return self.got == b"ok\n"

    def meets(self, kill: float) -> bool:
        """Whether it was there at a moment, or came right after it."""
        return self.began <= kill + 0.05 and self.ended >= kill


class Load:
    """Clients of short sessions that come all the time, in threads of their own."""

    def __init__(self, daemon: Daemon) -> None:
        self.visits: list[Visit] = []
        self._over = threading.Event()
        self._addresses = [daemon.address(name) for name in ("short", "other")]
        self._threads = [threading.Thread(target=self._come, args=(number,)) for number in range(CLIENTS)]
        self._news = threading.Condition()
        for thread in self._threads:
            thread.start()

    def _come(self, number: int) -> None:
        while not self._over.is_set():
            began, watch = time.monotonic(), Stopwatch("io", "memory")
            got: bytes | str
            try:
                with socket.create_connection(self._addresses[number % 2], TIMEOUT) as sock:
                    got = receive_all(sock)
            except OSError as problem:
                got = type(problem).__name__
            with self._news:
                self.visits.append(Visit(began, time.monotonic(), watch.seconds(), got))
                self._news.notify_all()

    def wait_served(self, since: float) -> None:
        """Wait until each of the clients was served that came after a moment."""

        def served() -> int:
            return sum(visit.served and visit.began > since for visit in self.visits)

        with self._news:
            assert self._news.wait_for(lambda: served() >= 2 * CLIENTS, TIMEOUT), self.visits[-10:]

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, CONFIG) as daemon:
        yield daemon


@pytest.fixture
def preloaded(tmp_path: Path) -> Iterator[Daemon]:
    """Run a daemon whose programs are imported once."""
    services: dict[str, Any] = {}
    with reachable() as folder:
        for name, service in CONFIG["services"].items():
            (program,) = service["program"][:1]
            (folder / program).write_text(SCRIPTS[program])
            services[name] = service | {"python": str(folder / program)}
            del services[name]["program"]
        with running(tmp_path, {"services": services}) as daemon:
            yield daemon


@pytest.fixture
def lasting(daemon: Daemon) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(daemon.connect("lasting")) for _ in range(LASTING)]


@pytest.fixture
def load(daemon: Daemon) -> Iterator[Load]:
    load = Load(daemon)
    yield load
    load.stop()


def echoes(sock: socket.socket, word: bytes) -> bool:
    sock.sendall(word)
    return sock.recv(len(word)) == word


def kill_again_and_again(daemon: Daemon, load: Load, name: str) -> list[list[Visit]]:
    """Kill processes of a name in turn; return the clients that met each of the kills."""
    kills = []
    for count in range(1, KILLS + 1):
        pids = daemon.children(name)
        load.wait_served(time.monotonic())
        kills.append(time.monotonic())
        os.kill(pids[count % len(pids)], signal.SIGKILL)
        daemon.wait_events(count, "process_died", signal="SIGKILL")
        load.wait_served(time.monotonic())
    load.stop()
    return [[visit for visit in load.visits if visit.meets(kill)] for kill in kills]


def check(
    daemon: Daemon, load: Load, lasting: list[socket.socket], held: int, met: list[list[Visit]]
) -> None:
    """Assert that nothing was lost but what the dead had in their hands, and that limits hold."""
    lost = [visit for visit in load.visits if not visit.served]
    assert "ConnectionRefusedError" not in {visit.got for visit in lost}
    assert len(lost) <= KILLS * held
    assert all(echoes(sock, b"%d" % number) for number, sock in enumerate(lasting))
    assert daemon.talk("lasting") == b"", "there was room for one more than the limit"
    assert max(visit.waited for visits in met for visit in visits) < PAUSE
    status = daemon.status()
    assert daemon.service("lasting")["live"] == LASTING
    accepted = sum(item["accepted"] for item in status["services"] if item["name"] != "lasting")
    missing = len(load.visits) - accepted
    assert 0 <= missing <= KILLS, "at most one for each death is in no count"
    waits = [max(visit.ended - visit.began for visit in visits) for visits in met]
    sys.stdout.write(
        f"\n{KILLS} kills, {len(load.visits)} clients, {len(lost)} lost; longest wait of a client, by kill: "
        f"median {1000 * statistics.median(waits):.0f} ms, worst {1000 * max(waits):.0f} ms\n"
    )


def test_a_loop_killed_ten_times_loses_no_more_than_it_held(
    daemon: Daemon, load: Load, lasting: list[socket.socket]
) -> None:
    met = kill_again_and_again(daemon, load, "ucspid: loop")
    check(daemon, load, lasting, HELD_BY_A_LOOP, met)


@pytest.mark.usefixtures("each_launcher")
def test_launchers_killed_ten_times_lose_no_program(
    daemon: Daemon, load: Load, lasting: list[socket.socket]
) -> None:
    met = kill_again_and_again(daemon, load, "ucspid: launche")
    check(daemon, load, lasting, HELD_BY_A_LAUNCHER, met)
    for sock in lasting:
        assert exchange(sock) == b""
    daemon.wait_events(LASTING, "connection_served", service="lasting", status=0)


def test_launchers_of_preloaded_programs_killed_ten_times_lose_no_program(preloaded: Daemon) -> None:
    load = Load(preloaded)
    try:
        with contextlib.ExitStack() as stack:
            lasting = [stack.enter_context(preloaded.connect("lasting")) for _ in range(LASTING)]
            met = kill_again_and_again(preloaded, load, "ucspid: launche")
            check(preloaded, load, lasting, HELD_BY_A_LAUNCHER, met)
    finally:
        load.stop()
