"""How tcpserver ends, and what is left of it: the same of Debian's and of ours."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from daemon import exchange, receive_all, wait_gone
from processes import descendants
from tcpservers import BOTH, LOOPBACK, QUICK, TIMEOUT, Which, serving

both = pytest.mark.parametrize("which", BOTH, ids=lambda which: which.name)

DEADLY = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGKILL,
]


def echoed(client: socket.socket, data: bytes = b"still there?") -> bool:
    client.sendall(data)
    return client.recv(len(data), socket.MSG_WAITALL) == data


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, *DEADLY])
def test_programs_go_on_when_it_ends(which: Which, number: signal.Signals) -> None:
    with serving(which, "-v", *QUICK) as server, server.connect() as client:
        assert echoed(client)
        left = descendants(server.pid)
        assert server.signal(number) == (0 if number == signal.SIGTERM else -number)
        assert echoed(client)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b""
        for pid in left:
            wait_gone(pid)


@both
def test_its_end_is_not_said_nor_what_follows(which: Which) -> None:
    with serving(which, "-v", *QUICK) as server, server.connect() as client:
        assert echoed(client)
        said = server.wait_lines(4)
        left = descendants(server.pid)
        assert server.signal(signal.SIGTERM) == 0
        client.shutdown(socket.SHUT_WR)
        receive_all(client)
        for pid in left:
            wait_gone(pid)
        server.wait_closed()
        assert server.lines == said


@both
@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGCHLD])
def test_some_signals_do_nothing(which: Which, number: signal.Signals) -> None:
    with serving(which, *QUICK) as server:
        server.process.send_signal(number)
        assert server.talk(b"x") == b"x"
        assert server.process.poll() is None


@both
def test_the_port_is_free_at_once(which: Which) -> None:
    with serving(which, *QUICK) as server, server.connect() as client:
        assert echoed(client)
        assert server.signal(signal.SIGTERM) == 0
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        with serving(which, *QUICK, port=str(server.port)) as next_one:
            assert next_one.talk(b"x") == b"x"
        assert echoed(client)


@both
def test_clients_that_wait_are_disconnected(which: Which) -> None:
    with serving(which, "-c1", *QUICK) as server, server.connect() as first:
        assert echoed(first)
        with server.connect() as second:
            assert server.signal(signal.SIGTERM) == 0
            with contextlib.suppress(ConnectionResetError):
                assert second.recv(1) == b""
        assert echoed(first)


@both
def test_no_file_is_left(which: Which, tmp_path: Path) -> None:
    sockets = Path("/proc/net/unix")
    before = {line.split()[-1] for line in sockets.read_text().splitlines() if "ucspid" in line}
    with serving(which, *QUICK, cwd=tmp_path) as server:
        assert server.talk(b"x") == b"x"
        assert os.listdir(tmp_path) == []
        now = {line.split()[-1] for line in sockets.read_text().splitlines() if "ucspid" in line}
        assert {name for name in now - before if name.startswith("@")} == set()
        server.end()
    assert os.listdir(tmp_path) == []


@both
def test_standard_input_and_output_are_not_kept(which: Which) -> None:
    """serving() reads standard output to its end: nobody has it any more, though tcpserver runs."""
    with serving(which, *QUICK) as server:
        for pid in [server.pid, *descendants(server.pid)]:
            for descriptor in (0, 1):
                with contextlib.suppress(FileNotFoundError):
                    assert os.readlink(f"/proc/{pid}/fd/{descriptor}") == "/dev/null"


@both
def test_without_a_reader_of_its_lines_it_goes_on(which: Which) -> None:
    reading, writing = os.pipe()
    with serving(which, "-v", *QUICK, stderr=writing) as server:
        os.close(writing)
        os.close(reading)
        for _ in range(3):
            assert server.talk(b"x") == b"x"


def test_another_tcpserver_follows_a_killed_one() -> None:
    """As supervise restarts it: the port may be taken for the moment that the event loop takes to notice."""
    which = BOTH[1]
    with serving(which, *QUICK) as server, server.connect() as client:
        assert echoed(client)
        left = descendants(server.pid)
        assert server.signal(signal.SIGKILL) == -signal.SIGKILL
        wait_until_free(server.port)
        with serving(which, *QUICK, port=str(server.port)) as next_one:
            assert next_one.talk(b"x") == b"x"
        assert echoed(client)
        client.shutdown(socket.SHUT_WR)
        receive_all(client)
        for pid in left:
            wait_gone(pid)


def wait_until_free(port: int) -> None:
    """Wait until nobody listens: a connection that is refused, or one that is closed unheard."""
    while True:
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection((LOOPBACK, port), TIMEOUT) as sock,
        ):
            exchange(sock)  # a program that runs nevertheless is to end
            continue
        return


def test_its_event_loop_may_die() -> None:
    """What the original does not have: sessions go on, and others are served."""
    with serving(BOTH[1], "-v", *QUICK) as server, server.connect() as client:
        assert echoed(client)
        (loop,) = [pid for pid in descendants(server.pid) if b"ucspid: loop" in cmdline(pid)]
        os.kill(loop, signal.SIGKILL)
        assert server.talk(b"x") == b"x"
        assert echoed(client)
        said = server.wait_for(lambda lines: any(b" 1/40" in line for line in lines[5:]))
        assert b" process_died " in next(line for line in said if b"warning" in line)


def test_an_event_loop_that_hangs_holds_nothing_up() -> None:
    with serving(BOTH[1], *QUICK) as server, server.connect() as client:
        assert echoed(client)
        (loop,) = [pid for pid in descendants(server.pid) if b"ucspid: loop" in cmdline(pid)]
        os.kill(loop, signal.SIGSTOP)
        assert server.signal(signal.SIGTERM) == 0
        wait_gone(loop)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        assert echoed(client)


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
