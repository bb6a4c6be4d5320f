import asyncio
import contextlib
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from controlled import DEADLINE, Daemon, LoopFactory, listening, read_line, serving
from leaks import memory_traced
from ucspid.cli.client import call
from ucspid.control import server
from ucspid.control.access import Rights
from ucspid.errors import ConfigError, PeerError, ResourceError, UcspidError, WireError
from ucspid.ipc.control_protocol import (
    MAX_REPLY,
    MAX_REQUEST,
    Failure,
    Request,
    Result,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=3)
ECHO = encode_request(Request("echo", {"a": 1}))


async def echo(args: dict[str, Any]) -> dict[str, Any]:
    return {"args": args}


async def crash(_args: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("a bug")


async def huge(_args: dict[str, Any]) -> dict[str, Any]:
    return {"text": "x" * (8 << 20)}


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


@pytest.fixture
def daemon(tmp_path: Path, loop_factory: LoopFactory) -> Iterator[Daemon]:
    verbs = {"echo": echo, "crash": crash, "huge": huge}
    with serving(tmp_path / "control", verbs, loop_factory=loop_factory) as daemon:
        yield daemon


# The codec


@given(st.text(max_size=20), objects)
def test_request_survives_the_wire(verb: str, args: dict[str, Any]) -> None:
    request = Request(verb, args)
    try:
        line = encode_request(request)
    except PeerError:
        assert len(json.dumps(args)) > MAX_REQUEST / 2
    else:
        assert line.index(b"\n") == len(line) - 1
        assert decode_request(line) == request


@given(objects | st.text())
def test_reply_survives_the_wire(content: dict[str, Any] | str) -> None:
    reply = Failure("system", content) if isinstance(content, str) else Result(content)
    line = encode_reply(reply)
    assert line.index(b"\n") == len(line) - 1
    assert decode_reply(line) == reply


@given(
    st.binary()
    | st.binary().map(lambda data: data + b"\n")
    | objects.map(lambda members: json.dumps({"v": 1, **members}).encode() + b"\n")
)
def test_whatever_is_not_a_request_is_refused(line: bytes) -> None:
    with pytest.raises(PeerError):
        decode_request(line)
    with pytest.raises(PeerError):
        decode_reply(line)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "newline"),
        (b'{"v":1,"verb":"status","args":{}}', "newline"),
        (b'{"v":1,"verb":"' + b"x" * MAX_REQUEST + b'","args":{}}\n', "at most 4096 bytes"),
        (b'{"v":1,"verb":"status","args":{}} {}\n', "one line of JSON"),
        (b'{"v":1,"verb":"\xff","args":{}}\n', "UTF-8"),
        (b'{"v":1,"verb":"status","args":{"a":NaN}}\n', "NaN"),
        (b'[1,"status",{}]\n', "JSON object"),
        (b'{"verb":"status","args":{}}\n', "version 1"),
        (b'{"v":2,"verb":"status","args":{}}\n', "version 1"),
        (b'{"v":true,"verb":"status","args":{}}\n', "version 1"),
        (b'{"v":1,"args":{}}\n', "members"),
        (b'{"v":1,"verb":"status"}\n', "members"),
        (b'{"v":1,"verb":3,"args":{}}\n', "members"),
        (b'{"v":1,"verb":"status","args":[]}\n', "members"),
        (b'{"v":1,"verb":"status","args":{},"more":1}\n', "members"),
    ],
)
def test_refusal_says_what_is_wrong(line: bytes, why: str) -> None:
    with pytest.raises(PeerError, match=why):
        decode_request(line)


def test_a_request_that_is_nested_as_deep_as_it_can_be_is_read_or_refused() -> None:
    """Pythons differ in how deep their json goes."""
    with contextlib.suppress(PeerError):
        decode_request(b'{"v":1,"verb":"status","args":{"a":' + b"[" * 2000 + b"]" * 2000 + b"}}\n")


def test_request_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(PeerError, match="4096"):
        encode_request(Request("status", {"text": "x" * MAX_REQUEST}))


