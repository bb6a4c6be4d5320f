"""Starts with three sockets, for programs that start TLS themselves: the client's, control and plain."""

import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from daemon import receive_all
from hung_disk import hung_disk
from launchers import KINDS, SERVICE, TAG, TIMEOUT, Peers, choose
from ucspid.errors import EXIT_SYSTEM
from ucspid.ipc import messages as wire

PRELOADED = "preloaded"

MISSING = 8
"""The number of a service whose program is not there, or is on a disk that hangs."""

ANSWERS = """
import json, os, sys
for number in map(int, sys.argv[1:]):
    os.write(number, b"%d" % number + os.read(number, 1))
numbers = [int(name) for name in os.listdir("/proc/self/fd") if os.path.islink("/proc/self/fd/" + name)]
found = [number for number in numbers if os.path.islink("/proc/self/fd/%d" % number)]
inherited = [number for number in found if os.get_blocking(number) and os.get_inheritable(number)]
os.write(2, b"error")
os.write(1, json.dumps({"open": sorted(found), "blocking, inherited": sorted(inherited)}).encode())
"""
"""Answers on the descriptors that are its arguments, after a byte has come there; says what it has open."""

ECHO = "import os\nos.write(1, os.read(4, 100))\n"

Serving = Callable[..., Peers]


class Ends(NamedTuple):
    """The test's ends of three sockets."""

    client: socket.socket
    control: socket.socket
    plain: socket.socket


def connect(peers: Peers, connection: int, *variables: str, service: int = SERVICE) -> Ends:
    """Send a START with three sockets, which are the launcher's then."""
    (control, for_control), (plain, for_plain) = socket.socketpair(), socket.socketpair()
    with for_control, for_plain:
        others = (for_control, for_plain)
        client = peers.connect(connection, *variables, service=service, others=others)
    for sock in (control, plain):
        sock.settimeout(TIMEOUT)
        peers.clients.append(sock)
    return Ends(client, control, plain)


def assert_ended(ends: Ends) -> None:
    """Assert that nobody holds the other ends, and nothing was written there; it is waited for."""
    assert [receive_all(sock) for sock in ends] == 3 * [b""]


