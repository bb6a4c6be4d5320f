"""What an operator sees of programs, end to end: crashes, lines in masses, and whose lines they are."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import peers
from daemon import TIMEOUT, Daemon, running

LINES = 20_000
"""recordio logs each of them twice: as it comes from the client, and as it goes back."""

QUICK = {"stderr_rate": "100000/s"}


def service(program: list[str], **settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "program": program, **settings}


def shell(script: str, **settings: Any) -> dict[str, Any]:
    return service(["sh", "-c", script], **settings)


SERVICES = {
    "crash": shell("kill -SEGV $$"),
    "exits": shell("exit 111"),
    "record": service(["recordio", "cat"], **QUICK),
    "masses": shell("seq 40000 >&2", **QUICK),
    "speaks": shell('echo "$UCSPID_CONN_ID" >&2; read line; echo "$UCSPID_CONN_ID" >&2'),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("observed"), {"services": SERVICES}) as it:
        yield it


def test_a_crash_is_a_warning_with_a_count_of_its_own_and_status_shows_it(daemon: Daemon) -> None:
    with daemon.connect("crash") as sock:
        host, port = sock.getsockname()
        assert sock.recv(1) == b""
    event = daemon.wait_event("connection_served", service="crash")
    assert (event["level"], event["signal"], event["remote"]) == ("warning", "SIGSEGV", f"{host}:{port}")
    shown = daemon.service("crash")
    assert (shown["served"], shown["ended"]) == (1, {"signal": 1})
    (failure,) = shown["last_failures"]
    assert failure["time"].startswith(event["ts"][:10])
    assert 0 <= failure["ago"] < TIMEOUT
    assert (failure["kind"], failure["what"], failure["remote"], failure["conn"]) == (
        "signal", "signal SIGSEGV", event["remote"], event["conn"],
    )  # fmt: skip
    command = [sys.executable, "-m", "ucspid", "status", "--control", str(daemon.control)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout
    assert "crash: died of a signal 1\n" in text
    assert f"ago: signal SIGSEGV, client {event['remote']}, connection {event['conn']}\n" in text


def test_an_exit_status_of_this_field_is_no_warning_and_counted(daemon: Daemon) -> None:
    daemon.talk("exits")
    event = daemon.wait_event("connection_served", service="exits")
    assert (event["level"], event["status"]) == ("info", 111)
    assert daemon.service("exits")["ended"] == {"nonzero": 1}
    assert daemon.status()["totals"]["ended"]["nonzero"] == 1


def test_a_service_with_a_rate_for_it_loses_no_line_in_masses(daemon: Daemon) -> None:
    daemon.talk("masses")
    lines = daemon.wait_events(40_000, "program_stderr", service="masses")
    assert [int(item["line"]) for item in lines] == list(range(1, 40_001))


def test_recordio_loses_nothing_of_a_long_session(daemon: Daemon) -> None:
    peers.require("recordio")
    text = b"".join(b"%d\n" % number for number in range(LINES))
    assert daemon.talk("record", text) == text
    pid = daemon.wait_event("connection_served", service="record")["pid"]
    for way in ("<", ">"):
        daemon.wait_event("program_stderr", service="record", line=f"{pid} {way} [EOF]")
        lines = [item["line"] for item in daemon.wait_events(LINES, "program_stderr", service="record")]
        reported = [line.split(f" {way} ", 1)[1].rstrip(" +") for line in lines if f" {way} " in line]
        assert "".join(reported) == text.decode().replace("\n", "") + "[EOF]"
    assert not [item for item in daemon.events if item["event"] == "program_stderr_dropped"]


def test_a_line_names_the_session_where_there_is_only_one(daemon: Daemon) -> None:
    with daemon.connect("speaks") as first:
        event = daemon.wait_event("program_stderr", service="speaks")
        assert event["conn"] == event["line"]
        with daemon.connect("speaks"):
            (_, second) = daemon.wait_events(2, "program_stderr", service="speaks")
            assert second["line"] != event["line"]
            assert "conn" not in second
        first.sendall(b"\n")
        daemon.wait_events(2, "connection_served", service="speaks")
