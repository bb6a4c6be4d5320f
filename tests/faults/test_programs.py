"""Programs that misbehave: what they cost is theirs and their clients', and the counts stay right.

Those that ignore SIGTERM are in test_daemon_limits.py and test_stop.py.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, receive_all, running
from faults import cpu_seconds, memory
from ucspid.plan import STDERR_RATE

MiB = 1 << 20


def service(script: str, **settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "program": ["sh", "-c", script], **settings}


SERVICES = {
    "leaves": service("exec 3<&0; cat <&3 & exit 0", max_connections=1),
    "closes": service("exec <&- >&-; exec sleep 1000", max_connections=1, max_lifetime="1s"),
    "hasty": service("exit 0"),
    "killer": service("read number; kill -$number $PPID; exec cat"),
    "flood": service(f"yes | head -c {64 * MiB} >&2", drain_timeout=0),
    "other": service("exec cat"),
}


@pytest.fixture(scope="module")
def daemon(each_launcher: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(
        tmp_path_factory.mktemp("programs"), {"launcher": each_launcher, "services": SERVICES}
    ) as it:
        yield it


def test_a_session_ends_with_its_program_although_others_have_the_socket_still(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(3):
            sock = stack.enter_context(daemon.connect("leaves"))
            remote = "{}:{}".format(*sock.getsockname())
            assert daemon.wait_event("connection_served", remote=remote)["status"] == 0
            assert daemon.service("leaves")["served"] == number + 1
            assert daemon.service("leaves")["live"] == 0
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"


def test_a_program_that_closes_its_connection_and_goes_on_holds_its_slot_as_long_as_it_may(
    daemon: Daemon,
) -> None:
    began = time.monotonic()
    with daemon.connect("closes") as first, daemon.connect("closes") as second:
        assert receive_all(first) == receive_all(second) == b""
    ended = daemon.wait_events(2, "connection_served", service="closes")
    assert time.monotonic() - began > 1.98  # one after the other: there is one slot
    assert [event["signal"] for event in ended] == ["SIGTERM", "SIGTERM"]
    assert daemon.service("closes")["live"] == 0


def test_programs_that_end_before_they_read_are_served_like_others(daemon: Daemon) -> None:
    address = daemon.address("hasty")
    for _ in range(100):
        with socket.create_connection(address, TIMEOUT) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(bytes(100_000))
            assert sock.recv(1) == b""
    ended = daemon.wait_events(100, "connection_served", service="hasty")
    assert {event["status"] for event in ended} == {0}
    status = daemon.service("hasty")
    assert (status["served"], status["failed"], status["state"]) == (100, {}, "listening")


@pytest.mark.alone
def test_a_program_that_writes_without_end_costs_others_little(daemon: Daemon) -> None:
    seconds = 1.5
    loop, address = daemon.processes("loop")[0]["pid"], daemon.address("other")
    before, used = memory(loop), cpu_seconds(loop)
    daemon.connect("flood").close()
    daemon.wait_event("program_stderr", service="flood")
    began, slowest, talks = time.monotonic(), 0.0, 0
    while time.monotonic() - began < seconds:
        asked = time.monotonic()
        with socket.create_connection(address, TIMEOUT) as sock:
            assert exchange(sock, b"x") == b"x"
        slowest = max(slowest, time.monotonic() - asked)
        talks += 1
    figures = f"{talks} others served, the slowest in {slowest:.3f} s, CPU {cpu_seconds(loop) - used:.2f} s"
    assert slowest < 1.0, figures
    assert memory(loop) - before < 8 * MiB
    lines = len(daemon.wait_events(STDERR_RATE.burst, "program_stderr", service="flood"))
    assert lines <= STDERR_RATE.burst * (seconds + 2)
    assert daemon.wait_event("program_stderr_dropped", service="flood")["lines"] < MiB
    assert daemon.service("flood")["live"] == 1, figures


@pytest.mark.parametrize(("number", "name"), [(40, "40"), (34, "SIGRTMIN"), (9, "SIGKILL")])
def test_a_program_that_kills_its_launcher_by_any_signal_ends_nothing_else(
    daemon: Daemon, number: int, name: str
) -> None:
    with daemon.connect("other") as session, daemon.connect("killer") as killer:
        session.sendall(b"before")
        assert session.recv(6) == b"before"
        killer.sendall(b"%d\n" % number)
        daemon.wait_event("process_died", role="launcher", signal=name)
        killer.sendall(b"still")
        assert killer.recv(5) == b"still"
        assert exchange(session, b"after") == b"after"
    assert daemon.talk("other", b"new") == b"new"