def test_result_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(ValueError, match="larger"):
        encode_reply(Result({"text": "x" * MAX_REPLY}))


def test_a_status_of_many_services_takes_little_more_memory_than_its_text() -> None:
    """It would stay with the event loop: what was once taken for small objects is seldom given back."""
    services = [{"name": f"service{number}", "counts": [*range(100)]} for number in range(1000)]
    size = len(encode_reply(Result({"services": services})))
    with memory_traced() as taken:
        encode_reply(Result({"services": services}))
        _now, peak = taken()
    assert peak < 4 * size


def test_error_of_any_length_fits_a_reply() -> None:
    line = encode_reply(Failure("config", "\U0001f4a9" * (2 << 20)))
    assert isinstance(decode_reply(line), Failure)


# The server


def test_a_connection_may_carry_several_requests(daemon: Daemon) -> None:
    with daemon.connect() as sock:
        for number in range(3):
            sock.sendall(encode_request(Request("echo", {"number": number})))
            assert decode_reply(read_line(sock)) == Result({"args": {"number": number}})


def test_requests_may_arrive_in_any_pieces(daemon: Daemon) -> None:
    with daemon.connect() as sock:
        sock.sendall(ECHO + ECHO + ECHO[:5])
        for byte in ECHO[5:]:
            sock.sendall(bytes([byte]))
        assert [decode_reply(read_line(sock)) for _ in range(3)] == [Result({"args": {"a": 1}})] * 3


def test_unknown_verb_is_answered_and_the_connection_goes_on(daemon: Daemon) -> None:
    with daemon.connect() as sock:
        sock.sendall(encode_request(Request("explode\x1b", {})) + ECHO)
        reply = decode_reply(read_line(sock))
        assert reply == Failure("request", r"the daemon does not know the verb 'explode\x1b'")
        assert isinstance(decode_reply(read_line(sock)), Result)


@pytest.mark.parametrize("line", [b"hello\n", b"x" * MAX_REQUEST, ECHO[:-1] + b" " * MAX_REQUEST + b"\n"])
def test_who_does_not_speak_the_protocol_is_answered_and_disconnected(daemon: Daemon, line: bytes) -> None:
    with daemon.connect() as sock:
        sock.sendall(line)
        reply = decode_reply(read_line(sock))
        assert isinstance(reply, Failure)
        assert reply.kind == "request"
        assert ends(sock)
    assert isinstance(decode_reply(daemon.ask(ECHO)), Result)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError(["a:1:1: wrong", "a:2:1: wrong, too"]), "config"),
        (ResourceError("port 25 is taken"), "system"),
        (PeerError("no such service"), "request"),
        (WireError("the master went mad"), "internal"),
    ],
)
def test_error_that_a_verb_raises_is_its_answer(tmp_path: Path, error: UcspidError, kind: str) -> None:
    async def fail(_args: dict[str, Any]) -> dict[str, Any]:
        raise error

    with serving(tmp_path / "control", {"fail": fail}) as daemon:
        reply = decode_reply(daemon.ask(encode_request(Request("fail", {}))))
        assert reply == Failure(kind, str(error))
        assert not daemon.problems


def test_bug_in_a_verb_goes_to_the_loop_and_not_to_the_client(daemon: Daemon) -> None:
    reply = decode_reply(daemon.ask(encode_request(Request("crash", {}))))
    assert isinstance(reply, Failure)
    assert reply.kind == "internal"
    assert "ZeroDivision" not in reply.error
    assert isinstance(decode_reply(daemon.ask(ECHO)), Result)
    (problem,) = daemon.problems
    assert isinstance(problem["exception"], ZeroDivisionError)
    assert "crash" in problem["message"]


def test_result_that_is_not_json_is_a_bug_of_the_verb(tmp_path: Path) -> None:
    async def wrong(_args: dict[str, Any]) -> dict[str, Any]:
        return {"object": object()}

    with serving(tmp_path / "control", {"wrong": wrong}) as daemon:
        reply = decode_reply(daemon.ask(encode_request(Request("wrong", {}))))
        assert isinstance(reply, Failure)
        assert reply.kind == "internal"
        assert isinstance(daemon.problems[0]["exception"], TypeError)


