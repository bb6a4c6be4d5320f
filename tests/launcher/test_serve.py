"""A launcher process, run for real over socket pairs, with the test as its master and its loop."""

import errno
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucspid
from daemon import exchange
from launchers import KINDS, SERVICE, TAG, Peers, Report, choose
from ucspid.errors import EXIT_SYSTEM
from ucspid.ipc import messages as wire
from ucspid.ipc.session_table import Table
from ucspid.master import roles
from ucspid.profile import Profile


@pytest.fixture(params=KINDS)
def peers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    peers = Peers(choose(request.param, monkeypatch))
    peers.set_program("/bin/cat")
    yield peers
    peers.close()


@pytest.fixture
def running(peers: Peers) -> Peers:
    peers.ready()
    hello = peers.wait(wire.HELLO)
    assert (hello.status, hello.process) == (wire.VERSION, peers.pid)
    return peers


# Starting and ending programs


def test_a_session_is_started_and_its_end_reported(running: Peers) -> None:
    client = running.connect(11)
    started = running.wait(wire.STARTED)
    assert (started.connection, started.service, started.tag) == (11, SERVICE, TAG)
    client.sendall(b"hello")
    assert exchange(client) == b"hello"
    exited = running.wait(wire.EXITED)
    assert (exited.connection, exited.process, exited.status) == (11, started.process, 0)
    assert exited.memory > 0
    assert exited.tag == TAG


def test_how_a_program_ended_is_reported_as_wait_says(running: Peers) -> None:
    running.set_program("/bin/sh", "-c", "exit 99", service=1)
    running.set_program("/bin/sh", "-c", "kill -9 $$", service=2)
    running.connect(1, service=1)
    running.connect(2, service=2)
    assert os.waitstatus_to_exitcode(running.wait(wire.EXITED, 1).status) == 99
    assert os.waitstatus_to_exitcode(running.wait(wire.EXITED, 2).status) == -signal.SIGKILL


def test_a_program_has_the_environment_of_its_service_and_its_connection(running: Peers) -> None:
    running.set_program("/usr/bin/env", env={"FIXED": "a=b", "PROTO": "service's"})
    client = running.connect(1, "PROTO=TCP", "TCPREMOTEIP=192.0.2.1")
    assert sorted(exchange(client).splitlines()) == [b"FIXED=a=b", b"PROTO=TCP", b"TCPREMOTEIP=192.0.2.1"]


def test_what_one_connection_sets_is_not_there_for_the_next(running: Peers) -> None:
    running.set_program("/usr/bin/env")
    assert exchange(running.connect(1, "TCPREMOTEIP=192.0.2.1")) == b"TCPREMOTEIP=192.0.2.1\n"
    assert exchange(running.connect(2)) == b""


@pytest.mark.parametrize("variable", ["LD_PRELOAD=/tmp/x", "PATH=/tmp", "", "TCPREMOTEIPX=1", "=x"])
def test_a_variable_that_connections_may_not_set_starts_nothing(running: Peers, variable: str) -> None:
    client = running.connect(1, "PROTO=TCP", variable)
    failed = running.wait(wire.FAILED)
    assert (failed.connection, failed.status, failed.tag) == (1, errno.EINVAL, TAG)
    assert client.recv(1) == b""
    assert running.list() == {}


@pytest.mark.parametrize(
    ("program", "reason"),
    [("/does/not/exist", errno.ENOENT), ("/etc/passwd", errno.EACCES), ("/", errno.EACCES)],
)
def test_a_program_that_cannot_run_fails_with_its_errno(running: Peers, program: str, reason: int) -> None:
    running.set_program(program)
    client = running.connect(1)
    assert running.wait(wire.FAILED).status == reason
    assert client.recv(1) == b""


def test_a_service_that_the_master_never_sent_starts_nothing(running: Peers) -> None:
    running.connect(1, service=99)
    assert running.wait(wire.FAILED).status == errno.EINVAL


def test_a_start_without_a_socket_starts_nothing(running: Peers) -> None:
    running.loop.send(wire.Start.head(SERVICE, 5, TAG))
    assert running.wait(wire.FAILED, 5).status == errno.EINVAL


