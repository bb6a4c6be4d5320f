"""Reload end to end: a transaction under load, that no unchanged service notices."""

import contextlib
import itertools
import os
import pty
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, running, wait_gone
from folders import public_folder
from free_ports import free_port
from ucspid.cli import client
from ucspid.errors import ConfigError, ResourceError
from ucspid.ipc.control_protocol import Request, encode_request
from ucspid.launcher.paths import NATIVE

ECHO: dict[str, Any] = {"listen": "127.0.0.1:0", "program": ["cat"]}


def echo(**settings: Any) -> dict[str, Any]:
    return ECHO | settings


def say(words: str) -> dict[str, Any]:
    """Return a service that says something and waits until the client has gone."""
    return echo(program=["sh", "-c", f"echo {words}; exec cat"])


def refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def services(**settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"services": settings}


def line(sock: socket.socket) -> bytes:
    """Return the first line that a client gets."""
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(100)
        assert piece
        data += piece
    return data


@contextlib.contextmanager
def load(daemon: Daemon, service: str) -> Iterator[list[bytes | OSError]]:
    """Connect to a service, one connection after the other, all the while; yields what came of each."""
    address = daemon.address(service)
    results: list[bytes | OSError] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            try:
                with socket.create_connection(address, TIMEOUT) as sock:
                    results.append(exchange(sock, b"x"))
            except OSError as problem:
                results.append(problem)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield results
    finally:
        enough.set()
        worker.join(TIMEOUT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("reload"), services(still=ECHO)) as daemon:
        yield daemon


generations = itertools.count(2000)


@pytest.fixture
def daemon(shared: Daemon) -> Daemon:
    """Return the daemon with one service, and with no events but those to come."""
    limits = {"max_connections": next(generations)}
    changes = shared.reload(services(still=ECHO) | {"limits": limits, "launcher": Daemon.launcher or "auto"})
    shared.wait_event("reloaded", changes=changes)
    shared.events.clear()
    return shared


# Under load


def test_no_connection_to_an_unchanged_service_fails_in_20_reloads(daemon: Daemon) -> None:
    variants: list[dict[str, Any]] = [
        services(still=ECHO, other=ECHO),
        services(still=ECHO, other=say("changed")),
        services(still=ECHO, other=echo(env={"A": "B"}), third=ECHO),
        services(still=ECHO, other=echo(max_connections=3, umask="077")),
        services(still=ECHO),
    ]
    with load(daemon, "still") as results:
        for number in range(20):
            if number % 2:
                daemon.reload(variants[number % len(variants)])
            else:
                daemon.write(variants[number % len(variants)])
                daemon.signal(signal.SIGHUP)
                daemon.wait_events(number + 1, "reloaded")
    assert len(results) > 20
    assert set(results) == {b"x"}


# What a reload says and does


def test_services_are_added_changed_and_removed(daemon: Daemon) -> None:
    changes = daemon.reload(services(still=ECHO, new=say("one")))
    assert changes == ["new: added, listening on 127.0.0.1:0"]
    with daemon.connect("new") as sock:
        assert line(sock) == b"one\n"
        assert daemon.reload(services(still=ECHO, new=say("two"))) == [
            "new: argv sh -c echo one; exec cat -> sh -c echo two; exec cat"
        ]
        with daemon.connect("new") as later:
            assert line(later) == b"two\n"
        assert exchange(sock, b"still one") == b"still one"
    port = daemon.address("new")[1]
    assert daemon.reload(services(still=ECHO)) == ["new: removed"]
    assert refused(port)
    assert daemon.talk("still", b"x") == b"x"
    assert daemon.wait_event("not_listening", service="new")["listener"] == f"127.0.0.1:{port}"


def test_an_unchanged_file_changes_nothing(daemon: Daemon) -> None:
    assert daemon.reload() == []
    generation = daemon.status()["generation"]
    daemon.reload()
    assert daemon.status()["generation"] == generation + 1


