"""What the system may do to the daemon: refuse it descriptors, memory and processes, stop its parts, hang.

Other services go on meanwhile, every client is served or closed and counted, and when the fault is
over all is as before, by itself. docs/reliability.md has the bounds.
"""

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import TIMEOUT, Daemon, exchange, receive_all, running
from faults import (
    PER_LAUNCHER,
    descriptors,
    hanging,
    limited,
    memory,
    needs_root,
    no_descriptors,
    stopped,
    wait_while_alive,
)
from folders import public_folder
from ucspid.launcher.serve import IN_FLIGHT
from ucspid.spawn import OVERDUE_AFTER, STUCK_AFTER

HELD_UP = OVERDUE_AFTER + 1.0
"""Seconds that a start which hangs may hold up the one behind it, with one for a slow machine."""


NATIVE_IN_FLIGHT = 32
"""Starts that a native launcher takes before it has answered one."""

SOME_TRIES = 0.1
"""Seconds in which the master tries a few times to start what has died."""


def service(**settings: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "program": ["cat"], **settings}


ECHO: dict[str, Any] = {
    "services": {"echo": service(), "other": service(umask="077")},
    "log": {"format": "json", "level": "debug"},
}
"""Two services with a launcher each."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, ECHO) as daemon:
        yield daemon


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that notifies a service manager, one that has gone."""
    with running(tmp_path, ECHO, env=os.environ | {"NOTIFY_SOCKET": "@ucspid-test-nobody"}) as daemon:
        yield daemon


def launcher_of(daemon: Daemon, name: str) -> int:
    """Return the process of the only launcher of a service."""
    (pid,) = (item["pid"] for item in daemon.processes("launcher") if name in item["services"])
    return int(pid)


def held(daemon: Daemon) -> int:
    """Return how many descriptors the master has, but for those of launchers, of which there may be more."""
    return descriptors(daemon.pid) - PER_LAUNCHER * len(daemon.children("ucspid: launche"))


def loop_of(daemon: Daemon) -> int:
    return int(daemon.processes("loop")[0]["pid"])


def fate(address: tuple[str, int]) -> str:
    """Connect, and return what becomes of the client: served or closed; nothing else may."""
    with socket.create_connection(address, TIMEOUT) as sock:
        try:
            return "served" if exchange(sock, b"x") == b"x" else "closed"
        except ConnectionResetError:
            return "closed"


def until_served(address: tuple[str, int]) -> int:
    """Connect until a client is served; return how many were closed before."""
    for closed in range(20):
        if fate(address) == "served":
            return closed
    raise AssertionError("nobody is served")


def fail(daemon: Daemon, count: int) -> None:
    """Have starts of a service fail, one at a time, so that no other launcher is asked for."""
    for number in range(count):
        assert fate(daemon.address("echo")) == "closed"
        daemon.wait_events(number + 1, "connection_failed", service="echo")


# What hangs


@pytest.mark.waits
def test_launchers_that_do_not_answer_are_replaced_and_who_waits_behind_is_served(
    tmp_path: Path, each_launcher: str
) -> None:
    """Of these the native one is none for a start that hangs."""
    stuck = 2 if each_launcher == "python" else 1
    with public_folder() as folder:
        program = Path(shutil.copy("/bin/cat", folder / "program"))
        services = {
            "hangs": service(program=[str(program)]),
            "behind": service(),
            "stopped": service(umask="027"),
            "other": service(umask="077"),
        }
        with running(tmp_path, {"services": services}) as daemon, hanging(program) as hang:
            addresses = {name: daemon.address(name) for name in services}
            with stopped(launcher_of(daemon, "stopped")):
                clients = {"hangs": socket.create_connection(addresses["hangs"], TIMEOUT)}
                hang.wait()
                for name in ("behind", "stopped"):
                    clients[name] = socket.create_connection(addresses[name], TIMEOUT)
                began = time.monotonic()
                assert daemon.talk("other", b"x") == b"x"
                assert time.monotonic() - began < STUCK_AFTER
                daemon.wait_events(stuck, "launcher_stuck")
                for name in ("behind", "stopped"):
                    assert daemon.talk(name, b"around") == b"around"
                assert exchange(clients["behind"], b"x") == b"x"
                assert exchange(clients["stopped"], b"x") == b"x"
                assert time.monotonic() - began < HELD_UP + STUCK_AFTER
                daemon.wait_events(stuck, "process_died", role="launcher", signal="SIGKILL")
                assert daemon.service("hangs")["live"] == 1
            hang.close()
            assert exchange(clients["hangs"], b"at last") == b"at last"
            assert daemon.wait_event("connection_served", service="hangs")["status"] == 0
            for sock in clients.values():
                sock.close()
            assert {name: daemon.service(name)["failed"] for name in services} == {
                name: {} for name in services
            }


