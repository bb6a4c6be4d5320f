"""What only the native launcher promises: nothing waits for an exec, a session costs next to nothing."""

import errno
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import exchange
from hung_disk import hung_disk
from launchers import KINDS, SERVICE, Peers, built, choose, compiled
from ucspid.ipc import messages as wire
from ucspid.launcher.native import wire_header
from ucspid.launcher.native.build import FOLDER, CannotBuildError, build
from ucspid.master import roles

GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT}
"""What starts fail with when the disk that they hang on goes, or has just gone."""

HUNG = 8
"""The number of a service whose program is on a disk that hangs."""


@pytest.fixture(params=KINDS[1:])
def peers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    peers = Peers(choose(request.param, monkeypatch))
    peers.set_program("/bin/cat")
    peers.ready()
    peers.wait(wire.HELLO)
    yield peers
    peers.close()


def memory_of(pid: int, kind: str) -> int:
    """Return the bytes of memory of a process, of a kind of smaps_rollup in proc(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


# Starts that hang


def test_starts_that_hang_hold_up_nobody_and_fail_with_what_the_disk_says(
    peers: Peers, tmp_path: Path
) -> None:
    with hung_disk(tmp_path):
        peers.set_program(str(tmp_path / "program"), service=HUNG)
        hanging = range(1, 21)
        for connection in hanging:
            peers.connect(connection, service=HUNG)
        for connection in hanging:
            peers.wait(wire.STARTED, connection)
        for connection in range(101, 111):
            assert exchange(peers.connect(connection)) == b""
            peers.wait(wire.EXITED, connection)
        assert set(peers.list()) == {*hanging}
    for connection in hanging:
        assert peers.wait(wire.FAILED, connection).status in GONE
    assert peers.list(2) == {}


def test_a_start_that_hangs_holds_no_socket_of_another_client(peers: Peers, tmp_path: Path) -> None:
    peers.set_program("/bin/echo", "here")
    with hung_disk(tmp_path):
        peers.set_program(str(tmp_path / "program"), service=HUNG)
        os.kill(peers.pid, signal.SIGSTOP)  # so that all of them are there at once
        clients = [peers.connect(number, service=HUNG if number % 2 else SERVICE) for number in range(1, 13)]
        os.kill(peers.pid, signal.SIGCONT)
        for client in clients[1::2]:
            assert exchange(client) == b"here\n"


def test_a_start_that_hangs_holds_no_standard_error_of_others(peers: Peers, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    program = wire.SetProgram(9, wire.STDERR_GIVEN, "/bin/cat", (b"cat",), (), ())
    socket.send_fds(peers.master, [program.pack()], [writing])
    os.close(writing)
    with hung_disk(tmp_path), os.fdopen(reading, "rb") as pipe:
        peers.set_program(str(tmp_path / "program"), service=HUNG)
        peers.connect(1, service=HUNG)
        peers.wait(wire.STARTED, 1)
        peers.master.send(wire.RemovePrograms((9,)).pack())
        assert pipe.read() == b""


def test_a_start_that_hangs_can_be_killed(peers: Peers, tmp_path: Path) -> None:
    with hung_disk(tmp_path):
        peers.set_program(str(tmp_path / "program"), service=HUNG)
        client = peers.connect(1, service=HUNG)
        process = peers.wait(wire.STARTED, 1).process
        peers.loop.send(wire.Signal(signal.SIGKILL, process, 1).pack())
        assert os.waitstatus_to_exitcode(peers.wait(wire.EXITED, 1).status) == -signal.SIGKILL
        assert client.recv(1) == b""


def test_a_program_that_is_replaced_while_its_start_hangs_stays_until_that_is_over(
    peers: Peers, tmp_path: Path
) -> None:
    with hung_disk(tmp_path):
        peers.set_program(str(tmp_path / "program"), *("argument" * 100,) * 50, service=HUNG)
        peers.connect(1, service=HUNG)
        peers.wait(wire.STARTED, 1)
        peers.set_program("/bin/echo", "other", service=HUNG)
        assert exchange(peers.connect(2, service=HUNG)) == b"other\n"
        peers.master.send(wire.RemovePrograms((HUNG,)).pack())
        peers.connect(3, service=HUNG)
        assert peers.wait(wire.FAILED, 3).status == errno.EINVAL
    assert peers.wait(wire.FAILED, 1).status in GONE


def test_without_memory_a_start_fails_and_later_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = Peers(choose("native", monkeypatch))
    try:
        peers.set_program("/bin/cat")
        peers.ready()
        before = resource.prlimit(peers.pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{peers.pid}/statm").read_text().split()[0])
        resource.prlimit(peers.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), before[1]))
        much = "TCPREMOTEINFO=" + "x" * 120_000
        reports = []
        for connection in range(1, 6):
            client = peers.connect(connection, much)
            reports.append(peers.next_report(connection))
            client.close()
        assert {report.status for report in reports if report.kind == wire.FAILED} == {errno.ENOMEM}
        resource.prlimit(peers.pid, resource.RLIMIT_AS, before)
        assert exchange(peers.connect(6, much)) == b""
        peers.wait(wire.EXITED, 6)
    finally:
        peers.close()


# Reports


def test_a_start_and_a_failure_that_follow_each_other_are_one_report(peers: Peers) -> None:
    peers.set_program("/does/not/exist", service=2)
    packets = []
    for connection in range(1, 31):
        peers.connect(connection, service=2)
        reports: list[int] = []
        while wire.FAILED not in reports:
            reports += [report[0] for report in wire.Report.rows(peers.loop.recv(wire.MAX_PACKET))]
        packets.append(reports)
    assert [wire.FAILED] in packets  # if the machine is not too busy, all of them


def test_the_start_and_the_end_of_a_short_program_come_in_one_packet(peers: Peers) -> None:
    peers.set_program("/bin/true", service=2)
    packets = []
    for connection in range(1, 101):
        peers.connect(connection, service=2)
        kinds: list[int] = []
        while wire.EXITED not in kinds:
            kinds = [report[0] for report in wire.Report.rows(peers.loop.recv(wire.MAX_PACKET))]
            packets.append(kinds)
    assert [wire.STARTED, wire.EXITED] in packets


def test_a_loop_that_asks_and_does_not_read_the_answers_is_not_heard_any_more(peers: Peers) -> None:
    for connection in range(1, 11):
        peers.connect(connection)
        peers.wait(wire.STARTED, connection)
    peers.loop_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    before = memory_of(peers.pid, "Anonymous")  # its part of libraries grows when others end
    asked = 0
    poll = select.poll()
    poll.register(peers.loop, select.POLLOUT)
    while poll.poll(500):
        asked += 1
        peers.loop.send(wire.ListSessions(asked).pack())
    assert memory_of(peers.pid, "Anonymous") < before + 2_000_000
    answered: list[int] = []
    while len(answered) < asked:
        reports = wire.Report.rows(peers.loop.recv(wire.MAX_PACKET))
        answered += [report[4] for report in reports if report[0] == wire.LISTED]
    assert answered == list(range(1, asked + 1))


# What it costs


@pytest.mark.slow
@pytest.mark.alone
def test_a_session_costs_less_than_200_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    choose("native", monkeypatch)
    peers = Peers("native")
    try:
        peers.set_program("/bin/sleep", "1000")
        peers.ready()
        first, more = 250, 500
        memory = []
        for connection in range(1, first + more + 1):
            peers.connect(connection).close()
            peers.clients.clear()
            peers.wait(wire.STARTED, connection)
            if connection in (first, first + more):
                memory.append(memory_of(peers.pid, "Pss"))
        assert (memory[1] - memory[0]) / more < 200
        for report in peers.list(1).values():
            os.kill(report.process, signal.SIGKILL)
    finally:
        peers.close()


AT_ONCE = 50
"""Sessions that are started before the first of them is waited for."""

LIVE = 2000
"""Sessions that go on while others end."""

LOOKS_PER_SECOND = 2 * 10**9 // 5000
"""How often a launcher may look at a child because time has passed: at all of them, and at the latest."""


def start_that_stay(peers: Peers, connections: range) -> None:
    """Start sessions that go on; their programs are executed while the launcher starts others."""
    for first in connections[::AT_ONCE]:
        batch = range(first, min(first + AT_ONCE, connections.stop))
        for connection in batch:
            peers.connect(connection).close()
        peers.clients.clear()
        for connection in batch:
            peers.wait(wire.STARTED, connection)


def end_soon(peers: Peers, connections: range, at_once: int) -> None:
    """Have sessions start that end by themselves, some at a time: then signals are lost in one another's."""
    for first in connections[::at_once]:
        batch = range(first, first + at_once)
        for connection in batch:
            peers.connect(connection, service=2).close()
        for connection in batch:
            peers.wait(wire.EXITED, connection)