def test_ends_that_the_loop_has_not_been_given_are_not_forgotten(running: Peers) -> None:
    running.set_program("/bin/echo", "here")
    running.loop_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: a few packets
    connections = range(1, 31)
    for connection in connections:
        with running.connect(connection) as client:
            assert exchange(client) == b"here\n"
    for connection in (31, 32):  # with the second one's output the launcher has reaped those before the first
        with running.connect(connection) as client:
            assert exchange(client) == b"here\n"
    running.kill()
    running.ready()
    for connection in connections:
        running.wait(wire.EXITED, connection)


def test_failed_starts_give_their_slots_back(running: Peers) -> None:
    for connection in range(1, 20):
        running.connect(connection, service=99)
        running.wait(wire.FAILED, connection)
    running.ask(wire.ListSessions(7))  # a slot is cleared after its report was sent
    running.wait(wire.LISTED, 7)
    assert list(Table(running.memory).taken()) == []


MAKES_CHILDREN_FOR_ITS_PARENT = """
import ctypes, os, signal
CLONE_PARENT, CLONE = 0x8000, {"x86_64": 56, "aarch64": 220}[os.uname().machine]
for _ in range(50):
    if ctypes.CDLL(None).syscall(CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(7)
"""


def test_children_that_a_program_makes_for_its_launcher_are_reaped_and_end_nothing(running: Peers) -> None:
    running.set_program(sys.executable, "-I", "-c", MAKES_CHILDREN_FOR_ITS_PARENT)
    assert exchange(running.connect(1)) == b""  # all of them have ended
    assert os.waitstatus_to_exitcode(running.wait(wire.EXITED, 1).status) == 0
    assert running.list() == {}
    assert Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text() == ""


def test_a_program_changed_is_for_new_connections_only(running: Peers) -> None:
    before = running.connect(1)
    running.wait(wire.STARTED, 1)
    running.set_program("/bin/echo", "new")
    assert exchange(running.connect(2)) == b"new\n"
    before.sendall(b"old")
    assert exchange(before) == b"old"


def test_variables_stay_allowed_when_a_program_changes_until_they_are_forbidden(running: Peers) -> None:
    running.master.send(wire.AllowNames(SERVICE, (b"OLD", b"OLDER")).pack())
    running.set_program("/usr/bin/env")
    assert exchange(running.connect(1, "OLD=1")) == b"OLD=1\n"
    running.master.send(wire.ForbidNames(SERVICE, (b"OLD", b"unknown")).pack())
    running.connect(2, "OLD=1")
    assert running.wait(wire.FAILED, 2).status == errno.EINVAL
    assert exchange(running.connect(3, "OLDER=1", "PROTO=TCP")) == b"OLDER=1\nPROTO=TCP\n"


def test_standard_error_may_be_the_clients_socket(running: Peers) -> None:
    program = wire.SetProgram(
        8, wire.STDERR_CLIENT, "/bin/sh", (b"argv0", b"-c", b'echo "$0"; echo error >&2'), (), ()
    )
    running.master.send(program.pack())
    assert exchange(running.connect(1, service=8)) == b"argv0\nerror\n"


def test_a_service_that_was_removed_starts_nothing_and_its_descriptor_is_closed(running: Peers) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    program = wire.SetProgram(8, wire.STDERR_GIVEN, "/bin/cat", (b"cat",), (), ())
    socket.send_fds(running.master, [program.pack()], [writing])
    os.close(writing)
    client = running.connect(1, service=8)
    running.wait(wire.STARTED, 1)
    running.master.send(wire.RemovePrograms((8,)).pack())
    running.connect(2, service=8)
    assert running.wait(wire.FAILED, 2).status == errno.EINVAL
    exchange(client)  # its program has the other copy
    running.wait(wire.EXITED, 1)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
    assert list(running.list()) == []


def test_all_that_the_master_has_sent_holds_for_a_start_that_came_after(running: Peers) -> None:
    os.kill(running.pid, signal.SIGSTOP)
    for number in range(20):
        running.set_program("/bin/echo", str(number))
    client = running.connect(1)
    os.kill(running.pid, signal.SIGCONT)
    assert exchange(client) == b"19\n"


def test_the_client_socket_is_the_programs_alone(running: Peers) -> None:
    """A second program must not keep the first one's connection open."""
    first = running.connect(1)
    running.connect(2)
    running.wait(wire.STARTED, 2)
    assert exchange(first) == b""


# Signals, lists, the end