def test_a_stopped_launcher_goes_on_with_all_that_was_given_to_it(each_launcher: str, daemon: Daemon) -> None:
    address = daemon.address("echo")
    in_flight = IN_FLIGHT if each_launcher == "python" else NATIVE_IN_FLIGHT
    with contextlib.ExitStack() as stack:
        with stopped(launcher_of(daemon, "echo")):
            clients = [stack.enter_context(socket.create_connection(address, TIMEOUT)) for _ in range(60)]
            for sock in clients:
                sock.sendall(b"x")
                sock.shutdown(socket.SHUT_WR)
            daemon.wait_events(60 - in_flight, "connection_served", service="echo")
            assert daemon.talk("other", b"x") == b"x"
        assert [receive_all(sock) for sock in clients] == 60 * [b"x"]
    status = daemon.service("echo")
    assert (status["accepted"], status["failed"], status["refused"]) == (60, {}, {})


def test_a_stopped_loop_costs_the_master_no_memory_and_goes_on(daemon: Daemon) -> None:
    address = daemon.address("echo")
    launchers = [launcher_of(daemon, name) for name in ECHO["services"]]
    assert daemon.reload() == []
    before = held(daemon), memory(daemon.pid)
    daemon.config_path.write_text("services: nonsense")
    with contextlib.ExitStack() as stack:
        with stopped(loop_of(daemon)):
            clients = [stack.enter_context(socket.create_connection(address, TIMEOUT)) for _ in range(50)]
            for launcher in launchers:
                os.kill(launcher, signal.SIGKILL)
            for _ in range(1000):
                daemon.signal(signal.SIGHUP)
        for sock in clients:
            assert exchange(sock, b"x") == b"x"
    daemon.wait_event("reload_failed")
    daemon.wait_events(2, "process_died", role="launcher")
    daemon.write()
    assert daemon.reload() == []
    assert held(daemon) == before[0]
    assert memory(daemon.pid) - before[1] < 1 << 20


# What runs out


def test_a_loop_that_runs_out_of_descriptors_drops_some_and_recovers(daemon: Daemon) -> None:
    address, loop = daemon.address("echo"), loop_of(daemon)
    # When this is answered, the loop has closed the connections that asked for the status.
    assert fate(address) == "served"
    daemon.wait_event("connection_served")
    with no_descriptors(loop):
        fates = [fate(address) for _ in range(3)]
    assert "closed" in fates
    assert daemon.wait_event("accept_failed")["reason"] == os.strerror(errno.EMFILE)
    assert until_served(address) == 0
    assert daemon.service("echo")["failed"] == {"descriptors": fates.count("closed")}
    assert loop_of(daemon) == loop


@pytest.mark.usefixtures("each_launcher")
def test_a_launcher_that_runs_out_of_descriptors_is_replaced(daemon: Daemon) -> None:
    address, launcher = daemon.address("echo"), launcher_of(daemon, "echo")
    with daemon.connect("echo") as lasting:
        lasting.sendall(b"x")
        assert lasting.recv(1) == b"x"
        daemon.wait_event("connection_started")  # the launcher has closed its copy of the client's socket
        with no_descriptors(launcher):
            assert fate(address) == "closed"
        daemon.wait_event("process_died", role="launcher", pid=launcher)
        assert until_served(address) == 0
        assert exchange(lasting, b"still here") == b"still here"
    daemon.wait_event("connection_failed", service="echo")
    assert daemon.service("echo")["failed"] == {"EOWNERDEAD": 1}
    (said,) = daemon.wait_lines(1)
    assert said.startswith("ucspid: launcher: a packet was cut off")
    daemon.stderr.clear()


def test_a_launcher_that_runs_out_of_memory_starts_nothing_until_there_is_some(tmp_path: Path) -> None:
    """The one in Python: a start takes no memory of the native one but some of what it has."""
    with running(tmp_path, {"launcher": "python", **ECHO}) as daemon:
        address, launcher = daemon.address("echo"), launcher_of(daemon, "echo")
        size = resource.getpagesize() * int(Path(f"/proc/{launcher}/statm").read_text().split()[0])
        with limited(launcher, "as", size):
            fail(daemon, 3)
            assert daemon.service("echo")["failed"] == {"ENOMEM": 3}
            assert daemon.talk("other", b"x") == b"x"
        assert until_served(address) == 0
        assert launcher_of(daemon, "echo") == launcher