@pytest.mark.slow
def test_the_end_of_a_session_costs_no_look_at_all_that_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choose("native", monkeypatch)
    count = tmp_path / "looks"
    count.write_bytes(bytes(8))
    counting = ["/usr/bin/env", f"LD_PRELOAD={compiled('looks.c')}", f"LOOKS={count}"]
    monkeypatch.setitem(roles.LAUNCHERS, "native", [*counting, *roles.LAUNCHERS["native"]])
    peers = Peers("native")

    def looks() -> int:
        return int.from_bytes(count.read_bytes(), sys.byteorder)

    try:
        peers.set_program("/bin/sleep", "1000")
        peers.set_program("/bin/true", service=2)
        peers.ready()
        start_that_stay(peers, range(1, LIVE + 1))
        for ends, at_once in (range(LIVE + 1, LIVE + 201), 1), (range(LIVE + 201, LIVE + 401), 20):
            began, before = time.monotonic(), looks()
            end_soon(peers, ends, at_once)
            made, passed = looks() - before, time.monotonic() - began
            assert len(ends) <= made <= 2 * len(ends) + 2 * LIVE + LOOKS_PER_SECOND * passed
    finally:
        for report in peers.list(1).values():
            os.kill(report.process, signal.SIGKILL)
        peers.close()