def test_the_command_prints_the_changes_or_why_there_are_none(daemon: Daemon) -> None:
    def command() -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "ucspid", "reload", "-c", str(daemon.config_path)]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    daemon.write(services(still=ECHO, new=ECHO))
    done = command()
    assert (done.returncode, done.stdout, done.stderr) == (0, "new: added, listening on 127.0.0.1:0\n", "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon.write(services(still=ECHO, new=echo(listen=f"127.0.0.1:{port}")))
        done = command()
    assert (done.returncode, done.stdout) == (111, "")
    assert done.stderr == f"ucspid: new: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    daemon.write(services(still=ECHO))


def test_on_a_terminal_the_command_shows_how_far_the_daemon_is(daemon: Daemon) -> None:
    """The program of a new service cannot be imported before the test lets it."""
    ours, terminal = pty.openpty()
    arguments = [sys.executable, "-m", "ucspid", "reload", "-c", str(daemon.config_path)]
    with public_folder() as folder, os.fdopen(ours, "rb", buffering=0) as shown:
        os.mkfifo(gate := folder / "gate")
        gate.chmod(0o644)
        (folder / "gated.py").write_text(f"open({str(gate)!r}).close()\n")
        (folder / "program.py").write_text("import gated\n")
        program = {"python": str(folder / "program.py"), "interpreter": "/usr/bin/python3"}
        daemon.write(services(still=ECHO, slow=program | {"listen": "127.0.0.1:0"}))
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=terminal, text=True) as command:
            os.close(terminal)
            said = b""
            while b"reload: starting launchers, importing programs, " not in said:
                said += shown.read(100)
            gate.write_text("")
            out, _ = command.communicate(timeout=TIMEOUT)
        assert (command.returncode, out) == (0, "slow: added, listening on 127.0.0.1:0\n")
        assert daemon.reload(services(still=ECHO)) == ["slow: removed"]


def test_the_environment_is_new_for_new_connections(daemon: Daemon) -> None:
    def showing(value: str) -> dict[str, Any]:
        return echo(program=["sh", "-c", "echo $VALUE; read _; echo $VALUE"], env={"VALUE": value})

    daemon.reload(services(still=ECHO, env=showing("old")))
    with daemon.connect("env") as before:
        assert line(before) == b"old\n"
        assert daemon.reload(services(still=ECHO, env=showing("new"))) == ["env: environment changed"]
        with daemon.connect("env") as after:
            assert line(after) == b"new\n"
        before.sendall(b"\n")
        assert line(before) == b"old\n"


def test_limits_hold_at_once_and_for_the_sessions_there_are(daemon: Daemon) -> None:
    daemon.reload(services(still=ECHO, few=echo(max_connections=1, on_full="refuse", refuse_message="full")))
    with daemon.connect("few") as first:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        with daemon.connect("few") as second:
            assert second.recv(10) == b"full"
        daemon.reload(services(still=ECHO, few=echo(max_connections=2, on_full="refuse")))
        with daemon.connect("few") as second:
            second.sendall(b"y")
            assert second.recv(1) == b"y"
            daemon.reload(services(still=ECHO, few=echo(max_connections=1, on_full="refuse")))
            with daemon.connect("few") as third:
                assert third.recv(10) == b""
            assert daemon.service("few")["live"] == 2
    daemon.wait_events(2, "connection_served", service="few")


def test_clients_in_the_backlog_are_let_in_when_the_limit_is_raised(daemon: Daemon) -> None:
    daemon.reload(services(still=ECHO, few=echo(max_connections=1)))
    with daemon.connect("few") as first, daemon.connect("few") as second:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        daemon.reload(services(still=ECHO, few=echo(max_connections=2)))
        assert exchange(second, b"in") == b"in"


# Sessions and what is changed under them


def open_descriptors(pids: list[int]) -> list[int]:
    """Return how many descriptors each of the processes has."""
    return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids]


