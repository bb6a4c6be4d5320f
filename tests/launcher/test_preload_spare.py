"""The fork that a launcher of a preloaded program makes ahead: it is a session once it has a connection."""

import contextlib
import mmap
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import exchange
from launchers import SERVICE, TIMEOUT, Peers
from reachable import reachable
from spares import ended, kill, spare, until, waiting
from ucspid.ipc import messages as wire
from ucspid.launcher.preload.spare import LESSONS, WrittenPages
from ucspid.linux import pages

NOBODY = 65534
WAITS = "import sys\nprint('here', flush=True)\nsys.exit(len(sys.stdin.read()))\n"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")


@pytest.fixture
def peers() -> Iterator[Peers]:
    peers = Peers("python")
    yield peers
    peers.close()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with reachable() as folder:
        yield folder


def serving(peers: Peers, folder: Path, text: str, *, stderr: int = wire.STDERR_CLIENT) -> Peers:
    (folder / "program.py").write_text(text)
    peers.set_python(str(folder / "program.py"), stderr=stderr)
    peers.ready()
    return peers


def descriptors(pid: int) -> list[str]:
    """Return what a process has open; it may close some meanwhile."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found


SHOWS = (
    "import os, resource, signal, sys\n"
    "print(os.getpid() == os.getpgrp(), sorted(os.environ.items()), sorted(os.listdir('/proc/self/fd')))\n"
    "print(open('/proc/self/cmdline').read(), open('/proc/self/comm').read(), os.umask(0), os.getsid(0))\n"
    "print([resource.getrlimit(n) for n in range(16)], signal.pthread_sigmask(0, ()), os.getppid())\n"
    "print([line for line in open('/proc/self/maps') if 'memfd' in line], sys.stdin.read())\n"
)


def test_a_spare_becomes_the_session_that_a_fork_is(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, SHOWS)
    first = spare(peers)
    by_spare = exchange(peers.connect(1, "PROTO=TCP", "TCPREMOTEIP=192.0.2.1"), b"said")
    assert peers.wait(wire.STARTED).process == first
    second = spare(peers)
    kill(second)
    by_fork = exchange(peers.connect(2, "PROTO=TCP", "TCPREMOTEIP=192.0.2.1"), b"said")
    assert peers.wait(wire.STARTED, 2).process not in {first, second}
    assert by_spare == by_fork
    assert by_spare.endswith(b" said\n")
    assert [peers.wait(wire.EXITED, n).status for n in (1, 2)] == [0, 0]


def test_a_spare_is_no_session(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    pid = spare(peers)
    assert peers.list() == {}
    assert os.getpgid(pid) == os.getsid(pid) == peers.pid
    titles = [Path(f"/proc/{process}/cmdline").read_bytes() for process in (pid, peers.pid)]
    assert titles[0] == titles[1]
    kill(pid)
    assert exchange(peers.connect(1)) == b"here\n"
    peers.wait(wire.EXITED, 1)
    assert [report for report in peers.reports if report.connection != 1 and report.kind == wire.EXITED] == []


def test_each_spare_has_one_connection(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import random\nprint(globals().get('left'), random.random())\nleft = 1\n")
    said, processes = set(), set()
    for connection in range(1, 4):
        processes.add(spare(peers))
        said.add(exchange(peers.connect(connection)))
        assert peers.wait(wire.STARTED, connection).process in processes
        peers.wait(wire.EXITED, connection)
    assert len(said) == len(processes) == 3
    assert all(line.startswith(b"None ") for line in said)


def test_of_two_at_once_one_has_the_spare_and_both_are_served(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    pid = spare(peers)
    os.kill(peers.pid, signal.SIGSTOP)
    clients = [peers.connect(connection) for connection in (1, 2)]
    os.kill(peers.pid, signal.SIGCONT)
    started = [peers.wait(wire.STARTED, connection).process for connection in (1, 2)]
    assert started[0] == pid != started[1]
    assert [client.recv(5) for client in clients] == [b"here\n"] * 2
    assert [exchange(client, b"x" * n) for n, client in enumerate(clients)] == [b""] * 2
    assert [peers.wait(wire.EXITED, n).status >> 8 for n in (1, 2)] == [0, 1]


def test_a_spare_that_was_killed_costs_no_client_anything(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    for connection in range(1, 4):
        kill(spare(peers))
        client = peers.connect(connection)
        assert client.recv(5) == b"here\n"
        exchange(client)
        assert peers.wait(wire.EXITED, connection).status == 0


def test_a_spare_ends_with_its_launcher_and_is_nobodys_session(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    pid = spare(peers)
    peers.kill()
    ended(pid)
    peers.ready()
    assert peers.list() == {}
    assert exchange(peers.connect(1)) == b"here\n"


def test_a_launcher_that_drains_has_no_spare(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    pid = spare(peers)
    client = peers.connect(1)
    assert peers.wait(wire.STARTED).process == pid
    pid = spare(peers)
    peers.ask(wire.Drain())
    ended(pid)
    assert client.recv(5) == b"here\n"
    assert peers.list().keys() == {1}
    assert exchange(client) == b""
    assert peers.exit() == 0


def test_a_service_that_is_removed_has_no_spare(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    pid = spare(peers)
    peers.master.send(wire.RemovePrograms((SERVICE,)).pack())
    ended(pid)
    peers.connect(1)
    assert peers.wait(wire.FAILED).connection == 1
    assert waiting(peers) == set()


def test_variables_that_were_allowed_after_the_fork_are_set(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import os\nprint(os.environ['RELAYCLIENT'], os.getenv('PROTO'))\n")
    pid = spare(peers)
    peers.master.send(wire.AllowNames(SERVICE, (b"RELAYCLIENT",)).pack())
    assert exchange(peers.connect(1, "RELAYCLIENT=yes")) == b"yes None\n"
    assert peers.wait(wire.STARTED).process == pid


def test_a_variable_that_may_not_be_set_does_not_reach_the_spare(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    pid = spare(peers)
    assert peers.connect(1, "PYTHONPATH=/tmp").recv(1) == b""
    assert peers.wait(wire.FAILED).connection == 1
    assert exchange(peers.connect(2)) == b"here\n"
    assert peers.wait(wire.STARTED).process == pid


def test_the_further_sockets_of_tls_are_where_they_belong(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, "import os\nfor fd in (0, 3, 4): os.write(fd, b'%d' % fd)\n")
    pid = spare(peers)
    control, controls = socket.socketpair()
    plain, plains = socket.socketpair()
    with control, plain:
        with controls, plains:
            client = peers.connect(1, others=[controls, plains])
        assert peers.wait(wire.STARTED).process == pid
        for sock, wanted in ((client, b"0"), (control, b"3"), (plain, b"4")):
            sock.settimeout(TIMEOUT)
            assert exchange(sock) == wanted


def test_neither_launcher_nor_spare_keeps_a_descriptor_of_a_session(peers: Peers, tmp_path: Path) -> None:
    serving(peers, tmp_path, WAITS)
    seen = []
    for connection in range(1, LESSONS + 4):
        pid = spare(peers)
        comm = f"/proc/{pid}/comm"
        until(lambda pid=pid, comm=comm: comm in descriptors(pid))  # type: ignore[misc]
        peers.list(connection)  # it has done what belongs to the fork
        seen.append((len(descriptors(peers.pid)), len(descriptors(pid))))
        exchange(peers.connect(connection))
        assert peers.wait(wire.STARTED, connection).process == pid
        peers.wait(wire.EXITED, connection)
    assert len(set(seen)) == 1


@as_root
def test_a_spare_cannot_be_traced_where_its_launcher_cannot(peers: Peers, shared_folder: Path) -> None:
    (shared_folder / "program.py").write_text(WAITS)
    peers.set_python(str(shared_folder / "program.py"), interpreter="/usr/bin/python3")
    peers.ready(uid=NOBODY, gid=NOBODY, groups=())
    pid = spare(peers)
    assert [Path(f"/proc/{process}/mem").stat().st_uid for process in (pid, peers.pid)] == [0, 0]
    client = peers.connect(1)
    assert client.recv(5) == b"here\n"
    assert Path(f"/proc/{peers.wait(wire.STARTED).process}/mem").stat().st_uid == NOBODY


@as_root
def test_where_there_can_be_no_process_there_is_no_spare_and_it_comes_when_there_can(
    peers: Peers, shared_folder: Path
) -> None:
    user = 63_000 + os.getpid() % 1000
    (shared_folder / "program.py").write_text(WAITS)
    peers.set_python(str(shared_folder / "program.py"), interpreter="/usr/bin/python3")
    peers.ready(uid=user, gid=NOBODY, groups=(), rlimits=(("nproc", 2),))
    pid = spare(peers)
    one = peers.connect(1)
    assert peers.wait(wire.STARTED).process == pid
    peers.connect(2)
    assert peers.wait(wire.FAILED).connection == 2
    assert one.recv(5) == b"here\n"
    exchange(one)
    peers.wait(wire.EXITED, 1)
    three = peers.connect(3)
    assert three.recv(5) == b"here\n"


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (5, 14),
    reason="the kernel copies nothing in advance",
)
def test_a_spare_has_copied_what_sessions_write_to() -> None:
    size = 4096 * 200
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = bytes(size)
    written = WrittenPages()
    before = written_by_a_fork(memory, written)
    assert not written.learning
    assert before >= 200
    assert written_by_a_fork(memory, written) < 100


def written_by_a_fork(memory: mmap.mmap, written: WrittenPages) -> int:
    """Return how many pages a fork that writes to all of the memory copies then; and have it looked at."""
    said, says = os.pipe()
    goes_on, go_on = os.pipe()
    process = os.fork()
    if not process:
        try:
            written.copy_sessions()
            os.read(goes_on, 1)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for place in range(0, len(memory), 4096):
                memory[place] = 1
            os.write(says, b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
            os.close(go_on)
            os.read(goes_on, 1)
        finally:
            os._exit(0)
    written.begin()
    os.write(go_on, b"x")
    copied = int(os.read(said, 100))
    written.learn(process)
    for descriptor in (said, says, goes_on, go_on):
        os.close(descriptor)
    os.waitpid(process, 0)
    return copied


def test_neighbouring_pages_are_a_run() -> None:
    assert pages.runs({7, 3, 4, 5, 9}) == [range(3, 6), range(7, 8), range(9, 10)]
    assert pages.runs(()) == []


def test_pages_that_are_not_there_are_passed_over() -> None:
    pages.have_copied([range(1, 2), range(1 << 40, (1 << 40) + 3)])
