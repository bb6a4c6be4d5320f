"""Floods of connections: other clients are served meanwhile, memory and log stay bounded, all is counted.

UCSPID_FLOOD sets how many connections each flood has; the figures of docs/reliability.md are with 50,000.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, running
from faults import cpu_seconds, memory, stopped
from ucspid.policy.refusal_summary import SINGLE, WINDOW

pytestmark = pytest.mark.alone

FLOOD = int(os.environ.get("UCSPID_FLOOD", "3000"))
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""

RATE = 20
"""Sessions that the flood of many clients is allowed in all."""

MAX_MEMORY = 8 << 20
"""Bytes by which the loop may grow."""

Address = tuple[str, int]


def service(**settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "program": ["cat"], "backlog": 4096, **settings}


SERVICES = {
    "mine": service(max_per_ip=1),
    "rated": service(rate_per_ip="1/h", burst=1, rate=f"{RATE}/h", on_full="refuse"),
    "slots": service(max_connections=10, max_per_ip=10, on_full="refuse"),
    "waiting": service(max_connections=10),
    "other": service(),
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, {"services": SERVICES}) as daemon:
        yield daemon


def sources() -> Iterator[str]:
    """Yield addresses of 127.0.0.0/8, each once."""
    return (f"127.{host >> 16 & 255}.{host >> 8 & 255}.{host & 255}" for host in range(1 << 16, 1 << 24))


def connected(address: Address, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(address, TIMEOUT, (source, 0))


def reset(sock: socket.socket) -> None:
    """Close with a reset: the client is gone without a trace, and its port is free at once."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def from_one_client(address: Address) -> None:
    for _ in range(FLOOD):
        reset(connected(address))


def from_many_clients(address: Address) -> None:
    for _, source in zip(range(FLOOD), sources(), strict=False):
        reset(connected(address, source))


class Flood:
    """A flood in a thread, and what others see of the daemon meanwhile."""

    def __init__(self, daemon: Daemon, service: str, flood: Callable[[Address], None]) -> None:
        self.name = service
        self.daemon = daemon
        self.loop: int = daemon.processes("loop")[0]["pid"]
        self._thread = threading.Thread(target=flood, args=(daemon.address(service),))
        self._other = daemon.address("other")

    def watch(self) -> str:
        """Run it, and be served as another client of another service as long as it lasts; return figures."""
        self._served()
        before, used, began = memory(self.loop), cpu_seconds(self.loop), time.monotonic()
        self._thread.start()
        waits = []
        while self._thread.is_alive():
            asked = time.monotonic()
            self._served()
            waits.append(time.monotonic() - asked)
        seconds = time.monotonic() - began
        waits.sort()
        grown = memory(self.loop) - before
        figures = (
            f"{self.name}: {FLOOD} in {seconds:.1f} s, others served in {waits[len(waits) // 2]:.4f} s, "
            f"at worst {waits[-1]:.3f} s of {len(waits)}; the loop {grown >> 10} KiB larger, "
            f"its CPU {cpu_seconds(self.loop) - used:.1f} s"
        )
        print(figures)  # noqa: T201 - pytest -s shows it
        assert waits[-1] < 1.0, figures
        assert grown < MAX_MEMORY, figures
        return figures

    def _served(self) -> None:
        with connected(self._other, "127.0.0.2") as sock:
            assert exchange(sock, b"x") == b"x"

    def lines(self) -> int:
        """Return how many lines of the log are about the flood."""
        return sum(event.get("service") == self.name for event in self.daemon.events)


def most_refusals(seconds: float) -> int:
    """Return how many lines of refusals a service may have in some seconds: single ones and a summary."""
    return int(seconds / WINDOW + 2) * (SINGLE + 1)


def test_one_client_that_connects_as_fast_as_it_can(daemon: Daemon) -> None:
    flood = Flood(daemon, "mine", from_one_client)
    with connected(daemon.address("mine")) as held:
        held.sendall(b"x")
        assert held.recv(1) == b"x"
        began, before = time.monotonic(), flood.lines()
        flood.watch()
        with connected(daemon.address("mine"), "127.0.0.2") as mine:
            assert exchange(mine, b"x") == b"x"
        status = daemon.service("mine")
        assert status["refused"] == {"per_ip": status["accepted"] - 2}
        assert FLOOD // 2 < status["refused"]["per_ip"] <= FLOOD
        assert flood.lines() - before <= most_refusals(time.monotonic() - began) + 1


def test_many_clients_that_connect_once(daemon: Daemon) -> None:
    flood = Flood(daemon, "rated", from_many_clients)
    began, before = time.monotonic(), flood.lines()
    flood.watch()
    with connected(daemon.address("rated"), "127.0.0.2") as after:
        assert after.recv(1) == b""
    status = daemon.service("rated")
    assert status["refused"] == {"rate": status["accepted"] - RATE}
    assert FLOOD // 2 < status["accepted"] <= FLOOD + 1
    # Of each session its end, and what cat says of a client that has gone.
    assert flood.lines() - before <= most_refusals(time.monotonic() - began) + 2 * RATE


def test_connections_that_are_reset_before_they_are_accepted(daemon: Daemon) -> None:
    address, flood = daemon.address("mine"), Flood(daemon, "mine", from_one_client)
    with stopped(flood.loop):
        for _ in range(300):
            reset(connected(address))
    with connected(address, "127.0.0.2") as after:
        assert exchange(after, b"x") == b"x"
    status = daemon.service("mine")
    assert status["accepted"] == 301
    assert status["failed"] == {}


def until_accepted(daemon: Daemon, service: str, count: int) -> None:
    """Wait until so many connections of a service have been accepted."""
    end = time.monotonic() + TIMEOUT
    while (accepted := daemon.service(service)["accepted"]) < count:
        assert time.monotonic() < end, f"{accepted} of {count}"


def test_connections_that_say_nothing_hold_no_more_than_their_limit(daemon: Daemon) -> None:
    address = daemon.address("slots")
    loop = daemon.processes("loop")[0]["pid"]
    before = memory(loop)
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connected(address))
        until_accepted(daemon, "slots", 300)
        assert daemon.service("slots")["live"] == 10
        assert daemon.service("slots")["refused"] == {"full": 290}
        waiting = daemon.address("waiting")
        for _ in range(300):
            stack.enter_context(connected(waiting))
        with connected(daemon.address("other")) as other:
            assert exchange(other, b"x") == b"x"
        until_accepted(daemon, "waiting", 10)
        assert daemon.service("waiting")["accepted"] == 10
        assert memory(loop) - before < MAX_MEMORY


def test_connections_that_are_half_closed_are_served_and_over(daemon: Daemon) -> None:
    address = daemon.address("waiting")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(connected(address))
            sock.sendall(b"x")
            sock.shutdown(socket.SHUT_WR)
        daemon.wait_events(100, "connection_served", service="waiting", status=0)
        assert daemon.service("waiting")["live"] == 0