def test_renaming_a_service_over_and_over_costs_no_descriptors_and_no_line_of_its_sessions(
    tmp_path: Path,
) -> None:
    speaks = {"listen": "127.0.0.1:0", "program": ["sh", "-c", 'echo; read word; echo "$word" >&2']}
    with running(tmp_path, {"services": {"name0": speaks}}) as daemon:
        pids = [item["pid"] for item in daemon.status()["processes"]]
        before = open_descriptors(pids)  # that of the client who asked for the status is perhaps among them
        first = daemon.connect("name0")
        assert first.recv(1) == b"\n"
        for number in range(1, 11):
            daemon.reload({"services": {f"name{number}": speaks}})
        with first:
            assert exchange(first, b"still here\n") == b""
        assert daemon.wait_event("program_stderr", service="name0")["line"] == "still here"
        deadline = time.monotonic() + TIMEOUT
        while any(now > then for now, then in zip(open_descriptors(pids), before, strict=True)):
            assert time.monotonic() < deadline, (before, open_descriptors(pids))


def test_a_session_outlives_its_service(daemon: Daemon) -> None:
    daemon.reload(services(still=ECHO, gone=ECHO))
    with daemon.connect("gone") as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        daemon.reload(services(still=ECHO))
        status = daemon.status()
        assert status["totals"]["live"] == 1
        assert daemon.service("gone")["live"] == 1
        assert {item["service"] for item in status["listeners"]} == {"still"}
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait_event("connection_served", service="gone")["status"] == 0
    assert [item["name"] for item in daemon.status()["services"]] == ["still"]


def test_a_service_that_comes_back_counts_its_sessions_of_before(daemon: Daemon) -> None:
    with_it = services(still=ECHO, back=echo(max_connections=2, max_per_ip=1))
    daemon.reload(with_it)
    with daemon.connect("back") as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        daemon.reload(services(still=ECHO))
        daemon.reload(with_it)
        assert daemon.service("back")["live"] == 1
        with daemon.connect("back") as another:
            assert another.recv(1) == b""
        assert daemon.service("back")["refused"] == {"per_ip": 1}
    daemon.wait_event("connection_served", service="back")
    assert daemon.talk("back", b"x") == b"x"


def test_other_privileges_are_another_launcher_and_the_old_one_exits_with_its_last_program(
    daemon: Daemon, each_launcher: str
) -> None:
    def masked(umask: str) -> dict[str, Any]:
        masked = echo(program=["sh", "-c", "umask; exec cat"], umask=umask)
        return {"launcher": each_launcher, **services(still=ECHO, mask=masked)}

    daemon.reload(masked("027"))
    with daemon.connect("mask") as before:
        assert line(before) == b"0027\n"
        (old,) = (item["pid"] for item in daemon.processes("launcher") if item["services"] == ["mask"])
        assert daemon.reload(masked("077")) == ["mask: privileges changed"]
        with daemon.connect("mask") as after:
            assert line(after) == b"0077\n"
        (draining,) = (item for item in daemon.processes("launcher") if item["draining"] and item["running"])
        assert (draining["pid"], draining["running"]) == (old, 1)
        assert exchange(before, b"old") == b"old"
    wait_gone(old)
    daemon.wait_events(2, "connection_served", service="mask")
    assert not [event for event in daemon.events if event["event"] == "process_died"]


@pytest.mark.skipif(not os.path.exists(NATIVE), reason="the native launcher was not built")
def test_another_kind_of_launcher_takes_the_new_sessions_and_the_old_ones_go_on(daemon: Daemon) -> None:
    daemon.reload({"launcher": "native"})
    with daemon.connect("still") as first:
        first.sendall(b"1")
        assert first.recv(1) == b"1"
        for kind in ("python", "native"):
            daemon.reload({"launcher": kind})
            assert daemon.talk("still", b"x") == b"x"
            now = [item for item in daemon.processes("launcher") if not item["draining"]]
            assert {item["kind"] for item in now} == {kind}
        first.sendall(b"2")
        assert first.recv(1) == b"2"


