"""Connecting to the first target that answers, over real sockets."""

import contextlib
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ucspid.forward.connecting import NobodyAnswersError, connect
from ucspid.forward.targets import Destination, parse

TIMEOUT = 20.0
NO_NAME = f"{'x' * 64}.example:25"
"""Too long for the DNS, so that nobody is asked."""


def listen() -> tuple[socket.socket, Destination]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, Destination("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def refusing() -> Destination:
    """A port that nobody listens on."""
    listener, target = listen()
    listener.close()
    return target


@pytest.fixture
def silent() -> Iterator[Destination]:
    """A port that takes connections no further: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(listener.getsockname(), TIMEOUT))
        yield Destination("127.0.0.1", listener.getsockname()[1])


def test_the_next_target_is_tried_when_one_refuses(refusing: Destination) -> None:
    listener, target = listen()
    with listener:
        found = connect([refusing, target, refusing], TIMEOUT)
        with found.sock, listener.accept()[0] as accepted:
            assert str(found.candidate) == str(target)
            assert found.sock.getpeername() == accepted.getsockname()
            assert not found.sock.getblocking()
            assert found.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert found.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_name_has_all_of_its_addresses_tried() -> None:
    listener, target = listen()
    with listener, connect([parse(f"localhost:{target.port}")], TIMEOUT).sock as sock:
        assert sock.getpeername()[1] == target.port


def test_the_address_of_a_name_that_answered_is_said() -> None:
    listener, target = listen()
    with listener:
        found = connect([parse(f"localhost:{target.port}")], TIMEOUT)
        with found.sock:
            assert str(found.candidate) == f"localhost:{target.port} [127.0.0.1]"


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_socket_in_the_unix_domain(tmp_path: Path, kind: str) -> None:
    path = f"@{tmp_path}" if kind == "abstract" else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.replace("@", "\0"))
        listener.listen()
        found = connect([parse(f"unix:{path}")], TIMEOUT)
        with found.sock:
            assert str(found.candidate) == f"unix:{path}"
            assert not found.sock.getblocking()


def test_all_that_have_failed_are_named_with_the_reason(refusing: Destination) -> None:
    with pytest.raises(NobodyAnswersError) as problem:
        connect([refusing, parse("unix:/none"), parse(NO_NAME)], TIMEOUT)
    said = str(problem.value).split("; ")
    assert said[:2] == [f"{refusing}: Connection refused", "unix:/none: No such file or directory"]
    assert said[2].startswith(f"{NO_NAME}: ")


@pytest.mark.slow
def test_a_target_that_is_silent_is_overtaken_by_the_next_and_closed(silent: Destination) -> None:
    listener, target = listen()
    with listener:
        found = connect([silent, target], TIMEOUT)
        with found.sock:
            assert found.candidate.target == target


@pytest.mark.slow
def test_targets_that_are_silent_have_so_much_time_together(silent: Destination) -> None:
    with pytest.raises(NobodyAnswersError) as problem:
        connect([silent, silent], 0.4)
    assert str(problem.value) == "; ".join([f"{silent}: no answer within 0.4 s"] * 2)


@pytest.mark.slow
def test_a_listener_in_the_unix_domain_without_room_has_so_much_time(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        with pytest.raises(NobodyAnswersError, match=f"^unix:{path}: Connection timed out$"):
            connect([parse(f"unix:{path}")], 0.1)
        assert select.select([listener], [], [], TIMEOUT)[0]
