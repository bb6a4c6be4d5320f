"""The check of the counts: it agrees with what is right, and sees what is wrong."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import running
from inprocess import Rig, serving, settings
from tls_processes import secured, tls_serving
from ucspid.control import audit
from ucspid.control.audit import Audit
from ucspid.ipc.counters import ACCEPTED
from ucspid.linux import procfs
from ucspid.lookup.dns import Resolver
from ucspid.lookup.ident import Ident
from ucspid.lookup.names import Names

# Processes: ours is the master, another the launcher, what that starts the programs


@contextlib.contextmanager
def started(group: int | None) -> Iterator[int]:
    """Start a process that starts two, each in a group of its own (0) or all in its own (None)."""
    text = (
        "import subprocess as s\n"
        f"two = [s.Popen(['sleep', '100'], process_group={group}) for _ in range(2)]\n"
        "print(flush=True)\nfor one in two: one.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = procfs.children(process.pid)
        yield process.pid
        for pid in (*children, process.pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def launcher() -> Iterator[int]:
    with started(group=0) as process:
        yield process


def named(launcher: int) -> dict[int, str]:
    return dict.fromkeys(procfs.children(launcher), "it")


def differences(launcher: int, programs: dict[int, str], *in_flight: int) -> list[str]:
    return procfs.differences(os.getpid(), {launcher: programs}, set(in_flight))


def test_programs_that_run_and_that_are_counted_agree(launcher: int) -> None:
    assert len(named(launcher)) == 2
    assert differences(launcher, named(launcher)) == []


def test_a_stray_child_of_a_launcher_is_seen_unless_it_may_be_starting(launcher: int) -> None:
    programs = named(launcher)
    stray, _ = programs.popitem()
    assert differences(launcher, programs) == [
        f"process {stray}: a child of launcher process {launcher}, but not listed"
    ]
    assert differences(launcher, programs, launcher) == []


def test_one_child_in_the_launchers_own_group_waits_for_a_connection_a_second_is_stray() -> None:
    with started(group=None) as launcher:
        one, other = sorted(named(launcher))
        assert differences(launcher, {one: "it"}) == []
        assert differences(launcher, {}) == [
            f"process {other}: a child of launcher process {launcher}, but not listed"
        ]


def test_a_session_without_a_process_is_seen(launcher: int) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    programs = named(launcher) | {gone.pid: "launcher 1, connection a"}
    assert differences(launcher, programs) == [f"launcher 1, connection a: process {gone.pid} does not exist"]


def test_an_orphan_is_the_masters_child_and_no_other(launcher: int) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as orphan:
        assert differences(launcher, named(launcher) | {orphan.pid: "it"}) == []
        orphan.communicate()
    programs = named(launcher) | {os.getpid(): "it"}
    assert differences(launcher, programs) == [
        f"it: process {os.getpid()} is a child of process {os.getppid()}"
    ]


def test_a_launcher_that_is_not_the_masters_is_seen(launcher: int) -> None:
    found = procfs.differences(os.getppid(), {launcher: named(launcher)}, set())
    assert found == [f"launcher process {launcher}: not a child of the master"]


def test_where_processes_are_hidden_none_are_missed(launcher: int) -> None:
    hidden = subprocess.Popen(["true"])
    hidden.wait()
    assert procfs.differences(hidden.pid, {launcher: {}}, set()) == []


def test_the_parent_of_a_process_with_any_name() -> None:
    with subprocess.Popen(
        ["sh", "-c", "printf ') 1 2 3' >/proc/$$/comm; echo; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as odd:
        assert odd.stdout is not None
        odd.stdout.readline()
        assert procfs.parent(odd.pid) == os.getpid()
        odd.communicate()
    assert procfs.parent(odd.pid) is None


# The loop's own counts


@pytest.fixture(autouse=True)
def _looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AGAIN_AFTER", 0.005)


def verifier(rig: Rig) -> Audit:
    return Audit(rig.server, Names(Resolver(), Ident()), set)


NO_PROCESS = re.compile(r"process \d+(: not a child of the master| is a child of| does not exist)")


async def found(check: Audit) -> list[str]:
    """Return the differences; a rig's launchers and programs are no processes."""
    differences: list[str] = (await check.verify())["differences"]
    return [line for line in differences if not NO_PROCESS.search(line)]


async def test_a_rig_agrees() -> None:
    async with serving(settings("a")) as rig:
        assert await found(verifier(rig)) == []


async def test_descriptors_are_looked_at_while_a_client_shakes_hands() -> None:
    async with tls_serving(secured("s")) as tls:
        stray = -1
        others = lambda: set(map(int, os.listdir("/proc/self/fd"))) - {stray}  # noqa: E731
        check = Audit(tls.rig.server, Names(Resolver(), Ident()), others)
        client = tls.rig.connect("s")
        await tls.handshake()
        assert await found(check) == []
        stray = os.dup(client.fileno())
        (line,) = await found(check)
        assert line.startswith(f"descriptor {stray}: ")
        os.close(stray)