def test_a_launcher_that_is_killed_while_it_drains_has_a_successor_that_drains(
    daemon: Daemon, each_launcher: str
) -> None:
    daemon.reload({"launcher": each_launcher})
    daemon.reload(services(still=ECHO, mask=echo(umask="027")))
    with daemon.connect("mask") as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        daemon.reload(services(still=ECHO))
        (draining,) = (item for item in daemon.processes("launcher") if item["draining"] and item["running"])
        os.kill(draining["pid"], signal.SIGKILL)
        daemon.wait_event("process_died", role="launcher", pid=draining["pid"])
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait_event("connection_served", service="mask")["status"] == 0


def test_a_listener_that_moves_to_another_service_keeps_its_socket(daemon: Daemon) -> None:
    port = free_port()
    listen = f"127.0.0.1:{port}"
    daemon.reload(services(still=ECHO, one=echo(listen=listen, max_connections=1)))
    with daemon.connect("one") as first, daemon.connect("one") as waiting:
        first.sendall(b"x")
        assert first.recv(1) == b"x"
        changes = daemon.reload(services(still=ECHO, two=say("two") | {"listen": listen}))
        assert changes == ["one: removed", f"two: added, listening on {listen}"]
        assert line(waiting) == b"two\n"


# The loop's own process


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"log": {"level": "debug"}}, "log"),
        ({"limits": {"max_connections": 7}}, "max_connections"),
    ],
)
def test_settings_that_the_loop_can_take_leave_it_running(
    daemon: Daemon, settings: dict[str, Any], change: str
) -> None:
    (before,) = daemon.processes("loop")
    (changed,) = daemon.reload(settings)
    assert changed.startswith(change)
    assert daemon.processes("loop") == [before]


def test_another_control_path_is_another_loop_with_the_same_sessions(tmp_path: Path) -> None:
    with running(tmp_path, services(still=ECHO)) as daemon:
        another_control_path(daemon)


def another_control_path(daemon: Daemon) -> None:
    (before,) = daemon.processes("loop")
    with daemon.connect("still") as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        new = daemon.folder / "another"
        assert daemon.reload({"control": str(new)}) == [f"control: {daemon.control} -> {new}"]
        daemon.wait_event("reloaded")
        assert not daemon.control.exists()
        daemon.control = new
        (after,) = daemon.processes("loop")
        assert after["pid"] != before["pid"]
        assert daemon.service("still")["live"] == 1
        assert exchange(sock, b"still here") == b"still here"
    assert daemon.wait_event("connection_served", service="still")["remote"].startswith("127.0.0.1:")