def test_user_who_is_not_allowed_is_turned_away(tmp_path: Path) -> None:
    with serving(tmp_path / "control", {"echo": echo}, rights=Rights.NONE) as daemon:
        with daemon.connect() as sock:
            reply = decode_reply(read_line(sock))
            assert isinstance(reply, Failure)
            assert reply.kind == "request"
            assert reply.error.startswith("only root may control this daemon, not ")
            assert ends(sock)
        with pytest.raises(PeerError, match=r"only .* may control"):
            call(daemon.path, "echo", {}, DEADLINE)


def test_one_client_too_many_is_turned_away_until_another_disconnects(daemon: Daemon) -> None:
    clients = [daemon.connect() for _ in range(server.MAX_CLIENTS)]
    for sock in clients:
        sock.sendall(ECHO)
        assert isinstance(decode_reply(read_line(sock)), Result)
    with daemon.connect() as sock:
        reply = decode_reply(read_line(sock))
        assert isinstance(reply, Failure)
        assert reply.kind == "system"
        assert ends(sock)
    clients.pop().close()
    daemon.wait_for_clients_below(server.MAX_CLIENTS)
    assert isinstance(decode_reply(daemon.ask(ECHO)), Result)
    for sock in clients:
        sock.close()


def test_silent_client_is_disconnected(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.05)
    with daemon.connect() as sock:
        sock.sendall(ECHO[:10])
        assert ends(sock)


