"""Listeners that a service manager keeps or passes: taken by whoever follows, and nobody is refused."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import load
from daemon import Daemon, exchange, running, wait_gone
from manager import Manager
from processes import descendants
from ucspid.master.fdstore import Passed, name
from ucspid.master.listeners import listens_on
from ucspid.net.endpoint import Endpoint

ANY = {"listen": "127.0.0.1:0", "program": ["cat"]}


def inet(host: str = "127.0.0.1", port: int = 0) -> Endpoint:
    return Endpoint(host, port)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as manager:
        yield manager


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((inet(port=25), "", 0), "127.0.0.1_25"),
        ((Endpoint("::1", 25), "", 0), "[__1]_25"),
        ((Endpoint("", 25), "", 0), "*_25"),
        ((inet(), "smtp", 2), "127.0.0.1_0 smtp 2"),
    ],
)
def test_names_have_no_colon(key: tuple[Endpoint, str, int], expected: str) -> None:
    assert name(key) == expected


def test_a_socket_is_known_by_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert listens_on(sock, inet(port=port))
        assert listens_on(sock, inet())
        assert not listens_on(sock, inet(port=port ^ 1))
        assert not listens_on(sock, inet("127.0.0.2", port))
        assert not listens_on(sock, Endpoint("", port))
        assert not listens_on(sock, Endpoint("::1", port))


@pytest.mark.parametrize("v6only", [False, True])
def test_a_socket_for_both_families_is_another_than_one_for_ipv6(v6only: bool) -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        try:
            sock.bind(("::", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        sock.listen()
        port = sock.getsockname()[1]
        assert listens_on(sock, Endpoint("", port)) == (not v6only)
        assert listens_on(sock, Endpoint("0::0", port)) == v6only
        assert not listens_on(sock, inet("0.0.0.0", port))


def test_what_does_not_listen_is_no_listener() -> None:
    with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        sock.bind(("127.0.0.1", 0))
        datagrams.bind(("127.0.0.1", 0))
        assert not listens_on(sock, inet())
        assert not listens_on(datagrams, inet())
    one, two = socket.socketpair()
    with one, two:
        assert not listens_on(one, inet())


@pytest.mark.parametrize(
    "variables", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "3"}, {"LISTEN_PID": "own", "LISTEN_FDS": "-1"}]
)
def test_what_was_passed_to_another_process_is_not_ours(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, str(os.getpid()) if value == "own" else value)
    assert Passed.from_environment().take((inet(), "a", 0)) == []
    assert not any(variable in os.environ for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))


def test_with_port_0_the_name_of_the_service_decides_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        passed = Passed([("a", sock)])
        assert passed.take((inet(), "b", 0)) == []
        assert passed.take((inet(), "a", 1)) == [sock]


def test_with_port_0_the_name_decides() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        passed = Passed([("127.0.0.1_0 a 0", sock)])
        assert passed.take((inet(), "b", 0)) == []
        assert passed.take((inet(), "a", 0)) == [sock]
        assert passed.take((inet(), "a", 0)) == []


@pytest.mark.slow
def test_listeners_are_stored_and_removed_as_they_come_and_go(tmp_path: Path, manager: Manager) -> None:
    config = {"services": {"a": ANY, "b": {**ANY, "listen": ["127.0.0.1:0", "127.0.0.2:0"]}}}
    with running(tmp_path, config, **manager.start()) as daemon:
        manager.wait("127.0.0.1_0 a 0", "127.0.0.1_0 b 0", "127.0.0.2_0 b 1")
        daemon.reload({"services": {"b": ANY}})
        manager.wait("127.0.0.1_0 b 0")
    manager.wait("127.0.0.1_0 b 0")  # for the next one; a manager that starts none closes what it has
    assert [lines[0] for lines in manager.lines if lines[0] == "READY=1"] == ["READY=1"] * 2


@pytest.mark.slow
def test_nobody_is_refused_while_a_killed_master_is_followed_by_another(
    tmp_path: Path, manager: Manager
) -> None:
    killed = Daemon(tmp_path, {"services": {"echo": ANY}}).start(**manager.start())
    left: list[int] = []
    try:
        manager.wait("127.0.0.1_0 echo 0")
        address = killed.address("echo")
        with killed.connect("echo") as session, load(address) as clients:
            session.sendall(b"before")
            assert session.recv(6) == b"before"
            left = descendants(killed.pid)
            killed.signal(signal.SIGKILL)
            killed.wait()
            with running(tmp_path, {"services": {"echo": ANY}}, **manager.start()) as daemon:
                assert daemon.address("echo") == address
                assert daemon.talk("echo", b"new") == b"new"
                session.sendall(b"after")
                assert exchange(session) == b"after"
                for process in left:
                    wait_gone(process)
                clients.stop()
        assert clients.failed == []
        assert len(clients.seconds) > 3
    finally:
        killed.kill()


@pytest.mark.slow
def test_the_socket_of_a_socket_unit_is_taken(tmp_path: Path, manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours, socket.create_server(("127.0.0.1", 0)) as other:
        port = ours.getsockname()[1]
        config = {"services": {"echo": {**ANY, "listen": f"127.0.0.1:{port}"}}}
        early = socket.create_connection(("127.0.0.1", port))
        passed = [("any.socket", other.fileno()), ("any.socket", ours.fileno())]
        with early, running(tmp_path, config, **manager.start(passed)) as daemon:
            assert exchange(early, b"early") == b"early"
            manager.wait(f"127.0.0.1_{port}")
            held = [link.readlink() for link in Path(f"/proc/{daemon.pid}/fd").iterdir()]
            assert Path(f"/proc/self/fd/{ours.fileno()}").readlink() in held
            assert Path(f"/proc/self/fd/{other.fileno()}").readlink() not in held