def test_a_daemon_that_is_known_by_its_process_reloads_a_file_with_another_control_path(
    tmp_path: Path,
) -> None:
    """As systemctl reload does: the file names a socket that is not there yet."""
    with running(tmp_path, services(still=ECHO)) as daemon:
        old, new = daemon.control, daemon.folder / "another"
        daemon.write({"control": str(new)})
        command = [sys.executable, "-m", "ucspid", "reload", "--pid", str(daemon.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"control: {old} -> {new}\n"
        daemon.wait_event("reloaded")
        daemon.control = new
        assert not old.exists()
        assert daemon.talk("still", b"x") == b"x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_another_user_is_another_loop_with_the_same_sessions(tmp_path: Path) -> None:
    with running(tmp_path, services(still=echo(user="root")) | {"user": "nobody"}) as daemon:
        (before,) = daemon.processes("loop")
        with daemon.connect("still") as sock, load(daemon, "still") as results:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            daemon.reload({"user": "daemon"})
            daemon.wait_event("reloaded")
            (after,) = daemon.processes("loop")
            assert [item["user"] for item in (before, after)] == [
                str(pwd.getpwnam(name).pw_uid) for name in ("nobody", "daemon")
            ]
            assert exchange(sock, b"still here") == b"still here"
        assert set(results) == {b"x"}


# What is wrong changes nothing


def state(daemon: Daemon) -> dict[str, Any]:
    """Return what a reload could change; launchers of other tests that still drain are not among them."""
    status = daemon.status()
    staying = [item for item in status["processes"] if not item["draining"]]
    return {key: status[key] for key in ("services", "listeners", "generation")} | {"processes": staying}


def test_a_broken_file_changes_nothing_and_says_where(daemon: Daemon) -> None:
    before = state(daemon)
    daemon.config_path.write_text("services:\n  still:\n    listen: 127.0.0.1:0\n    progam: [cat]\n")
    with pytest.raises(ConfigError) as wrong:
        client.call(daemon.control, "reload", {}, TIMEOUT)
    assert f"{daemon.config_path}:4:5: services.still.progam" in str(wrong.value)
    assert "program" in str(wrong.value)
    assert f"{daemon.config_path}:4:5" in daemon.wait_event("reload_failed")["reason"]
    assert state(daemon) == before
    assert daemon.talk("still", b"x") == b"x"
    daemon.write()
    assert daemon.reload() == []


def test_a_file_with_thousands_of_mistakes_is_reported_in_bounds(daemon: Daemon) -> None:
    unknown = "\n".join(f"mistake_number_{number}: {'x' * 30}" for number in range(4000))
    daemon.config_path.write_text(unknown)
    with pytest.raises(ConfigError) as wrong:
        client.call(daemon.control, "reload", {}, TIMEOUT)
    assert f"{daemon.config_path}:1:1: mistake_number_0: unknown key" in wrong.value.problems[0]
    assert "more" in wrong.value.problems[-1]
    assert daemon.talk("still", b"x") == b"x"


def test_a_port_that_is_taken_changes_nothing_and_leaves_nothing_behind(daemon: Daemon) -> None:
    before = state(daemon)
    processes = set(daemon.processes_left())
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ResourceError, match=f"^second: cannot listen on {address}: Address already in use$"
        ):
            daemon.reload(
                services(
                    still=say("changed"),
                    first=echo(listen=f"127.0.0.1:{free}", umask="077"),
                    second=echo(listen=address),
                )
            )
    assert address in daemon.wait_event("reload_failed")["reason"]
    assert refused(free)
    assert state(daemon) == before
    assert set(daemon.processes_left()) <= processes
    assert daemon.talk("still", b"x") == b"x"


def test_a_user_that_does_not_exist_changes_nothing(daemon: Daemon) -> None:
    with pytest.raises(ConfigError, match=r"services\.new\.user: .*nobody-of-that-name"):
        daemon.reload(services(still=ECHO, new=echo(user="nobody-of-that-name")))
    assert [item["name"] for item in daemon.status()["services"]] == ["still"]


def test_a_file_that_is_not_there_changes_nothing(daemon: Daemon) -> None:
    daemon.config_path.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        client.call(daemon.control, "reload", {}, TIMEOUT)
    assert daemon.talk("still", b"x") == b"x"
    daemon.write()


# Many at once


def test_a_storm_of_sighups_ends_in_the_state_of_the_last_file(daemon: Daemon) -> None:
    for number in range(200):
        daemon.write(services(still=ECHO, storm=echo(env={"NUMBER": str(number)}, program=["env"])))
        daemon.signal(signal.SIGHUP)
    daemon.reload()
    assert b"NUMBER=199\n" in daemon.talk("storm")
    assert daemon.talk("still", b"x") == b"x"


def test_clients_that_ask_during_a_reload_are_all_answered(daemon: Daemon) -> None:
    daemon.write(services(still=ECHO, new=ECHO))
    answers: list[Any] = []
    asking = [threading.Thread(target=lambda: answers.append(daemon.reload())) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(TIMEOUT)
    added = ["new: added, listening on 127.0.0.1:0"]
    assert len(answers) == 6
    assert answers.count(added) >= 1
    assert all(answer in (added, []) for answer in answers)


def test_a_client_that_goes_during_its_reload_stops_nothing(daemon: Daemon) -> None:
    daemon.write(services(still=ECHO, new=say("new")))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.control))
        sock.sendall(encode_request(Request("reload", {})))
    daemon.wait_event("reloaded")
    with daemon.connect("new") as new:
        assert line(new) == b"new\n"
