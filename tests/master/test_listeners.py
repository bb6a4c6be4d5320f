"""Listening sockets: bound as the plan says, refused with the service's name and address."""

import dataclasses
import os
import socket
import stat
from pathlib import Path

import pytest

from plans import service
from ucspid.errors import ResourceError
from ucspid.master.listeners import Listening, keys, open_control, open_listener
from ucspid.net.endpoint import Endpoint

V4 = Endpoint("127.0.0.1", 0)
V6 = Endpoint("::1", 0)
DUAL = Endpoint("", 0)


def port_of(listening: Listening) -> int:
    port: int = listening.sock.getsockname()[1]
    return port


def test_it_listens() -> None:
    listening = open_listener(service("a"), V4)
    with listening.sock as sock, socket.create_connection(sock.getsockname()):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_an_ipv6_listener_leaves_ipv4_to_others() -> None:
    problems = []
    for _ in range(5):  # a port that is free for IPv6 may just be some client's for IPv4
        with open_listener(service("a"), V6).sock as sock:
            port = sock.getsockname()[1]
            try:
                open_listener(service("b"), dataclasses.replace(V4, port=port)).sock.close()
            except ResourceError as problem:
                problems.append(str(problem))
            else:
                return
    pytest.fail(str(problems))


def test_a_bare_port_takes_both_families() -> None:
    listening = open_listener(service("a"), DUAL)
    with listening.sock:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port_of(listening))).close()


def test_accepted_sockets_have_the_options_of_the_service() -> None:
    with (
        open_listener(service("a", nodelay=True, keepalive=True), V4).sock as sock,
        socket.create_connection(sock.getsockname()),
    ):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_options_change_on_a_socket_that_listens() -> None:
    listening = open_listener(service("a", nodelay=True), V4)
    with listening.sock as sock:
        listening.set_up(service("a", nodelay=False, keepalive=True))
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1", "Address already in use"), ("192.0.2.1", "Cannot assign requested address")],
)
def test_what_cannot_be_bound_is_refused_with_service_and_address(host: str, words: str) -> None:
    with open_listener(service("a"), V4).sock as taken:
        address = Endpoint(host, taken.getsockname()[1])
        with pytest.raises(ResourceError, match=rf"^b: cannot listen on {address}: {words}$"):
            open_listener(service("b"), address)


def test_numbers_are_never_given_twice() -> None:
    one, two = open_listener(service("a"), V4), open_listener(service("a"), V4)
    one.sock.close()
    with two.sock, open_listener(service("a"), V4).sock:
        assert one.number < two.number


def test_a_listener_is_known_by_its_address_whoever_has_it() -> None:
    address = dataclasses.replace(V4, port=25)
    assert keys(service("a", listen=(address,))) == keys(service("b", listen=(address,)))


def test_listeners_on_ports_of_the_kernels_choice_are_told_apart() -> None:
    assert len({*keys(service("a", listen=(V4, V4))), *keys(service("b", listen=(V4,)))}) == 3


def test_the_control_socket_is_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    mask = os.umask(0)
    try:
        with open_control(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_a_control_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    open_control(path).close()
    with open_control(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_control_socket_where_a_daemon_answers_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with open_control(path) as first:
        with pytest.raises(ResourceError, match="a daemon answers"):
            open_control(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            first.accept()[0].close()


def test_a_file_in_the_place_of_the_control_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(ResourceError, match="not a socket"):
        open_control(str(path))
    assert path.read_text() == "precious"


def test_the_folder_of_the_control_socket_is_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "control"
    with open_control(str(path)):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0


def test_no_folder_is_made_for_the_folder_of_the_control_socket(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file or directory"):
        open_control(str(tmp_path / "missing" / "more" / "control"))
    assert list(tmp_path.iterdir()) == []