def test_a_signal_goes_to_the_group_of_the_program(running: Peers) -> None:
    running.set_program("/bin/sh", "-c", "sleep 100 & echo started; wait")
    client = running.connect(1)
    started = running.wait(wire.STARTED)
    assert client.recv(100) == b"started\n"
    running.ask(wire.Signal(signal.SIGTERM, started.process, 1))
    assert os.waitstatus_to_exitcode(running.wait(wire.EXITED).status) == -signal.SIGTERM
    assert client.recv(100) == b""


LEAVES_ITS_GROUP = """
import os, signal, sys
begun, go = os.pipe()
other = os.fork()
if other == 0:
    os.setpgid(0, 0)
    os.read(begun, 1)
    os._exit(0)
if sys.argv[1] == "stays" and os.fork() == 0:
    signal.pause()
os.setpgid(other, other)
os.setpgid(0, other)
os.write(go, b"x")
os.write(1, b"left")
signal.pause()
"""


@pytest.mark.parametrize("child", ["stays", "none"])
def test_a_signal_reaches_a_program_that_has_left_its_group_and_a_child_that_stays_there(
    running: Peers, child: str
) -> None:
    running.set_program(sys.executable, "-I", "-S", "-c", LEAVES_ITS_GROUP, child)
    client = running.connect(1)
    process = running.wait(wire.STARTED).process
    assert client.recv(100) == b"left"
    running.ask(wire.Signal(signal.SIGTERM, process, 1))
    assert os.waitstatus_to_exitcode(running.wait(wire.EXITED).status) == -signal.SIGTERM
    assert client.recv(100) == b""


@pytest.mark.parametrize("connection", [0, 2])
def test_a_signal_that_names_another_connection_is_not_passed_on(running: Peers, connection: int) -> None:
    running.connect(1)
    process = running.wait(wire.STARTED).process
    running.ask(wire.Signal(signal.SIGKILL, process, connection))
    running.ask(wire.Signal(signal.SIGKILL, os.getpid(), 1))
    assert list(running.list()) == [1]


def test_the_list_is_of_all_that_runs_and_ends_with_its_token(running: Peers) -> None:
    assert running.list(token=1) == {}
    for connection in (1, 2, 3):
        running.connect(connection)
    exchange(running.connect(4))
    running.wait(wire.EXITED, 4)
    listed = running.list(token=2)
    assert sorted(listed) == [1, 2, 3]
    assert all(report.tag == TAG and report.service == SERVICE for report in listed.values())


def test_sent_drain_it_exits_at_once_when_nothing_runs(running: Peers) -> None:
    running.loop.send(wire.Drain().pack())
    assert running.exit() == 0


def test_sent_drain_it_exits_with_its_last_program(running: Peers) -> None:
    client = running.connect(1)
    running.loop.send(wire.Drain().pack())
    assert list(running.list()) == [1]
    client.sendall(b"still here")
    assert exchange(client) == b"still here"
    running.wait(wire.EXITED, 1)
    assert running.exit() == 0


def test_starts_on_their_way_when_it_drains_are_served(running: Peers) -> None:
    clients = [running.connect(connection) for connection in range(1, 9)]
    running.loop.send(wire.Drain().pack())
    assert [exchange(client) for client in clients] == 8 * [b""]
    assert running.exit() == 0


def test_without_a_loop_it_exits_with_its_last_program(running: Peers) -> None:
    client = running.connect(1)
    running.wait(wire.STARTED)
    running.loop.close()
    running.loop_end.close()
    client.sendall(b"still here")
    assert exchange(client) == b"still here"
    assert running.exit() == 0


def test_without_a_master_it_goes_on(running: Peers) -> None:
    running.master.close()
    assert exchange(running.connect(1)) == b""
    running.wait(wire.EXITED, 1)


def test_without_master_and_loop_it_exits(running: Peers) -> None:
    for sock in (running.master, running.loop, running.loop_end):
        sock.close()
    assert running.exit() == 0


def test_a_master_that_goes_before_its_orders_ends_it(peers: Peers) -> None:
    peers.launch()
    peers.master.close()
    assert peers.exit() == 0


# Privileges


