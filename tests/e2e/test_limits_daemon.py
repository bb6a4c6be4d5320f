"""The limits of services and of the daemon, the throttling, and what programs write, end to end."""

import errno
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from daemon import Daemon, exchange, receive_all, running
from ucspid.control.server import MAX_CLIENTS
from ucspid.plan import STDERR_RATE, Throttling
from ucspid.policy.refusal_summary import SINGLE

BUSY = b"421 too many connections, try again later\r\n"
DEBUG = {"format": "json", "level": "debug"}


def service(program: list[str] | None = None, **settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "program": program or ["cat"], **settings}


SERVICES = {
    "queue": service(max_connections=2),
    "refuse": service(max_connections=1, on_full="refuse", refuse_message=BUSY.decode()),
    "per_ip": service(max_per_ip=2, refuse_message=BUSY.decode()),
    "dual": service(listen=0, max_per_ip=1),
    "prefix": service(max_per_ip=1, ipv4_prefix=24),
    "rate_per_ip": service(rate_per_ip="1/h", burst=3),
    "rate": service(rate="10/s"),
    "rate_refuse": service(rate="2/h", on_full="refuse", refuse_message=BUSY.decode()),
    "exempt": service(max_per_ip=1, rate_per_ip="1/h", exempt=["127.0.0.8/29"]),
    "lifetime": service(max_lifetime="1s"),
    "stubborn": service(["sh", "-c", "trap '' TERM; exec cat"], max_lifetime="1s", kill_timeout="100ms"),
    "stderr": service(["sh", "-c", "echo one >&2; echo two >&2"]),
    "unended": service(["sh", "-c", "printf 'no end' >&2"]),
    "noisy": service(["sh", "-c", "seq 100000 >&2"]),
    "crash": service(["sh", "-c", "kill -SEGV $$"]),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("limits"), {"services": SERVICES, "log": DEBUG}) as it:
        yield it