async def test_a_slot_that_nobody_gives_back_is_seen() -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        slot = rig.service("a").limits.restore("192.0.2.1")
        assert await found(check) == [
            "service a: -1 accepted connections are in no other count",
            "service a: 1 slots have no connection",
        ]
        rig.service("a").limits.release(slot)
        assert await found(check) == []


async def test_a_connection_that_is_in_no_count_is_seen() -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        rig.counters.row(rig.service("a").number).add(ACCEPTED)
        assert await found(check) == ["service a: 1 accepted connections are in no other count"]
        rig.counters.row(rig.service("a").number).add(ACCEPTED, -1)


async def test_a_total_that_is_wrong_is_seen() -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        rig.server.services.limits.live += 1
        assert await found(check) == ["the daemon counts 1 sessions, its services 0"]
        rig.server.services.limits.live -= 1


async def test_a_session_that_its_launcher_does_not_run_is_seen() -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        rig.connect("a")
        (connection,) = await rig.starts(1)
        rig.launchers[0].started(connection)
        await rig.until(lambda: rig.named("connection_started"))
        pid = connection & 0xFFFF
        session = rig.sessions("a").by_number[connection]
        assert f"connection {connection:x}: process {pid} in the loop, None at its launcher" in await found(
            check
        )
        rig.launchers[0].lists = True
        assert f"connection {connection:x}" not in "".join(await found(check)).replace("launcher 1, ", "")
        del rig.sessions("a").by_number[connection]
        assert f"connection {connection:x}: no service has it" in await found(check)
        rig.sessions("a").by_number[connection] = session
        rig.launchers[0].exited(connection)
        await rig.until(lambda: rig.named("connection_served"))


async def test_a_launcher_that_does_not_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "STUCK_AFTER", 0.05)
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        asyncio.get_running_loop().remove_reader(rig.launchers[0].descriptor)
        assert await found(check) == ["launcher 1: has not reported what it runs"]


async def test_a_launcher_that_has_left_meanwhile_has_nothing_to_say() -> None:
    async with serving(settings("a")) as rig:
        launcher = rig.server.launchers.by_number[1]
        rig.server.launchers.lose(1)
        assert await audit._call_roll(launcher) == []


async def test_descriptors_that_are_nobodys_are_seen() -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        leaked = os.dup(rig.server.services.listeners[1].sock.fileno())
        (line,) = await found(check)
        assert line.startswith(f"descriptor {leaked}: socket:[")
        os.close(leaked)
        assert await found(check) == []


async def test_a_listener_that_nobody_waits_on_is_seen() -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        listener = rig.server.services.listeners[1]
        listener.armed = False
        assert await found(check) == [f"service a: open, but listener {listener.text} is not"]
        listener.armed = True
        rig.service("a").acceptor.listeners.clear()
        assert await found(check) == [f"listener {listener.text}: belongs to 0 services"]
        rig.service("a").acceptor.listeners.append(listener)


async def test_what_differs_only_once_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)
        slots = [rig.service("a").limits.restore("192.0.2.1")]
        look = check._look

        async def then_mended() -> audit.Findings:
            seen = await look()
            if slots:
                rig.service("a").limits.release(slots.pop())
            return seen

        monkeypatch.setattr(check, "_look", then_mended)
        assert await found(check) == []


async def test_more_differences_than_are_reported_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(settings("a")) as rig:
        check = verifier(rig)

        async def many() -> audit.Findings:
            return audit.Findings([f"line {number}" for number in range(audit.MAX_DIFFERENCES + 7)])

        monkeypatch.setattr(check, "_look", many)
        lines = await found(check)
        assert (len(lines), lines[-1]) == (audit.MAX_DIFFERENCES + 1, "... and 7 more")


# The daemon


@pytest.mark.slow
def test_sessions_of_launchers_and_orphans_agree(tmp_path: Path) -> None:
    with running(tmp_path, {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}}) as daemon:
        socks = [daemon.connect("echo") for _ in range(3)]
        for sock in socks:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert daemon.differences() == []
        launcher = next(item["pid"] for item in daemon.processes("launcher") if item["running"])
        os.kill(launcher, signal.SIGKILL)
        daemon.wait_event("process_died", pid=launcher)
        with daemon.connect("echo") as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            assert daemon.differences() == []
        for sock in socks:
            sock.close()


@pytest.mark.slow
def test_the_command_says_what_was_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ucspid.cli.main import main  # noqa: PLC0415 - it is the command, not the daemon

    with running(tmp_path, {"services": {"echo": {"listen": "127.0.0.1:0", "program": ["cat"]}}}) as daemon:
        assert main(["status", "--verify", "-c", str(daemon.config_path)]) == 0
    assert capfd.readouterr().out == "counts match: 0 sessions, 1 launcher, 3 processes\n"