def open_in(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture(params=KINDS)
def executing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    """A launcher that executes programs, before it has its orders."""
    peers = Peers(choose(request.param, monkeypatch))
    peers.set_program("/bin/cat")
    peers.set_program("/does/not/exist", service=MISSING)
    yield peers
    peers.close()


@pytest.fixture
def running(executing: Peers) -> Peers:
    executing.ready()
    executing.wait(wire.HELLO)
    return executing


@pytest.fixture(params=[*KINDS, PRELOADED])
def serving(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Serving]:
    """Returns a launcher that starts a program of this text, in Python."""
    is_preloaded = request.param == PRELOADED
    peers = Peers("python" if is_preloaded else choose(request.param, monkeypatch))

    def serve(text: str, *arguments: str, stderr: int = wire.STDERR_CLIENT, **profile: Any) -> Peers:
        script = tmp_path / "program.py"
        script.write_text(text)
        if is_preloaded:
            peers.set_python(str(script), *arguments, stderr=stderr)
        else:
            peers.set_program(sys.executable, "-I", str(script), *arguments, stderr=stderr)
        peers.ready(**profile)
        peers.wait(wire.HELLO)
        return peers

    yield serve
    peers.close()


# What a program sees


def test_a_program_gets_three_sockets_each_in_its_place_and_nothing_else(serving: Serving) -> None:
    peers = serving(ANSWERS, "4", "3", "0")
    client, control, plain = connect(peers, 1)
    for sock, byte in ((client, b"c"), (control, b"k"), (plain, b"p")):
        sock.sendall(byte)
    assert receive_all(control) == b"3k"
    assert receive_all(plain) == b"4p"
    said = receive_all(client)
    assert said.startswith(b"0cerror")  # standard error is the client's socket
    assert json.loads(said.removeprefix(b"0cerror")) == {
        "open": [*range(5)],
        "blocking, inherited": [*range(5)],
    }
    assert peers.wait(wire.EXITED, 1).status == 0


def test_a_program_with_one_socket_has_no_descriptor_beyond_2_whatever_came_before(serving: Serving) -> None:
    peers = serving(ANSWERS)
    receive_all(connect(peers, 1).client)
    said = receive_all(peers.connect(2))
    assert json.loads(said.removeprefix(b"error")) == {"open": [0, 1, 2], "blocking, inherited": [0, 1, 2]}


def test_a_program_is_not_the_holder_of_what_another_one_has(serving: Serving) -> None:
    peers = serving(ECHO)
    first, second = connect(peers, 1), connect(peers, 2)
    for connection in (1, 2):
        peers.wait(wire.STARTED, connection)
    first.plain.sendall(b"x")
    assert receive_all(first.client) == b"x"
    assert [receive_all(sock) for sock in first[1:]] == [b"", b""]
    second.plain.sendall(b"y")
    assert receive_all(second.client) == b"y"


def test_sockets_whose_numbers_are_above_the_limit_of_programs_are_theirs_all_the_same(
    serving: Serving,
) -> None:
    limit = 64
    peers = serving(ANSWERS, "3", "4", nofile=limit)
    fill(peers, range(1000, 1000 + limit))
    assert open_in(peers.pid) > limit
    client, control, plain = connect(peers, 1)
    control.sendall(b"k")
    plain.sendall(b"p")
    assert (receive_all(control), receive_all(plain)) == (b"3k", b"4p")
    assert b'"open": [0, 1, 2, 3, 4]' in receive_all(client)


def fill(peers: Peers, services: range) -> None:
    """Have the launcher hold a descriptor for each of so many services."""
    with open(os.devnull, "wb") as null:
        for service in services:
            program = wire.SetProgram(service, wire.STDERR_GIVEN, "/bin/cat", (b"cat",), (), ())
            socket.send_fds(peers.master, [program.pack()], [null.fileno()])
    assert peers.list() == {}


def test_standard_error_may_be_what_the_master_has_given(running: Peers) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        argv = (b"sh", b"-c", b"echo plain >&4; echo control >&3; echo client; echo error >&2")
        program = wire.SetProgram(9, wire.STDERR_GIVEN, "/bin/sh", argv, (), ())
        socket.send_fds(running.master, [program.pack()], [writing])
        os.close(writing)
        ends = connect(running, 1, service=9)
        assert [receive_all(sock) for sock in ends] == [b"client\n", b"control\n", b"plain\n"]
        running.master.send(wire.RemovePrograms((9,)).pack())
        assert pipe.read() == b"error\n"


def test_a_start_that_a_dead_launcher_had_not_read_is_its_successors(running: Peers) -> None:
    running.set_program("/bin/sh", "-c", "cat <&4 >&3")
    os.kill(running.pid, signal.SIGSTOP)
    ends = connect(running, 1)
    running.kill()
    running.ready()
    ends.plain.sendall(b"said")
    ends.plain.shutdown(socket.SHUT_WR)
    assert receive_all(ends.control) == b"said"


# Starts that fail


@pytest.mark.parametrize("variable", ["PATH=/tmp", ""])
def test_a_start_that_is_refused_closes_all_sockets(serving: Serving, variable: str) -> None:
    peers = serving(ECHO)
    ends = connect(peers, 1, "PROTO=TCP", variable)
    assert peers.wait(wire.FAILED, 1).status == errno.EINVAL
    assert_ended(ends)
    ends = connect(peers, 2, service=99)
    assert peers.wait(wire.FAILED, 2).status == errno.EINVAL
    assert_ended(ends)


def test_a_program_that_cannot_be_executed_leaves_no_socket_open(running: Peers) -> None:
    ends = connect(running, 1, service=MISSING)
    assert running.wait(wire.FAILED, 1).status == errno.ENOENT
    assert_ended(ends)
    assert running.list() == {}


@pytest.mark.parametrize("count", [2, 4, 5, 30])
def test_as_many_descriptors_as_no_start_has_end_the_launcher_and_no_program(
    capfd: pytest.CaptureFixture[str], serving: Serving, count: int
) -> None:
    peers = serving(ECHO)
    before = connect(peers, 1)
    peers.wait(wire.STARTED, 1)
    reading, writing = os.pipe()
    socket.send_fds(peers.loop, [wire.Start.head(SERVICE, 2, TAG)], count * [writing])
    os.close(writing)
    assert peers.exit() == EXIT_SYSTEM
    assert len(capfd.readouterr().err.splitlines()) == 1
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
    before.plain.sendall(b"still here")
    assert receive_all(before.client) == b"still here"


@pytest.mark.parametrize("packet", [wire.ListSessions.head(1), wire.Drain().pack(), b"\xff"])
def test_three_descriptors_with_another_message_end_the_launcher(
    capfd: pytest.CaptureFixture[str], executing: Peers, packet: bytes
) -> None:
    executing.ready()
    socket.send_fds(executing.loop, [packet], 3 * [0])
    assert executing.exit() == EXIT_SYSTEM
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("executing", KINDS[1:], indirect=True)
@pytest.mark.parametrize("count", [2, 3])
def test_a_program_of_the_masters_with_more_than_one_descriptor_ends_a_native_launcher(
    capfd: pytest.CaptureFixture[str], executing: Peers, count: int
) -> None:
    executing.ready()
    program = wire.SetProgram(9, wire.STDERR_GIVEN, "/bin/cat", (b"cat",), (), ())
    socket.send_fds(executing.master, [program.pack()], count * [0])
    assert executing.exit() == EXIT_SYSTEM
    assert f"{count} descriptors with a program" in capfd.readouterr().err


# Starts that hang


@pytest.mark.parametrize("executing", KINDS[1:], indirect=True)
def test_a_start_that_hangs_holds_its_own_sockets_alone_until_it_is_killed(
    running: Peers, tmp_path: Path
) -> None:
    with hung_disk(tmp_path):
        running.set_program(str(tmp_path / "program"), service=MISSING)
        running.set_program("/bin/true")
        os.kill(running.pid, signal.SIGSTOP)  # so that all of them are there at once
        all_ends = [
            connect(running, number, service=MISSING if number % 2 else SERVICE) for number in range(1, 9)
        ]
        alone = running.connect(9)
        os.kill(running.pid, signal.SIGCONT)
        for ends in all_ends[1::2]:
            assert_ended(ends)
        assert receive_all(alone) == b""
        for ends in all_ends[::2]:
            for sock in ends:
                assert select.select([sock], [], [], 0) == ([], [], [])
        for number in range(1, 9, 2):
            process = running.wait(wire.STARTED, number).process
            running.loop.send(wire.Signal(signal.SIGKILL, process, number).pack())
        for ends in all_ends[::2]:
            assert_ended(ends)


@pytest.mark.parametrize("executing", KINDS[1:], indirect=True)
def test_a_start_that_hangs_holds_no_channel_of_its_launcher(running: Peers, tmp_path: Path) -> None:
    with hung_disk(tmp_path):
        running.set_program(str(tmp_path / "program"), service=MISSING)
        running.connect(1, service=MISSING)
        connect(running, 2, service=MISSING)
        for connection in (1, 2):
            running.wait(wire.STARTED, connection)
        os.kill(running.pid, signal.SIGKILL)
        running.exit()
        assert running.hear() == b""


# Hundreds


@pytest.mark.slow
def test_hundreds_of_starts_leave_no_descriptor_in_the_launcher(running: Peers) -> None:
    running.set_program("/bin/true")
    running.list()
    before = open_in(running.pid)
    for first in range(1, 601, 30):
        for connection in range(first, first + 30):
            service = (SERVICE, MISSING, 99)[connection % 3]
            for sock in connect(running, connection, service=service):
                sock.close()
        running.clients.clear()
        for connection in range(first, first + 30):
            running.wait(wire.FAILED if connection % 3 else wire.EXITED, connection)
    assert running.list() == {}
    assert open_in(running.pid) == before


def test_forks_leave_no_descriptor_in_the_launcher(serving: Serving) -> None:
    peers = serving("")
    peers.list()
    before = open_in(peers.pid)
    for connection in range(1, 101):
        ends = connect(peers, connection, *(["PATH=x"] if connection % 2 else []))
        peers.wait(wire.FAILED if connection % 2 else wire.EXITED, connection)
        assert_ended(ends)
    assert peers.list() == {}
    assert open_in(peers.pid) == before