def test_client_that_does_not_read_costs_only_itself(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REPLY_TIMEOUT", 0.05)
    with daemon.connect() as sock:
        sock.sendall(encode_request(Request("huge", {})))
        assert sock.recv(1, socket.MSG_PEEK)  # it is being answered
        assert isinstance(decode_reply(daemon.ask(ECHO)), Result)
        daemon.wait_for_clients_below(1)
        assert len(sock.recv(16 << 20, socket.MSG_WAITALL)) < 8 << 20
    assert not daemon.problems


def test_client_that_disconnects_does_not_stop_its_verb(tmp_path: Path, loop_factory: LoopFactory) -> None:
    entered, finished = threading.Event(), threading.Event()
    go_on = asyncio.Event()

    async def reload(_args: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        await go_on.wait()
        finished.set()
        return {"text": "x" * (1 << 20)}

    with serving(tmp_path / "control", {"reload": reload, "echo": echo}, loop_factory=loop_factory) as daemon:
        with daemon.connect() as sock:
            sock.sendall(encode_request(Request("reload", {})))
            assert entered.wait(DEADLINE)
        daemon.loop.call_soon_threadsafe(go_on.set)
        assert finished.wait(DEADLINE)
        assert isinstance(decode_reply(daemon.ask(ECHO)), Result)
        assert not daemon.problems


def test_close_ends_clients_and_verbs(tmp_path: Path, loop_factory: LoopFactory) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def wait(_args: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    with serving(tmp_path / "control", {"wait": wait}, loop_factory=loop_factory) as daemon:
        with daemon.connect() as busy, daemon.connect() as idle:
            busy.sendall(encode_request(Request("wait", {})))
            assert entered.wait(DEADLINE)
            daemon.close()
            assert cancelled.is_set()
            assert ends(busy)
            assert ends(idle)
        with pytest.raises(ConnectionRefusedError):
            daemon.connect()
        assert daemon.clients() == 0


def test_close_ends_a_client_that_was_accepted_just_before(tmp_path: Path, loop_factory: LoopFactory) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        closing: list[asyncio.Task[None]] = []

        def close_first(_conn: socket.socket) -> Rights:
            """Have the server closed before what serves the client has begun."""
            closing.append(loop.create_task(control.close()))
            return Rights.CHANGE

        with listening(tmp_path / "control") as sock, socket.socket(socket.AF_UNIX) as client:
            control = server.ControlServer(sock, server.Verbs({}, {"echo": echo}, {}), close_first)
            control.start(loop)
            client.connect(str(tmp_path / "control"))
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""
            await closing[0]
            assert control.descriptors == set()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.wait_for(run(), DEADLINE))


def test_server_outlives_the_want_of_descriptors(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_ACCEPT_PAUSE", 0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
        try:
            fillers = all_descriptors(sock)
            sock.connect(os.fspath(daemon.path))
            sock.sendall(ECHO)
            daemon.clients()
            assert daemon.clients() == 0  # two turns of the loop later it was not accepted
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)
        assert isinstance(decode_reply(read_line(sock)), Result)


def all_descriptors(sock: socket.socket) -> list[int]:
    fillers: list[int] = []
    while True:
        try:
            fillers.append(os.dup(sock.fileno()))
        except OSError:
            return fillers


def ends(sock: socket.socket) -> bool:
    """Say whether the other end has closed, possibly without having read all."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


# The client


def test_call_returns_the_result(daemon: Daemon) -> None:
    assert call(daemon.path, "echo", {"x": [1]}, DEADLINE) == {"args": {"x": [1]}}


def test_call_takes_large_results(daemon: Daemon) -> None:
    assert len(call(daemon.path, "huge", {}, DEADLINE)["text"]) == 8 << 20


@pytest.mark.parametrize("error", [ConfigError(["one", "two"]), ResourceError("taken"), PeerError("no")])
def test_call_raises_what_the_verb_raised(tmp_path: Path, error: UcspidError) -> None:
    async def fail(_args: dict[str, Any]) -> dict[str, Any]:
        raise error

    with serving(tmp_path / "control", {"fail": fail}) as daemon, pytest.raises(type(error)) as caught:
        call(daemon.path, "fail", {}, DEADLINE)
    assert str(caught.value) == str(error)


def test_call_without_a_daemon_says_so(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with pytest.raises(ConnectionError, match=rf"no daemon answers at {path}: No such file"):
        call(path, "status", {}, DEADLINE)
    with listening(path):
        pass
    with pytest.raises(ConnectionError, match=rf"no daemon answers at {path}: Connection refused"):
        call(path, "status", {}, DEADLINE)


def test_call_to_an_impossible_path_is_an_error_of_connection() -> None:
    with pytest.raises(ConnectionError, match="too long"):
        call("/" + "x" * 200, "status", {}, DEADLINE)


def test_call_waits_only_so_long(tmp_path: Path) -> None:
    with listening(tmp_path / "control"), pytest.raises(ConnectionError, match=r"within 0\.05 seconds"):
        call(tmp_path / "control", "status", {}, 0.05)


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"", ConnectionError, "closed the connection"),
        (b'{"v":1,', ConnectionError, "closed the connection"),
        (b"220 ESMTP\r\n", PeerError, "not a ucspid of this version"),
        (b'{"v":2,"ok":true,"result":{}}\n', PeerError, "not a ucspid of this version"),
    ],
)
def test_call_says_when_something_else_answers(
    tmp_path: Path, answer: bytes, error: type[Exception], text: str
) -> None:
    with listening(tmp_path / "control") as sock:

        def serve() -> None:
            conn, _ = sock.accept()
            with conn:
                read_line(conn)
                conn.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(error, match=text):
            call(tmp_path / "control", "status", {}, DEADLINE)
        thread.join(DEADLINE)


class Ticks:
    """A stream of which a test sees whether it is closed, and decides when it goes on."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def more(self) -> bytes:
        return await self.lines.get()

    def close(self) -> None:
        self.closed.set()


def streaming(ticks: Ticks) -> server.Verbs:
    def open_(args: dict[str, Any]) -> Ticks:
        if args:
            raise PeerError("no such stream")
        return ticks

    return server.Verbs({"echo": echo}, {"change": echo}, {"ticks": open_})


def test_a_stream_goes_on_until_its_client_disconnects(tmp_path: Path, loop_factory: LoopFactory) -> None:
    ticks = Ticks()
    with serving(tmp_path / "control", streaming(ticks), loop_factory=loop_factory) as daemon:
        with daemon.connect() as sock:
            sock.sendall(encode_request(Request("ticks", {})))
            assert decode_reply(read_line(sock)) == Result({})
            for line in (b"one\n", b"two\n"):
                daemon.loop.call_soon_threadsafe(ticks.lines.put_nowait, line)
                assert read_line(sock) == line
            assert not ticks.closed.is_set()
        assert ticks.closed.wait(DEADLINE)
        daemon.wait_for_clients_below(1)
    assert daemon.problems == []


def test_an_empty_line_ends_a_stream_and_requests_may_follow(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    ticks = Ticks()
    with serving(tmp_path / "control", streaming(ticks), loop_factory=loop_factory) as daemon:
        with daemon.connect() as sock:
            for _ in range(2):
                sock.sendall(encode_request(Request("ticks", {})))
                assert decode_reply(read_line(sock)) == Result({})
                daemon.loop.call_soon_threadsafe(ticks.lines.put_nowait, b"one\n")
                assert read_line(sock) == b"one\n"
                sock.sendall(b"\n")
                assert decode_reply(read_line(sock)) == Result({})
                assert ticks.closed.is_set()
                ticks.closed.clear()
            sock.sendall(encode_request(Request("echo", {"a": 1})))
            assert decode_reply(read_line(sock)) == Result({"args": {"a": 1}})
        daemon.wait_for_clients_below(1)
    assert daemon.problems == []


def test_a_client_that_does_not_read_its_stream_is_gone_when_it_disconnects(
    tmp_path: Path, loop_factory: LoopFactory
) -> None:
    ticks = Ticks()
    with serving(tmp_path / "control", streaming(ticks), loop_factory=loop_factory) as daemon:
        with daemon.connect() as sock:
            sock.sendall(encode_request(Request("ticks", {})))
            read_line(sock)
            for _ in range(10):
                daemon.loop.call_soon_threadsafe(ticks.lines.put_nowait, b"x" * (1 << 20))
            assert isinstance(decode_reply(daemon.ask(ECHO)), Result)
        assert ticks.closed.wait(DEADLINE)
    assert daemon.problems == []


def test_a_stream_ends_with_the_server(tmp_path: Path, loop_factory: LoopFactory) -> None:
    ticks = Ticks()
    with (
        serving(tmp_path / "control", streaming(ticks), loop_factory=loop_factory) as daemon,
        daemon.connect() as sock,
    ):
        sock.sendall(encode_request(Request("ticks", {})))
        read_line(sock)
        daemon.close()
        assert ends(sock)
        assert ticks.closed.is_set()


def test_a_stream_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    with serving(tmp_path / "control", streaming(Ticks())) as daemon:
        reply = decode_reply(daemon.ask(encode_request(Request("ticks", {"a": 1}))))
        assert reply == Failure("request", "no such stream")


def test_a_client_that_was_given_may_look_and_take_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.0)
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)
    with ours, serving(tmp_path / "control", streaming(Ticks())) as daemon:
        with daemon.connect() as impatient:
            assert ends(impatient)
        daemon.loop.call_soon_threadsafe(daemon.server.adopt, theirs)
        for _ in range(2):
            ours.sendall(ECHO)
            assert isinstance(decode_reply(read_line(ours)), Result)
        ours.sendall(encode_request(Request("change", {})))
        assert isinstance(decode_reply(read_line(ours)), Failure)


def test_a_client_that_may_only_look_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "control", streaming(Ticks()), rights=Rights.LOOK) as daemon:
        assert isinstance(decode_reply(daemon.ask(ECHO)), Result)
        assert decode_reply(daemon.ask(encode_request(Request("ticks", {})))) == Result({})
        reply = decode_reply(daemon.ask(encode_request(Request("change", {}))))
        assert reply == Failure("request", "only root may change: you may look, and change nothing")
