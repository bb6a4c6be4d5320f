"""An operator's commands against a running daemon."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, running, wait_gone
from folders import public_folder
from others import as_other
from ucspid.cli.client import call

STUBBORN = ["sh", "-c", "trap '' TERM; echo deaf; while :; do read line || sleep 60; done"]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    services: dict[str, dict[str, Any]] = {
        "echo": {"program": ["cat"]},
        "other": {"program": ["cat"], "rules": [{"from": "127.0.0.0/8", "allow": None}]},
        "stubborn": {"program": STUBBORN, "kill_timeout": 60},
    }
    for service in services.values():
        service["listen"] = "127.0.0.1:0"
    with public_folder() as folder, running(folder, {"services": services}) as daemon:
        yield daemon


def ucspid(daemon: Daemon, verb: str, *arguments: str, code: int = 0) -> str:
    """Run the command on the daemon; return what it prints."""
    command = [sys.executable, "-m", "ucspid", verb, "-c", str(daemon.folder / "ucspid.yaml"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code in (0, 1) else done.stderr


def opened(daemon: Daemon, service: str = "echo", source: str = "127.0.0.1") -> socket.socket:
    """Return a connection on which a program runs."""
    sock = daemon.connect(service, source)
    if service == "stubborn":
        assert sock.recv(5) == b"deaf\n"
    else:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    return sock


def listed(daemon: Daemon, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ucspid(daemon, "sessions", "--json", *arguments))["sessions"]
    return found


def test_sessions_shows_who_is_there(daemon: Daemon) -> None:
    with opened(daemon) as first, opened(daemon, "other", "127.0.0.2") as second:
        own, theirs = first.getsockname(), second.getsockname()
        lines = ucspid(daemon, "sessions", "--sort", "service").splitlines()
        assert lines[0].split() == ["SERVICE", "CONN", "PID", "AGE", "CPU", "RSS", "CLIENT"]
        assert [line.split()[0] for line in lines[1:3]] == ["echo", "other"]
        assert lines[1].endswith("{}:{}".format(*own))
        assert lines[-1] == "2 sessions"
        assert max(map(len, lines)) <= 80
        (one,) = listed(daemon, "--ip", "127.0.0.2")
        assert one["remote"] == "{}:{}".format(*theirs)
        assert re.search(r"ucspid\.yaml:\d+$", one["rule"])
        assert one["rss"] > 0
        assert one["cpu"] >= 0
        assert Path(f"/proc/{one['pid']}/comm").read_text() == "cat\n"
        assert listed(daemon, "--older", "1h") == []
        assert listed(daemon, "--service", "echo", "--ip", "127.0.0.2") == []
    daemon.wait_events(1, "connection_served", remote="{}:{}".format(*own))
    daemon.wait_events(1, "connection_served", remote="{}:{}".format(*theirs))
    assert ucspid(daemon, "sessions") == "no sessions\n"


def test_sessions_says_how_many_bytes_clients_have_sent_and_been_sent(daemon: Daemon) -> None:
    with opened(daemon, source="127.0.0.11") as sock:
        sock.sendall(b"y" * 999)
        assert len(sock.recv(999, socket.MSG_WAITALL)) == 999
        while listed(daemon, "--ip", "127.0.0.11")[0]["sent"] != 1000:
            """What was sent is counted when the client's system has confirmed it."""
        (one,) = listed(daemon, "--ip", "127.0.0.11", "--sort", "bytes")
        assert (one["received"], one["sent"]) == (1000, 1000)
        lines = ucspid(daemon, "sessions", "--bytes", "--ip", "127.0.0.11").splitlines()
        assert lines[0].split() == ["SERVICE", "CONN", "PID", "AGE", "IN", "OUT", "CLIENT"]
        assert lines[1].split()[4:6] == ["1000", "1000"]
        assert max(map(len, lines)) <= 80