def test_privileges_are_the_programs(peers: Peers, tmp_path: Path) -> None:
    peers.set_program("/bin/sh", "-c", "umask; pwd; ulimit -n")
    peers.ready(nofile=77, umask=0o27, cwd=str(tmp_path), rlimits=(("nofile", 77),))
    assert exchange(peers.connect(1)) == f"0027\n{tmp_path}\n77\n".encode()


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_the_launchers_own_use_of_cpu_time_does_not_count_against_a_programs_limit(peers: Peers) -> None:
    peers.set_program("/bin/sh", "-c", "read line; ulimit -S -t")
    peers.set_program("/does/not/exist", service=2)
    peers.ready(rlimits=(("cpu", 1),))
    variables = ["TCPREMOTEIP=192.0.2.1"] * (wire.MAX_PACKET // 25)
    connections = itertools.count(1)
    while cpu_seconds(peers.pid) < 1.1:
        connection = next(connections)
        peers.connect(connection, *variables, service=2).close()
        peers.wait(wire.FAILED, connection)
    for connection in itertools.islice(connections, 100):
        client = peers.connect(connection)
        peers.wait(wire.STARTED, connection)  # the launcher in Python may have to correct it until then
        assert exchange(client, b"now\n") == b"1\n"


def test_signals_have_their_default_whatever_the_launcher_was_started_with(peers: Peers) -> None:
    peers.set_program("/bin/grep", "^Sig[BI]", "/proc/self/status")
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        peers.ready()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert {int(line.split()[1], 16) for line in exchange(peers.connect(1)).splitlines()} == {0}


def test_privileges_that_cannot_be_taken_are_refused_with_the_reason(peers: Peers) -> None:
    peers.start(cwd="/does/not/exist")
    packet = peers.hear()
    assert wire.PrivilegesRefused.unpack(packet).reason == "/does/not/exist: No such file or directory"
    assert peers.exit() == EXIT_SYSTEM


def test_orders_of_another_version_are_refused(peers: Peers) -> None:
    peers.launch()
    peers.master.send(wire.TakePrivileges(wire.VERSION + 1, None, "title", Profile()).pack())
    assert "ucspid upgrade" in wire.PrivilegesRefused.unpack(peers.hear()).reason
    assert peers.exit() == EXIT_SYSTEM


# Taking over from a predecessor


def take_over(peers: Peers) -> dict[int, int]:
    """Kill the launcher, which has the sessions 1, 2 and 3; return their processes."""
    for connection in (1, 2, 3):
        peers.connect(connection)
    processes = {connection: peers.wait(wire.STARTED, connection).process for connection in (1, 2, 3)}
    peers.kill()
    return processes


def orphan_exit(peers: Peers, process: int, status: int = 0) -> None:
    peers.master.send(wire.OrphanExit(process, status, 5, 6, 7).pack())


def test_a_successor_lists_what_its_predecessor_ran(running: Peers) -> None:
    processes = take_over(running)
    running.ready(set(processes.values()))
    assert running.wait(wire.HELLO).process == running.pid
    assert {number: report.process for number, report in running.list().items()} == processes


def test_the_end_of_an_orphan_is_reported_as_the_master_saw_it(running: Peers) -> None:
    processes = take_over(running)
    running.ready(set(processes.values()))
    orphan_exit(running, processes[2], status=99 << 8)
    exited = running.wait(wire.EXITED)
    assert exited == Report(wire.EXITED, 99 << 8, processes[2], SERVICE, 2, 5, 6, 7, TAG)
    assert sorted(running.list()) == [1, 3]


def test_a_program_that_ended_meanwhile_is_reported_with_status_unknown(running: Peers) -> None:
    processes = take_over(running)
    running.ready({processes[1], processes[3]})
    exited = running.wait(wire.EXITED)
    assert (exited.connection, exited.status) == (2, wire.STATUS_UNKNOWN)


def test_orphans_are_signalled_by_the_master(running: Peers) -> None:
    processes = take_over(running)
    running.ready(set(processes.values()))
    running.ask(wire.Signal(signal.SIGTERM, processes[1], 1))
    assert running.master.recv(100) == wire.SignalOrphan(signal.SIGTERM, processes[1]).pack()


def test_orphans_may_be_as_many_as_sessions(running: Peers) -> None:
    running.connect(1)
    process = running.wait(wire.STARTED, 1).process
    running.kill()
    running.ready({process, *range(1 << 22, (1 << 22) + 65_000)})
    assert list(running.list()) == [1]


def test_an_orphan_in_no_slot_is_the_session_that_was_being_started(running: Peers) -> None:
    running.connect(1)
    process = running.wait(wire.STARTED).process
    running.kill()
    table = Table(running.memory)
    (slot,) = table.taken()
    table.started(slot, 0)
    running.ready({process})
    assert running.wait(wire.STARTED, 1).process == process
    assert list(running.list()) == [1]


def test_a_session_that_was_being_started_and_has_no_process_failed(running: Peers) -> None:
    Table(running.memory).claim(5, SERVICE, TAG)
    running.kill()
    running.ready()
    failed = running.wait(wire.FAILED)
    assert (failed.connection, failed.status, failed.service) == (5, errno.EOWNERDEAD, SERVICE)
    running.list()
    assert list(Table(running.memory).taken()) == []


def test_a_successor_of_a_successor_takes_all_over(running: Peers) -> None:
    processes = take_over(running)
    running.ready(set(processes.values()))
    running.connect(4)
    processes[4] = running.wait(wire.STARTED, 4).process
    running.kill()
    running.ready(set(processes.values()))
    assert {number: report.process for number, report in running.list().items()} == processes


def test_starts_that_a_dead_launcher_had_not_read_are_its_successors(running: Peers) -> None:
    os.kill(running.pid, signal.SIGSTOP)
    client = running.connect(1)
    running.kill()
    running.ready()
    assert exchange(client) == b""


def test_orphans_are_counted_out_when_the_master_goes(running: Peers) -> None:
    processes = take_over(running)
    running.ready(set(processes.values()))
    running.list()
    running.master.close()
    assert {running.wait(wire.EXITED).connection for _ in range(3)} == {1, 2, 3}


# Peers that talk nonsense


SHORT = [bytes([kind]) for kind in (wire.Start.KIND, wire.Signal.KIND, wire.ListSessions.KIND)]
LONG = wire.ListSessions.head(1) + b"more"


@pytest.mark.parametrize("packet", [b"\xff", bytes(1000), *SHORT, LONG], ids=lambda packet: packet[:4].hex())
def test_nonsense_from_the_loop_ends_the_launcher_and_no_program(
    capfd: pytest.CaptureFixture[str], peers: Peers, packet: bytes
) -> None:
    peers.ready()
    client = peers.connect(1)
    peers.wait(wire.STARTED, 1)
    peers.loop.send(packet)
    assert peers.exit() == EXIT_SYSTEM
    assert len(capfd.readouterr().err.splitlines()) == 1
    client.sendall(b"still here")
    assert exchange(client) == b"still here"


@pytest.mark.parametrize(
    "kind",
    [message.KIND for message in (wire.SetProgram, wire.AllowNames, wire.OrphanExit, wire.TakePrivileges)],
)
def test_what_only_the_master_may_say_the_loop_may_not(
    capfd: pytest.CaptureFixture[str], peers: Peers, kind: int
) -> None:
    """A loop that was subverted must not be able to choose a program."""
    peers.ready()
    packet = peers.programs[SERVICE][1:]
    peers.loop.send(bytes([kind]) + packet)
    assert peers.exit() == EXIT_SYSTEM
    assert f"kind {kind}" in capfd.readouterr().err


def test_what_only_the_loop_may_say_is_nonsense_from_the_master(
    capfd: pytest.CaptureFixture[str], peers: Peers
) -> None:
    peers.ready()
    peers.master.send(wire.Drain().pack())
    assert peers.exit() == EXIT_SYSTEM
    assert "kind 4" in capfd.readouterr().err


# What it costs


def test_a_launcher_imports_next_to_nothing() -> None:
    main = Path(roles.LAUNCHERS["python"][-1])
    code = (
        f"import sys; space = {{'__name__': 'launcher', '__file__': {str(main)!r}}}\n"
        f"exec(compile(open({str(main)!r}).read(), 'main', 'exec'), space)\n"
        "print(*sorted(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True)
    modules = output.stdout.decode().split()
    heavy = {"asyncio", "logging", "typing", "dataclasses", "subprocess", "pathlib", "json", "re"}
    assert heavy & set(modules) == set()
    assert "ucspid.launcher.serve" in modules
    assert str(Path(ucspid.__path__[0])) in str(main)
    assert len([module for module in modules if not module.startswith("_")]) < 65