def hold(daemon: Daemon, name: str, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection whose program runs: it has answered."""
    sock = daemon.connect(name, source)
    sock.sendall(b"?")
    assert sock.recv(1) == b"?", name
    return sock


def refused(daemon: Daemon, name: str, source: str = "127.0.0.1") -> bytes:
    """Return all that a refused client gets, to the end in order."""
    with daemon.connect(name, source) as sock:
        return receive_all(sock)


def end(daemon: Daemon, *socks: socket.socket) -> None:
    """Close connections, and wait until their sessions have ended."""
    remotes = ["{}:{}".format(*sock.getsockname()) for sock in socks]
    for sock in socks:
        sock.close()
    for remote in remotes:
        daemon.wait_event("connection_served", remote=remote)


def test_a_client_over_the_limit_waits_and_is_served_when_one_ends(daemon: Daemon) -> None:
    first, second = hold(daemon, "queue"), hold(daemon, "queue")
    with daemon.connect("queue") as third:
        third.sendall(b"!")
        status = daemon.service("queue")
        assert (status["state"], status["live"], status["accepted"]) == ("full", 2, 2)
        end(daemon, first)
        assert third.recv(1) == b"!"
        end(daemon, second, third)
    status = daemon.service("queue")
    assert (status["state"], status["live"], status["accepted"], status["served"]) == ("listening", 0, 3, 3)
    assert status["refused"] == {}


@pytest.mark.parametrize("sent", [b"", b"EHLO me\r\n"])
def test_a_client_over_the_limit_is_refused_with_the_message(daemon: Daemon, sent: bytes) -> None:
    before = daemon.service("refuse")["refused"].get("full", 0)
    first = hold(daemon, "refuse")
    with daemon.connect("refuse") as second:
        second.sendall(sent)
        assert receive_all(second) == BUSY
        remote = "{}:{}".format(*second.getsockname())
    event = daemon.wait_event("connection_refused", remote=remote)
    assert (event["service"], event["reason"]) == ("refuse", "full")
    end(daemon, first)
    assert daemon.service("refuse")["refused"] == {"full": before + 1}
    assert daemon.talk("refuse", b"now") == b"now"


def test_one_client_has_its_limit_and_others_theirs(daemon: Daemon) -> None:
    mine = [hold(daemon, "per_ip"), hold(daemon, "per_ip")]
    assert refused(daemon, "per_ip") == BUSY
    theirs = [hold(daemon, "per_ip", "127.0.0.2"), hold(daemon, "per_ip", "127.0.0.2")]
    assert refused(daemon, "per_ip", "127.0.0.2") == BUSY
    end(daemon, mine.pop())
    mine.append(hold(daemon, "per_ip"))
    end(daemon, *mine, *theirs)
    assert daemon.service("per_ip")["refused"] == {"per_ip": 2}


def test_ipv4_clients_of_a_listener_for_both_count_as_ipv4(daemon: Daemon) -> None:
    mapped = [hold(daemon, "dual", f"127.0.0.{host}") for host in (1, 2, 3)]
    assert refused(daemon, "dual", "127.0.0.2") == b""
    end(daemon, *mapped)
    assert daemon.service("dual")["refused"] == {"per_ip": 1}


def test_a_prefix_makes_one_client_of_a_network(daemon: Daemon) -> None:
    first, other = hold(daemon, "prefix", "127.0.1.1"), hold(daemon, "prefix", "127.0.2.1")
    assert refused(daemon, "prefix", "127.0.1.200") == b""
    end(daemon, first, other)
    assert daemon.talk("prefix", b"x", "127.0.1.200") == b"x"


def test_a_client_has_its_burst_and_others_theirs(daemon: Daemon) -> None:
    for _ in range(3):
        assert daemon.talk("rate_per_ip", b"x") == b"x"
    assert refused(daemon, "rate_per_ip") == b""
    assert daemon.talk("rate_per_ip", b"x", "127.0.0.2") == b"x"
    assert daemon.service("rate_per_ip")["refused"] == {"rate_per_ip": 1}


def test_a_rate_delays_clients_and_loses_none(daemon: Daemon) -> None:
    address = daemon.address("rate")
    began = time.monotonic()
    socks = [socket.create_connection(address) for _ in range(14)]
    assert [exchange(sock, b"x") for sock in socks] == [b"x"] * 14
    assert time.monotonic() - began > 0.35
    end(daemon, *socks)
    status = daemon.service("rate")
    assert (status["served"], status["refused"]) == (14, {})


def test_over_a_rate_clients_are_refused_where_that_is_wanted(daemon: Daemon) -> None:
    assert [daemon.talk("rate_refuse", b"x", f"127.0.0.{host}") for host in (1, 2)] == [b"x"] * 2
    assert [refused(daemon, "rate_refuse", f"127.0.0.{host}") for host in (1, 3)] == [BUSY] * 2
    assert daemon.service("rate_refuse")["refused"] == {"rate": 2}


def test_clients_that_are_exempt_have_no_limits_of_their_own(daemon: Daemon) -> None:
    exempt = [hold(daemon, "exempt", "127.0.0.9") for _ in range(4)]
    mine = hold(daemon, "exempt")
    assert refused(daemon, "exempt") == b""
    end(daemon, mine, *exempt)
    assert refused(daemon, "exempt") == b""
    assert daemon.service("exempt")["refused"] == {"per_ip": 1, "rate_per_ip": 1}


def test_sessions_that_have_lived_too_long_get_sigterm_and_then_sigkill(daemon: Daemon) -> None:
    with daemon.connect("lifetime") as polite, daemon.connect("stubborn") as killed:
        assert receive_all(polite) == receive_all(killed) == b""
    ended = daemon.wait_event("connection_served", service="lifetime")
    assert ended["signal"] == "SIGTERM"
    assert 0.99 < ended["duration"] < 10
    assert daemon.wait_event("lifetime_exceeded", service="lifetime")["conn"] == ended["conn"]
    ended = daemon.wait_event("connection_served", service="stubborn")
    assert ended["signal"] == "SIGKILL"
    assert 1.09 < ended["duration"] < 10


def test_lines_that_a_program_writes_are_events_of_its_service(daemon: Daemon) -> None:
    daemon.talk("stderr")
    lines = daemon.wait_events(2, "program_stderr", service="stderr")
    assert [item["line"] for item in lines] == ["one", "two"]


def test_a_line_that_is_not_ended_is_an_event_of_its_own(daemon: Daemon) -> None:
    daemon.talk("unended")
    daemon.wait_event("program_stderr", service="unended", line="no end")


def test_a_program_that_writes_without_end_is_bounded(daemon: Daemon) -> None:
    began = time.monotonic()
    daemon.talk("noisy")
    seconds = time.monotonic() - began
    dropped = daemon.wait_event("program_stderr_dropped", service="noisy")["lines"]
    logged = len(daemon.wait_events(STDERR_RATE.burst, "program_stderr", service="noisy"))
    assert logged <= STDERR_RATE.burst * (seconds + 2)
    assert dropped > 50_000


def test_programs_that_crash_on_every_client_slow_nobody(daemon: Daemon) -> None:
    for host in range(1, 31):
        assert daemon.talk("crash", b"", f"127.0.0.{host}") == b""
    daemon.wait_events(30, "connection_served", service="crash", signal="SIGSEGV")
    status = daemon.service("crash")
    assert (status["state"], status["live"]) == ("listening", 0)


def test_services_that_wait_for_a_slot_of_the_daemon_take_turns(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    config = {"services": dict.fromkeys(names, service()), "limits": {"max_connections": 2}, "log": DEBUG}
    with running(tmp_path, config) as daemon:
        addresses = {name: daemon.address(name) for name in names}
        held = [hold(daemon, "a"), hold(daemon, "a")]
        waiting = [socket.create_connection(addresses[name]) for name in names * 2]
        assert daemon.status()["totals"]["live"] == 2
        for sock in waiting:
            sock.sendall(b"x")
            sock.shutdown(socket.SHUT_WR)
        end(daemon, held[0])
        assert [receive_all(sock) for sock in waiting] == [b"x"] * 6
        served = [item["service"] for item in daemon.wait_events(8, "connection_started")][2:]
        assert sorted(served[:3]) == sorted(served[3:]) == [*names]
        end(daemon, held[1], *waiting)


def test_a_flood_that_is_refused_delays_nobody_else_and_is_logged_in_summary(tmp_path: Path) -> None:
    flood = 400
    config = {"services": {"flooded": service(max_per_ip=1)}, "log": DEBUG}
    with running(tmp_path, config) as daemon:
        address = daemon.address("flooded")
        held = hold(daemon, "flooded")
        for host in range(2, 22):
            socks = [socket.create_connection(address) for _ in range(flood // 20)]
            assert daemon.talk("flooded", b"x", f"127.0.0.{host}") == b"x"  # within its timeout
            assert [receive_all(sock) for sock in socks] == [b""] * len(socks)
            for sock in socks:
                sock.close()
        end(daemon, held)
        daemon.wait_events(21, "connection_served")
        status = daemon.service("flooded")
        assert (status["accepted"], status["served"]) == (flood + 21, 21)
        assert status["refused"] == {"per_ip": flood}
    summary = daemon.wait_event("connections_refused")
    assert summary["reasons"] == {"per_ip": flood - SINGLE}
    assert summary["count"] == flood - SINGLE
    assert 0 < summary["seconds"] <= 11
    assert len(daemon.wait_events(SINGLE, "connection_refused")) == SINGLE


@pytest.fixture
def programs() -> Iterator[Path]:
    """A folder that any user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def write_program(path: Path, text: str) -> None:
    """Write a shell script in one step: what is being executed cannot be written to."""
    new = path.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{text}\n")
    new.chmod(0o755)
    new.rename(path)


def test_a_service_whose_program_is_missing_is_slowed_and_recovers(tmp_path: Path, programs: Path) -> None:
    missing = programs / "missing"
    write_program(missing, "exec cat")
    failures = Throttling().failures
    services = {"missing": service([str(missing)]), "good": service()}
    with running(tmp_path, {"services": services, "log": DEBUG}) as daemon:
        missing.unlink()
        for _ in range(failures):
            assert daemon.talk("missing") == b""
        event = daemon.wait_event("service_throttled", service="missing")
        assert (event["interval"], event["cause"]) == (1.0, os.strerror(errno.ENOENT))
        assert event["file"] == str(missing)
        failed = daemon.wait_event("connection_failed", service="missing")
        assert (failed["file"], failed["reason"]) == (str(missing), os.strerror(errno.ENOENT))
        (failure,) = daemon.service("missing")["last_failures"]
        assert failure["what"] == f"{os.strerror(errno.ENOENT)}: {missing}"
        assert daemon.service("missing")["failed"] == {"ENOENT": failures}
        assert daemon.service("missing")["state"] == "throttled"
        assert daemon.talk("good", b"x") == b"x"
        write_program(missing, "exec cat")
        assert daemon.talk("missing", b"x") == b"x"
        daemon.wait_event("service_recovered", service="missing")
        assert daemon.service("missing")["state"] == "listening"


def test_a_reload_ends_the_throttling(tmp_path: Path, programs: Path) -> None:
    missing = programs / "missing"
    write_program(missing, "exec cat")
    config = {"services": {"missing": service([str(missing)], throttle="5/1h")}}
    with running(tmp_path, config) as daemon:
        missing.unlink()
        for _ in range(Throttling().failures):
            assert daemon.talk("missing") == b""
        daemon.wait_event("service_throttled", service="missing")
        write_program(missing, "exec cat")
        daemon.reload()
        assert daemon.talk("missing", b"x") == b"x"


def test_a_service_that_is_not_to_be_throttled_is_not(tmp_path: Path) -> None:
    services = {"forbidden": service(rlimits={"nproc": 0}, throttle="off")}
    with running(tmp_path, {"services": services}) as daemon:
        for _ in range(3 * Throttling().failures):
            assert daemon.talk("forbidden") == b""
        assert daemon.service("forbidden")["state"] == "listening"


def test_a_service_without_processes_left_is_slowed(tmp_path: Path) -> None:
    services = {"forbidden": service(rlimits={"nproc": 0})}
    with running(tmp_path, {"services": services}) as daemon:
        for _ in range(Throttling().failures):
            assert daemon.talk("forbidden") == b""
        daemon.wait_event("service_throttled", service="forbidden")
        assert daemon.service("forbidden")["failed"] == {"EAGAIN": Throttling().failures}


def first_sent_away(address: tuple[str, int]) -> str:
    """Connect again and again; return as whom, when for the first time there was no service."""
    for _ in range(20):
        with socket.create_connection(address) as sock:
            remote = "{}:{}".format(*sock.getsockname())
            with suppress(OSError):
                if exchange(sock, b"x") == b"x":
                    continue
        return remote
    raise AssertionError("everybody was served")


def test_a_loop_without_descriptors_recovers(tmp_path: Path) -> None:
    services = {f"s{number}": service(stderr="null") for number in range(60)}
    with running(tmp_path, {"services": services}) as daemon:
        needed = len(list(Path(f"/proc/{daemon.processes('loop')[0]['pid']}/fd").iterdir()))
    command = ("sh", "-c", f'ulimit -n {needed + 8}; exec "$0" -m ucspid "$@"', sys.executable)
    with running(tmp_path, {"services": services}, command=command) as daemon, ExitStack() as stack:
        address = daemon.address("s0")
        for _ in range(MAX_CLIENTS):
            control = stack.enter_context(socket.socket(socket.AF_UNIX))
            control.connect(str(daemon.control))
        sent_away = first_sent_away(address)
        failed = daemon.wait_event("accept_failed", service="s0")
        assert (failed["reason"], failed["pause"]) == (os.strerror(errno.EMFILE), 0.1)
        daemon.wait_event("connection_dropped", service="s0", remote=sent_away)
        stack.close()
        assert daemon.service("s0")["failed"] == {"descriptors": 1}
        assert daemon.talk("s0", b"x") == b"x"


def test_a_raised_limit_of_the_daemon_lets_in_who_waits(tmp_path: Path) -> None:
    config = {
        "limits": {"max_connections": 1},
        "services": {"s": {"listen": "127.0.0.1:0", "program": ["cat"]}},
    }
    with running(tmp_path, config) as daemon, daemon.connect("s") as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with daemon.connect("s") as second:
            second.sendall(b"y")
            daemon.reload({"limits": {"max_connections": 2}})
            assert second.recv(1) == b"y"
