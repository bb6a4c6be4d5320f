"""Hot upgrade end to end: the daemon goes on as other code and loses nothing; or as before, if it fails."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ucspid
from clients import load
from daemon import TIMEOUT, Daemon, assert_counts_match, receive_all, running
from installed import Installation
from ucspid.cli import client
from ucspid.errors import ConfigError, ResourceError
from ucspid.ipc import counters, messages
from ucspid.launcher.paths import NATIVE
from ucspid.master.upgrade_state import STATE

NEXT = "99.0-next"
SERVICES: dict[str, Any] = {
    "echo": {"listen": "127.0.0.1:0", "program": ["cat"]},
    "limited": {
        "listen": "127.0.0.1:0", "program": ["cat"], "rate_per_ip": "1/hour", "burst": 2, "max_per_ip": 1,
        "umask": "077", "stderr": "log",
    },
}  # fmt: skip


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    (tmp_path / "venv").mkdir()
    return Installation(tmp_path / "venv")


@pytest.fixture
def daemon(installation: Installation, tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, {"services": SERVICES}, command=installation.command) as daemon:
        yield daemon


def upgrade(daemon: Daemon) -> dict[str, Any]:
    """Return what the daemon answers, when the previous loop has exited."""
    return client.call(daemon.control, "upgrade", {}, TIMEOUT, to_end=True)


def pids(daemon: Daemon, role: str, *, draining: bool = False) -> list[int]:
    return [item["pid"] for item in daemon.processes(role) if item["draining"] == draining]


def staying(daemon: Daemon) -> list[int]:
    """Return all processes but those that are about to exit."""
    return [item["pid"] for item in daemon.status()["processes"] if not item["draining"]]


def turned_away(daemon: Daemon, source: str) -> bool:
    with daemon.connect("limited", source) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"in")
        return sock.recv(2) == b""
    return True


@pytest.mark.usefixtures("each_launcher")
def test_the_daemon_goes_on_as_another_version(daemon: Daemon, installation: Installation) -> None:
    loop, launchers = pids(daemon, "loop"), pids(daemon, "launcher")
    listeners = daemon.status()["listeners"]
    assert daemon.talk("limited", b"once") == b"once"
    with daemon.connect("limited", "127.0.0.2") as session, daemon.connect("echo") as other:
        for sock in (session, other):
            sock.sendall(b"before")
            assert sock.recv(6) == b"before"
        installation.version(NEXT)
        answer = upgrade(daemon)
        assert answer == {"before": ucspid.__version__, "version": NEXT, "generation": 2, "changes": []}
        status = daemon.status()
        assert_counts_match(status)
        assert (status["version"], status["generation"]) == (NEXT, 2)
        assert status["listeners"] == listeners
        assert status["totals"]["live"] == 2
        assert pids(daemon, "master") == [daemon.pid]
        assert not set(pids(daemon, "loop")) & set(loop)
        assert not set(pids(daemon, "launcher")) & set(launchers)
        assert set(pids(daemon, "launcher", draining=True)) == set(launchers)
        assert turned_away(daemon, "127.0.0.2")  # max_per_ip
        assert daemon.talk("limited", b"twice") == b"twice"
        assert turned_away(daemon, "127.0.0.1")  # rate_per_ip
        for sock in (session, other):
            sock.sendall(b"after")
            assert sock.recv(5) == b"after"
    daemon.wait_event("upgraded", before=ucspid.__version__, version=NEXT)
    for service in ("limited", "echo"):
        daemon.wait_event("connection_served", service=service, status=0)
    assert daemon.talk("echo", b"new") == b"new"


def test_a_version_with_another_reason_of_refusals_goes_on_with_the_counts(
    daemon: Daemon, installation: Installation
) -> None:
    assert daemon.talk("limited", b"served") == b"served"
    daemon.wait_event("connection_served", service="limited")  # its slot is free again
    with daemon.connect("limited") as session:
        session.sendall(b"in")
        assert session.recv(2) == b"in"
        assert turned_away(daemon, "127.0.0.1")  # max_per_ip
        before = daemon.status()["services"][1]
        assert (before["accepted"], before["served"], before["refused"]) == (3, 1, {"per_ip": 1})
        del before["timings"]  # they are of one process of the event loop
        installation.version(NEXT)
        installation.replace(
            "ipc/counters.py", 'REFUSALS = (\n    "full",', 'REFUSALS = (\n    "new", "full",'
        )
        assert upgrade(daemon)["version"] == NEXT
        after = daemon.status()["services"][1]
        kept = before.keys() - {"timings"}  # these are of one event loop
        assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
        assert turned_away(daemon, "127.0.0.1")
        assert daemon.status()["services"][1]["refused"] == {"per_ip": 2}
    daemon.wait_events(2, "connection_served", service="limited")
    assert_counts_match(daemon.status())


def test_no_client_is_lost_in_upgrades_under_load(daemon: Daemon, installation: Installation) -> None:
    with load(daemon.address("echo")) as clients:
        for number, version in enumerate(["99.0", "99.0.1"]):
            installation.version(version)
            assert upgrade(daemon)["version"] == version
            daemon.wait_events(number + 1, "upgraded")
        daemon.reload({"limits": {"max_connections": 77}})
        assert daemon.status()["totals"]["max_connections"] == 77
    assert clients.failed == []
    assert len(clients.seconds) > 10
    assert max(clients.seconds) < 10.0


def test_the_command_says_so_when_the_new_version_serves(daemon: Daemon, installation: Installation) -> None:
    installation.version(NEXT)
    command = [*installation.command, "upgrade", "--control", str(daemon.control)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert said.stdout == f"upgraded: {ucspid.__version__} -> {NEXT}\n"
    assert daemon.status()["version"] == NEXT
    echo: Any = {**SERVICES["echo"], "max_lifetime": "90s"}
    daemon.write({"services": SERVICES | {"echo": echo}})
    said = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert said.stdout.splitlines() == [
        f"upgraded: {NEXT} again, in new processes",
        "echo: max_lifetime none -> 90s",
    ]


def test_a_signal_upgrades_and_signals_that_come_meanwhile_are_not_lost(
    daemon: Daemon, installation: Installation
) -> None:
    installation.version(NEXT)
    daemon.signal(signal.SIGUSR2)
    daemon.signal(signal.SIGHUP)
    daemon.wait_event("upgraded", version=NEXT)
    assert daemon.status()["version"] == NEXT


BROKEN = [
    ("loop.py", "import asyncio\n", "import asyncio broken\n", "SyntaxError"),
    ("launcher/serve.py", "import select\n", "import select broken\n", "SyntaxError"),
    ("master/main.py", "import signal\n", "import signal broken\n", "SyntaxError"),
    ("config/load.py", "import os\n", "import os broken\n", "SyntaxError"),
    ("master/upgrade_state.py", f"STATE = {STATE}\n", "STATE = 22\n", "needs a restart"),
    ("ipc/messages.py", f"VERSION = {messages.VERSION}\n", "VERSION = 22\n", "needs a restart"),
    ("ipc/counters.py", f"VERSION = {counters.VERSION}\n", "VERSION = 22\n", "needs a restart"),
]


def test_versions_that_do_not_come_up_leave_the_old_one_running(
    daemon: Daemon, installation: Installation
) -> None:
    daemon.reload({"launcher": "python"})
    processes = staying(daemon)
    for count, (module, before, after, reason) in enumerate(BROKEN, 1):
        with daemon.connect("echo") as session:
            installation.replace(module, before, after)
            with pytest.raises(ResourceError, match=reason):
                upgrade(daemon)
            failed = daemon.wait_events(count, "upgrade_failed", version=ucspid.__version__)
            assert reason in failed[-1]["reason"], module
            session.sendall(b"still")
            assert session.recv(5) == b"still"
        assert daemon.talk("echo", b"as before") == b"as before"
        assert staying(daemon) == processes, module
        installation.restore(module)
    installation.version(NEXT)
    assert upgrade(daemon)["version"] == NEXT


def test_a_file_that_is_wrong_leaves_the_old_version_running(
    daemon: Daemon, installation: Installation
) -> None:
    installation.version(NEXT)
    daemon.write({"services": {"echo": {"listen": "nonsense", "program": ["cat"]}}})
    with pytest.raises(ConfigError, match="nonsense"):
        upgrade(daemon)
    assert daemon.talk("echo", b"as before") == b"as before"
    assert daemon.status()["version"] == ucspid.__version__
    daemon.write({"services": SERVICES})


def test_what_fails_only_in_the_new_code_leaves_the_old_loop_and_launchers_at_work(
    daemon: Daemon, installation: Installation
) -> None:
    loop, launchers = pids(daemon, "loop"), pids(daemon, "launcher")
    installation.replace(
        "master/preparation.py", "self._held.acquire(plan", 'raise ResourceError("sabotage") or (plan'
    )
    installation.version(NEXT)
    with pytest.raises(ResourceError, match="sabotage"):
        upgrade(daemon)
    daemon.wait_event("upgrade_failed", version=NEXT, reason="sabotage")
    assert daemon.talk("echo", b"as before") == b"as before"
    assert (pids(daemon, "loop"), pids(daemon, "launcher")) == (loop, launchers)
    os.kill(loop[0], signal.SIGKILL)
    daemon.wait_event("process_died", role="loop")
    assert daemon.talk("echo", b"by a new loop") == b"by a new loop"
    installation.restore("master/preparation.py")
    installation.version(NEXT + "-mended")
    assert upgrade(daemon)["version"] == NEXT + "-mended"
    assert not set(pids(daemon, "launcher")) & set(launchers)


@pytest.mark.skipif(not os.path.exists(NATIVE), reason="the native launcher was not built")
def test_a_version_whose_native_launcher_does_not_run_goes_on_with_the_one_in_python(
    daemon: Daemon, installation: Installation
) -> None:
    native = installation.package / "launcher" / Path(NATIVE).name
    daemon.reload({"launcher": "native"})
    with daemon.connect("echo") as session:
        native.unlink()
        native.write_text("#!/bin/sh\nexit 3\n")
        native.chmod(0o755)
        installation.version(NEXT)
        with pytest.raises(ConfigError, match="does not run here: exit status 3"):
            upgrade(daemon)
        daemon.write({"launcher": "auto"})
        assert upgrade(daemon)["version"] == NEXT
        session.sendall(b"still")
        assert session.recv(5) == b"still"
    assert daemon.talk("echo", b"new") == b"new"
    kinds = {item["kind"] for item in daemon.processes("launcher") if not item["draining"]}
    assert kinds == {"python"}


@pytest.mark.usefixtures("each_launcher")
def test_deaths_after_an_upgrade_lose_nothing(daemon: Daemon, installation: Installation) -> None:
    with daemon.connect("echo") as first, daemon.connect("echo") as second:
        first.sendall(b"1")
        assert first.recv(1) == b"1"
        installation.version(NEXT)
        upgrade(daemon)
        second.sendall(b"2")
        assert second.recv(1) == b"2"
        (old,) = [item["pid"] for item in daemon.processes("launcher") if item["running"]]
        os.kill(old, signal.SIGKILL)
        daemon.wait_event("process_died", role="launcher", pid=old)
        (loop,) = pids(daemon, "loop")
        os.kill(loop, signal.SIGKILL)
        daemon.wait_event("process_died", role="loop", pid=loop)
        daemon.wait_event("loop_started", sessions=2)
        assert daemon.service("echo")["live"] == 2
        installation.version(NEXT + "-again")
        assert upgrade(daemon)["version"] == NEXT + "-again"
        assert daemon.service("echo")["live"] == 2
    # With their status, since the master is still the one who adopts orphans.
    daemon.wait_events(2, "connection_served", service="echo", status=0)
    assert daemon.service("echo")["live"] == 0


@pytest.mark.parametrize("after", ["trial", "exec", "upgraded"])
def test_a_stop_at_any_stage_is_one(installation: Installation, tmp_path: Path, after: str) -> None:
    daemon = Daemon(tmp_path, {"services": SERVICES})
    daemon.start(command=installation.command)
    try:
        with daemon.connect("echo") as session:
            session.sendall(b"1")
            assert session.recv(1) == b"1"
            if after == "exec":
                installation.replace(
                    "master/resume.py", "    signalfd =", "    os.kill(os.getpid(), 15)\n    signalfd ="
                )
            installation.version(NEXT)
            daemon.signal(signal.SIGUSR2)
            if after == "upgraded":
                daemon.wait_event("upgraded")
            if after != "exec":
                daemon.signal(signal.SIGTERM)
            daemon.wait_event("draining")
            session.sendall(b"2")
            assert session.recv(1) == b"2"
        assert daemon.wait() == 0
        assert receive_all(session) if session.fileno() >= 0 else True
        assert daemon.stderr == []
    finally:
        daemon.kill()