def test_it_does_not_wake_up_for_sessions_that_go_on(peers: Peers) -> None:
    client = peers.connect(1)
    peers.wait(wire.STARTED, 1)
    client.sendall(b"x")
    assert client.recv(1) == b"x"  # it is executed: what the start needed is freed at the next look
    assert exchange(peers.connect(2)) == b""
    peers.wait(wire.EXITED, 2)
    peers.list(1)
    switches = voluntary_switches(peers.pid)
    poll = select.poll()
    poll.register(client, select.POLLIN)
    assert poll.poll(200) == []
    assert voluntary_switches(peers.pid) - switches <= 8


def voluntary_switches(pid: int) -> int:
    found = re.search(
        r"^voluntary_ctxt_switches:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


# The build


def test_the_header_for_c_says_what_the_messages_are() -> None:
    assert (Path(FOLDER) / "wire.h").read_text() == wire_header.text()


def test_it_says_which_protocol_it_speaks() -> None:
    said = subprocess.run([built("strict"), "--protocol"], capture_output=True, check=True)
    assert said.stdout == b"%d\n" % wire.VERSION


def test_it_is_hardened() -> None:
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    show = ["readelf", "--wide", "--file-header", "--program-headers", "--dynamic", "--dyn-syms"]
    said = subprocess.run([*show, built("strict")], capture_output=True, check=True, text=True).stdout
    assert re.search(r"Type:\s+DYN \(Position-Independent Executable", said)
    assert re.search(r"FLAGS_1.*\bNOW\b.*\bPIE\b", said)
    assert "GNU_RELRO" in said
    assert re.search(r"GNU_STACK .* RW ", said)
    assert "__stack_chk_fail" in said
    assert re.search(r"__\w+_chk@", said)  # _FORTIFY_SOURCE
    assert re.findall(r"NEEDED.*\[(.*)\]", said) == ["libc.so.6"]


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-gcc", "clang"])
def test_other_compilers_have_no_complaint(
    compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    monkeypatch.setenv("CC", compiler)
    build(str(tmp_path / "launcher"), "strict")


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("/does/not/exist", "no C compiler"), ("false", "false failed"), ("", "no C compiler")],
)
def test_without_a_compiler_the_build_says_so(
    compiler: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(CannotBuildError, match=reason):
        build(str(tmp_path / "launcher"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_valgrind_finds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is not installed")
    found = tmp_path / "found"
    checks = ["--leak-check=full", "--error-exitcode=99", "--child-silent-after-fork=yes"]
    command = [valgrind, "--quiet", f"--log-file={found}.%p", *checks, built("forking"), " " * 100]
    monkeypatch.setitem(roles.LAUNCHERS, "native", command)
    peers = Peers("native")
    try:
        live_a_little(peers)
        assert peers.exit() == 0
    finally:
        peers.close()
    assert [path.read_text() for path in tmp_path.iterdir() if path.read_text()] == []


@pytest.mark.slow
def test_it_works_on_aarch64(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64")
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if emulator is None or compiler is None:
        pytest.skip("qemu-user or gcc-aarch64-linux-gnu is not installed")
    monkeypatch.setenv("CC", compiler)
    build(str(tmp_path / "launcher"), "forking")  # the emulator has no clone(2) as others need it
    emulated = [emulator, "-L", "/usr/aarch64-linux-gnu", str(tmp_path / "launcher")]
    monkeypatch.setitem(roles.LAUNCHERS, "native", [*emulated, " " * 100])
    peers = Peers("native")
    try:
        live_a_little(peers)
        assert peers.exit() == 0
    finally:
        peers.close()


def live_a_little(peers: Peers) -> None:
    """Have a launcher do a bit of everything, and exit."""
    peers.set_program("/bin/cat", env={"PROTO": "TCP", "A": "b"})
    peers.ready({1 << 22}, 100, cwd="/", rlimits=(("cpu", None),), umask=0o22)
    peers.wait(wire.HELLO)
    for connection in range(1, 6):
        peers.set_program("/bin/cat", "-", service=connection, env={"NUMBER": str(connection)})
        peers.master.send(wire.AllowNames(connection, (b"MORE", b"NUMBER")).pack())
        assert exchange(peers.connect(connection, "MORE=1", "NUMBER=2", service=connection)) == b""
        peers.wait(wire.EXITED, connection)
    control, plain = socket.socketpair()
    peers.set_program("/bin/sh", "-c", "echo to TLS >&4; cat <&3", service=6)
    client = peers.connect(8, service=6, others=(control, control))
    control.close()
    assert exchange(plain) == b"to TLS\n"
    assert exchange(client) == b""
    peers.wait(wire.EXITED, 8)
    peers.connect(9, service=99, others=(plain, plain))
    assert peers.wait(wire.FAILED, 9).status == errno.EINVAL
    plain.close()
    peers.master.send(wire.ForbidNames(1, (b"MORE",)).pack())
    peers.connect(6, "MORE=1", service=1)
    assert peers.wait(wire.FAILED, 6).status == errno.EINVAL
    peers.master.send(wire.RemovePrograms((1, 3)).pack())
    client = peers.connect(7)
    process = peers.wait(wire.STARTED, 7).process
    assert list(peers.list()) == [7]
    peers.loop.send(wire.Signal(signal.SIGTERM, process, 7).pack())
    assert os.waitstatus_to_exitcode(peers.wait(wire.EXITED, 7).status) == -signal.SIGTERM
    assert client.recv(1) == b""
    peers.loop.send(wire.Drain().pack())