def test_a_master_that_runs_out_of_descriptors_restarts_what_dies_as_soon_as_it_can(managed: Daemon) -> None:
    daemon = managed
    address, loop, launcher = daemon.address("echo"), loop_of(daemon), launcher_of(daemon, "echo")
    assert daemon.reload() == []  # so the master has closed by what it said that it was ready
    before = held(daemon)
    with daemon.connect("echo") as lasting:
        lasting.sendall(b"x")
        assert lasting.recv(1) == b"x"
        with no_descriptors(daemon.pid):
            daemon.signal(signal.SIGHUP)
            daemon.wait_event("reload_failed")
            os.kill(launcher, signal.SIGKILL)
            daemon.wait_event("process_not_started", role="launcher")
            os.kill(loop, signal.SIGKILL)
            with socket.create_connection(address, TIMEOUT) as waiting:
                waiting.sendall(b"x")
                lasting.sendall(b"y")
                assert lasting.recv(1) == b"y"
            wait_while_alive(daemon.pid, SOME_TRIES)
        assert until_served(address) == 0
        daemon.wait_event("process_not_started", role="loop")
        assert exchange(lasting, b"z") == b"z"
    daemon.wait_event("connection_served", service="echo", status=0)
    assert daemon.reload() == []
    assert held(daemon) == before


@contextlib.contextmanager
def no_more_processes(*pids: int) -> Iterator[None]:
    """Have processes in a group that can have no others besides them; skips where that cannot be made."""
    found = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup \S+ \S*\bpids\b", _mounts(), re.MULTILINE)
    if found is None:
        pytest.skip("no cgroup hierarchy with the pids controller of version 1")
    top = Path(found[1])
    group = top / f"ucspid-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as problem:
        pytest.skip(f"no cgroup can be made: {problem.strerror}")
    homes = {pid: _home(pid) for pid in pids}
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        yield
    finally:
        (group / "pids.max").write_text("max")
        # What was moved last may have started another meanwhile, and what has ended is there a moment longer.
        end = time.monotonic() + TIMEOUT
        while not _removed(group):
            assert time.monotonic() < end, (group / "cgroup.procs").read_text()
            for member in (group / "cgroup.procs").read_text().split():
                home = homes.get(int(member), homes[pids[0]])
                with contextlib.suppress(ProcessLookupError):
                    (top / home.lstrip("/") / "cgroup.procs").write_text(member)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as problem:
        if problem.errno != errno.EBUSY:
            raise
        return False
    return True


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _home(pid: int) -> str:
    found = re.search(
        r"^\d+:(?:\w+,)*pids(?:,\w+)*:(.*)$", Path(f"/proc/{pid}/cgroup").read_text(), re.MULTILINE
    )
    assert found is not None
    return found[1]


@pytest.mark.usefixtures("each_launcher")
@needs_root
def test_a_launcher_that_may_have_no_more_processes_starts_them_when_it_may(daemon: Daemon) -> None:
    address, launcher = daemon.address("echo"), launcher_of(daemon, "echo")
    with no_more_processes(launcher):
        fail(daemon, 3)
        assert daemon.service("echo")["failed"] == {"EAGAIN": 3}
        assert daemon.talk("other", b"x") == b"x"
    assert until_served(address) == 0
    assert launcher_of(daemon, "echo") == launcher


@needs_root
def test_a_master_that_may_have_no_more_processes_restarts_what_dies_when_it_may(daemon: Daemon) -> None:
    address, loop, launcher = daemon.address("echo"), loop_of(daemon), launcher_of(daemon, "echo")
    assert daemon.reload() == []  # so the master has closed by what it said that it was ready
    before = held(daemon)
    with no_more_processes(daemon.pid):
        daemon.signal(signal.SIGHUP)
        daemon.wait_event("reload_failed")
        for pid in (launcher, loop):
            os.kill(pid, signal.SIGKILL)
        wait_while_alive(daemon.pid, SOME_TRIES)
    assert until_served(address) == 0
    daemon.wait_event("process_not_started", role="loop")
    assert daemon.reload() == []
    assert held(daemon) == before