def test_kill_ends_one_session_and_no_other(daemon: Daemon) -> None:
    with opened(daemon) as first, opened(daemon) as second:
        remote = "{}:{}".format(*first.getsockname())
        (conn,) = (item["conn"] for item in listed(daemon) if item["remote"] == remote)
        said = ucspid(daemon, "kill", conn)
        assert said.splitlines()[-1] == "1 sent SIGTERM"
        assert remote in said
        served = daemon.wait_event("connection_served", remote=remote)
        assert served["signal"] == "SIGTERM"
        assert exchange(second, b"still here") == b"still here"
        assert daemon.wait_event("kill_requested")["count"] == 1


def test_kill_now_does_not_wait_for_a_program_that_ignores_sigterm(daemon: Daemon) -> None:
    with opened(daemon, "stubborn") as sock:
        remote = "{}:{}".format(*sock.getsockname())
        (item,) = listed(daemon, "--service", "stubborn")
        assert ucspid(daemon, "kill", "--service", "stubborn").splitlines()[-1] == "1 sent SIGTERM"
        assert listed(daemon, "--service", "stubborn")[0]["ending"]
        assert ucspid(daemon, "kill", "--now", "--ip", "127.0.0.0/8").splitlines()[-1] == "1 killed"
        wait_gone(item["pid"])
        assert daemon.wait_event("connection_served", remote=remote)["signal"] == "SIGKILL"


def test_kill_says_when_there_is_nothing_to_kill(daemon: Daemon) -> None:
    assert ucspid(daemon, "kill", "--ip", "203.0.113.1", code=1) == "no such session\n"
    assert "needs a connection" in ucspid(daemon, "kill", code=100)
    assert "there is no service 'imap'" in ucspid(daemon, "kill", "--service", "imap", code=100)
    assert "--older: expected a time" in ucspid(daemon, "kill", "--older", "long", code=100)
    assert "hexadecimal" in ucspid(daemon, "kill", "first", code=100)


def test_a_drained_service_lets_clients_wait_across_a_reload_and_an_upgrade(daemon: Daemon) -> None:
    with opened(daemon) as sock:
        said = ucspid(daemon, "drain", "echo")
        assert said == "echo accepts nothing more until `ucspid resume echo`; 1 session goes on\n"
        assert daemon.service("echo")["state"] == "paused"
        with daemon.connect("echo") as waiting:
            waiting.sendall(b"later")
            assert exchange(sock, b"on") == b"on"
            accepted = daemon.service("echo")["accepted"]
            ucspid(daemon, "reload")
            ucspid(daemon, "upgrade")
            assert daemon.service("echo")["state"] == "paused"
            assert daemon.service("echo")["accepted"] == accepted
            assert ucspid(daemon, "resume", "echo") == "echo accepts again\n"
            assert exchange(waiting) == b"later"
    assert ucspid(daemon, "resume", "echo") == "echo was not paused\n"
    daemon.wait_event("service_paused", service="echo")
    daemon.wait_event("service_resumed", service="echo")


def test_drain_waits_for_the_last_session_if_that_is_wanted(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "ucspid", "drain", "--wait", "--control", str(daemon.control), "echo"]
    first, second = opened(daemon), opened(daemon)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline().endswith("2 sessions go on\n")
        first.close()
        assert exchange(second, b"still here") == b"still here"
        assert waiting.stdout.readline() == "the last session of echo has ended\n"
        assert waiting.wait(TIMEOUT) == 0
    second.close()
    assert ucspid(daemon, "drain", "--wait", "echo").endswith("0 sessions go on\n")
    ucspid(daemon, "resume", "echo")


def test_the_level_of_the_log_holds_until_the_next_reload(daemon: Daemon) -> None:
    assert ucspid(daemon, "log-level", "debug") == "events from debug on are logged, until the next reload\n"
    with opened(daemon) as sock:
        remote = "{}:{}".format(*sock.getsockname())
        daemon.wait_event("connection_started", remote=remote)
    ucspid(daemon, "reload")
    with opened(daemon) as sock:
        remote = "{}:{}".format(*sock.getsockname())
    daemon.wait_event("connection_served", remote=remote)
    assert not [
        item for item in daemon.events if item["event"] == "connection_started" and item["remote"] == remote
    ]


def answer(daemon: Daemon, verb: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Return the one JSON object that a verb prints with --json, on one line."""
    said = ucspid(daemon, verb, "--json", *arguments, code=code)
    assert said.count("\n") == 1
    found: dict[str, Any] = json.loads(said)
    return found


def test_what_changes_something_answers_as_json_too(daemon: Daemon) -> None:
    with opened(daemon, source="127.0.0.21") as sock:
        remote = "{}:{}".format(*sock.getsockname())
        banned = answer(daemon, "deny", "--for", "10m", "127.0.0.21")
        assert banned.keys() == {"network", "service", "left", "until", "renewed", "live"}
        assert (banned["network"], banned["renewed"], banned["live"]) == ("127.0.0.21", False, 1)
        (killed,) = answer(daemon, "kill", "--ip", "127.0.0.21")["sessions"]
        assert killed["remote"] == remote
        daemon.wait_event("connection_served", remote=remote)
    assert [ban["network"] for ban in answer(daemon, "undeny", "127.0.0.21")["ended"]] == ["127.0.0.21"]
    assert answer(daemon, "drain", "echo") == {"live": 0}
    assert answer(daemon, "resume", "echo") == {"was_paused": True}
    planned = daemon.service("echo")["max_connections"]
    assert answer(daemon, "limit", "echo", "max_connections=3") == {"live": 0, "planned": planned}
    assert answer(daemon, "log-level", "debug") == {"level": "debug"}
    assert answer(daemon, "reload")["changes"] == []
    upgraded = answer(daemon, "upgrade")
    assert upgraded["version"] == upgraded["before"] == daemon.status()["version"]
    assert upgraded["generation"] == daemon.status()["generation"]


def test_the_answer_of_a_drain_that_waits_comes_when_the_last_session_has_ended(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "ucspid", "drain", "--control", str(daemon.control), "--wait", "--json"]
    with (
        opened(daemon, "other") as sock,
        subprocess.Popen([*command, "other"], stdout=subprocess.PIPE, text=True) as drain,
    ):
        daemon.wait_event("service_paused", service="other")
        sock.close()
        assert drain.stdout is not None
        assert json.loads(drain.stdout.read()) == {"live": 0}
        assert drain.wait(TIMEOUT) == 0
    assert answer(daemon, "resume", "other") == {"was_paused": True}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("kill", "--ip", "192.0.2.1"), 1),
        (("undeny", "192.0.2.1"), 1),
        (("kill",), 100),
        (("drain", "absent"), 100),
        (("resume", "absent"), 100),
        (("limit", "absent", "max_connections=1"), 100),
        (("limit", "echo", "max_connections=many"), 100),
        (("deny", "nowhere"), 100),
        (("undeny", "nowhere"), 100),
        (("log-level", "loud"), 100),
    ],
    ids=str,
)
def test_the_exit_code_is_the_same_with_json(daemon: Daemon, arguments: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "ucspid", arguments[0], "--control", str(daemon.control), *arguments[1:]]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert done.returncode == code, done.stdout + done.stderr
        if code == 1 and more:
            assert list(json.loads(done.stdout).values()) == [[]]
        assert bool(done.stdout) == (code == 1)


def test_what_a_command_shows_outlives_its_reader(daemon: Daemon) -> None:
    """A pipe that nobody reads ends the command quietly, as with any other."""
    command = [sys.executable, "-m", "ucspid", "sessions", "-c", str(daemon.folder / "ucspid.yaml")]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT)
    assert b"Traceback" not in done.stderr
    assert done.returncode in (-signal.SIGPIPE, 111)


def test_denied_clients_are_refused_across_reloads_upgrades_and_deaths_of_the_loop(daemon: Daemon) -> None:
    with opened(daemon, source="127.0.0.7") as sock:
        said = ucspid(daemon, "deny", "127.0.0.4/30", "--for", "10m").splitlines()
        assert re.fullmatch(r"127\.0\.0\.4/30 is denied for 10m 0s, until \S+", said[0])
        assert said[1] == "1 session goes on: `ucspid kill --ip 127.0.0.4/30` ends it"
        assert exchange(sock, b"on") == b"on"
    ucspid(daemon, "deny", "127.0.0.9", "--service", "other")
    before = daemon.service("echo")["refused"].get("banned", 0)

    def denied_still() -> None:
        with daemon.connect("echo", "127.0.0.5") as sock:
            remote = "{}:{}".format(*sock.getsockname())
            assert sock.recv(1) == b""
        refused = daemon.wait_event("connection_refused", remote=remote)
        assert (refused["reason"], refused["detail"]) == ("banned", "127.0.0.4/30")
        with opened(daemon, source="127.0.0.9"):
            pass

    denied_still()
    ucspid(daemon, "reload")
    denied_still()
    ucspid(daemon, "upgrade")
    denied_still()
    (loop,) = daemon.processes("loop")
    os.kill(loop["pid"], signal.SIGKILL)
    daemon.wait_event("process_died", pid=loop["pid"])
    denied_still()
    assert daemon.service("echo")["refused"]["banned"] == before + 4
    lines = ucspid(daemon, "denied").splitlines()
    assert lines[0].split() == ["NETWORK", "SERVICE", "LEFT", "UNTIL"]
    assert [line.split()[:2] for line in lines[1:3]] == [["127.0.0.4/30", "all"], ["127.0.0.9", "other"]]
    assert lines[-1] == "2 networks"
    both = json.loads(ucspid(daemon, "denied", "--json"))["denied"]
    assert both[0]["left"] <= 600 < both[1]["left"] <= 3600
    assert ucspid(daemon, "undeny", "127.0.0.4/30") == "127.0.0.4/30 is denied no more\n"
    assert ucspid(daemon, "undeny", "127.0.0.9") == "127.0.0.9 is denied by other no more\n"
    assert ucspid(daemon, "undeny", "127.0.0.9", code=1) == "127.0.0.9 was not denied\n"
    assert ucspid(daemon, "denied") == "nobody is denied\n"
    with opened(daemon, source="127.0.0.5"):
        pass


def test_deny_says_what_it_cannot_do(daemon: Daemon) -> None:
    assert "bits set" in ucspid(daemon, "deny", "192.0.2.1/24", code=100)
    assert "--for: expected a time" in ucspid(daemon, "deny", "192.0.2.1", "--for", "ever", code=100)
    assert "there is no service 'imap'" in ucspid(daemon, "deny", "192.0.2.1", "--service", "imap", code=100)


def test_a_limit_holds_until_the_next_reload(daemon: Daemon) -> None:
    with opened(daemon, "other") as first:
        said = ucspid(daemon, "limit", "other", "max_connections=1")
        text = "other takes 1 session at most, until the next reload; 1 session live now, the file says"
        assert said.startswith(text)
        with daemon.connect("other") as waiting:
            waiting.sendall(b"later")
            daemon.wait_event("service_full", service="other", hold="full", max_connections=1)
            shown = ucspid(daemon, "status", "--service", "other")
            assert re.search(r"^other +full +1/1 +1 ", shown, re.MULTILINE)
            assert "other: at most 1 sessions by `ucspid limit`, the file says" in shown
            troubled = ucspid(daemon, "status", "--troubled", "--service", "other", code=1)
            assert troubled.splitlines()[1:] == shown.splitlines()[1:]
            assert exchange(first, b"on") == b"on"
            ucspid(daemon, "reload")
            assert exchange(waiting) == b"later"
    assert daemon.service("other")["planned_max_connections"] is None
    daemon.wait_event("service_limited", service="other", max_connections=1)
    assert "expected max_connections=N" in ucspid(daemon, "limit", "other", "rate=3", code=100)
    assert "from 1 to 65536" in ucspid(daemon, "limit", "other", "max_connections=0", code=100)


def test_plan_shows_what_a_reload_would_change(daemon: Daemon) -> None:
    generation = daemon.status()["generation"]
    before = (daemon.folder / "ucspid.yaml").read_text()
    assert ucspid(daemon, "plan") == "a reload would change nothing\n"
    try:
        changed = before.replace("kill_timeout: 60", "kill_timeout: 61")
        daemon.replace(changed + "\nlimits: {max_connections: 7}\n")
        lines = ucspid(daemon, "plan").splitlines()
        assert lines == ["stubborn: kill_timeout 60s -> 61s", "max_connections: 1000 -> 7"]
        assert json.loads(ucspid(daemon, "plan", "--json")) == {"changes": lines, "another_loop": False}
        daemon.replace(before + "\nlimits: {max_connection: 7}\n")
        assert "did you mean max_connections?" in ucspid(daemon, "plan", code=100)
    finally:
        daemon.replace(before)
    assert daemon.status()["generation"] == generation
    assert daemon.service("echo")["max_connections"] > 0


def test_tail_shows_events_as_they_come_across_event_loops(daemon: Daemon) -> None:
    command = [sys.executable, "-u", "-m", "ucspid", "tail", "-c", str(daemon.folder / "ucspid.yaml")]
    command += ["--json", "--service", "echo", "--ip", "127.0.0.6", "--event", "connection_served"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None

        def next_after(sock: socket.socket) -> None:
            """Read of a connection whose event comes; others may have come before the daemon listened."""
            remote = "{}:{}".format(*sock.getsockname())
            sock.close()
            event = json.loads(tail.stdout.readline())  # type: ignore[union-attr]
            assert (event["event"], event["remote"]) == ("connection_served", remote)

        _until_it_reads(daemon)
        next_after(opened(daemon, source="127.0.0.6"))
        opened(daemon, source="127.0.0.8").close()
        opened(daemon, "other", "127.0.0.6").close()
        next_after(opened(daemon, source="127.0.0.6"))
        (loop,) = daemon.processes("loop")
        os.kill(loop["pid"], signal.SIGKILL)
        _until_it_reads(daemon)
        next_after(opened(daemon, source="127.0.0.6"))
        tail.send_signal(signal.SIGINT)
        assert tail.wait(TIMEOUT) == 0


def _until_it_reads(daemon: Daemon) -> None:
    """Wait until a client reads events; status says how many do."""
    while not daemon.status()["tails"]:
        """Each answer takes a turn of the event loop."""


def test_tail_shows_lines_for_people(daemon: Daemon) -> None:
    command = [sys.executable, "-u", "-m", "ucspid", "tail", "-c", str(daemon.folder / "ucspid.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        _until_it_reads(daemon)
        with opened(daemon) as sock:
            remote = "{}:{}".format(*sock.getsockname())
        line = tail.stdout.readline()
        shown = rf"[\d:]{{8}}\.\d{{3}} info    connection_served service=echo conn=\w+ remote={remote} .*\n"
        assert re.fullmatch(shown, line)
        tail.send_signal(signal.SIGINT)
        assert tail.wait(TIMEOUT) == 0
    assert "there is no service 'imap'" in ucspid(daemon, "tail", "--service", "imap", code=100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_group_may_look_and_with_another_mode_change_things() -> None:
    services = {"echo": {"program": ["cat"], "listen": "127.0.0.1:0"}}
    with public_folder() as folder:
        config = {"services": services, "control": {"path": str(folder / "control"), "group": 7}}

        def ask(verb: str, group: int = 7, **args: str) -> str:
            return as_other(group, [], lambda: str(call(folder / "control", verb, args, TIMEOUT)))

        with running(folder, config) as daemon:
            assert "'name': 'echo'" in ask("status")
            assert ask("sessions") == "{'sessions': [], 'more': 0}"
            refusal = "PeerError: only root may drain: you may look, and change nothing"
            assert ask("drain", service="echo") == refusal
            assert "only root may control this daemon" in ask("status", group=8)
            daemon.reload({"control": {"path": str(folder / "control"), "group": 7, "mode": "0660"}})
            assert ask("drain", service="echo") == "{'live': 0}"
            assert daemon.service("echo")["state"] == "paused"
