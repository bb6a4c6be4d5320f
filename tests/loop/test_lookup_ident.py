"""Ident: replies of all kinds, and a server that gives them."""

import asyncio
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ident_server import answering
from ucspid.lookup.ident import MAX_LINE, MAX_USER, Ident, parse_reply
from uvloops import in_uvloop

LOCAL, REMOTE = 25, 6193
START = b"6193 , 25 : USERID : UNIX :"
OK = b"PORTS : USERID : UNIX : joe\r\n"


@pytest.mark.parametrize(
    ("line", "user"),
    [
        (b"6193, 25 : USERID : UNIX : stjohns\r", b"stjohns"),
        (b"6193,25:USERID:OTHER:x:y", b"x:y"),
        (b"\t6193 ,25 : userid : UNIX , US-ASCII :a b\tc\r", b"abc"),
        (b"06193 , 0025 : USERID : UNIX :\xff\x01", b"\xff\x01"),
        (b"6193,25:USERID:UNIX:", b""),
        (b"6193,25:USERID:UNIX:" + b" x" * 300, b"x" * MAX_USER),
        (b"6193, 25 : ERROR : NO-USER\r", b""),
        (b"6193, 25 : ERROR : X-A:B", b""),
        (b"25, 6193 : USERID : UNIX : joe", None),
        (b"6193, 26 : USERID : UNIX : joe", None),
        (b"6193, 26 : ERROR : NO-USER", None),
        (b"0, 0 : ERROR : INVALID-PORT", None),
        (b"6193, 25 : USERID : joe", None),
        (b"6193, 25 : USER : UNIX : joe", None),
        (b"6193, 25", None),
        (b"6193, 25 : USERID : UNIX : j\0oe", None),
        (b"6193, 25 : USERID : UNIX : joe\n", None),
        (b"61 93, 25 : USERID : UNIX : joe", None),
        (b"joe", None),
        (b"", None),
    ],
)
def test_replies(line: bytes, user: bytes | None) -> None:
    assert parse_reply(line, LOCAL, REMOTE) == user


PIECES = st.sampled_from([b"6193", b"25", b",", b":", b" ", b"\t", b"\r", b"\n", b"\0", b"USERID", b"ERROR"])


@given(st.lists(PIECES | st.binary(max_size=3)).map(b"".join) | st.binary(max_size=400))
@example(b"6193,25:USERID:u:" + b"x" * 1000)
def test_any_reply_is_a_user_that_can_be_passed_on_or_none(line: bytes) -> None:
    user = parse_reply(line, LOCAL, REMOTE)
    if user is not None:
        assert len(user) <= MAX_USER
        assert not set(user) & set(b"\0\n\r\t ")
        assert b"6193" in line
        assert b"25" in line


@given(st.binary(max_size=MAX_USER).filter(lambda user: not set(user) & set(b"\0\n")))
def test_a_user_is_passed_on_without_white_space(user: bytes) -> None:
    parsed = parse_reply(b"6193 , 25 : USERID : UNIX :" + user, LOCAL, REMOTE)
    assert parsed == user.translate(None, b" \t\r")


async def ask(port: int) -> bytes | None:
    return await Ident(port).ask("127.0.0.1", "127.0.0.1", LOCAL, REMOTE)


@in_uvloop
async def test_the_server_is_asked_from_the_address_of_the_connection() -> None:
    async with answering(OK) as server:
        user = await Ident(server.port).ask("127.0.0.3", "127.0.0.1", LOCAL, REMOTE)
        assert user == b"joe"
        assert server.asked == [("127.0.0.3", b"6193 , 25\r\n")]


@in_uvloop
async def test_ipv6() -> None:
    async with answering(OK, host="::1") as server:
        assert await Ident(server.port).ask("::1", "::1", LOCAL, REMOTE) == b"joe"


@pytest.mark.parametrize(
    ("pieces", "user"),
    [
        ((b"PORTS : US", b"ERID : UNIX", b" : joe\n", b"more"), b"joe"),
        ((b"PORTS : ERROR : HIDDEN-USER\r\n",), b""),
        ((b"PORTS : USERID : UNIX : joe",), None),
        ((b"220 mail.example ESMTP\r\n",), None),
        ((b"1 , 2 : USERID : UNIX : joe\r\n",), None),
        ((b"\r\n" + OK,), None),
        ((START.ljust(MAX_LINE - 2) + b"x\n",), b"x"),
        ((START.ljust(MAX_LINE - 1) + b"x\n",), None),
        ((b"x" * 4096,) * 64, None),
        ((), None),
    ],
    ids=["split", "error", "no-end", "banner", "ports", "empty", "long", "too-long", "endless", "closing"],
)
def test_what_servers_say(pieces: tuple[bytes, ...], user: bytes | None) -> None:
    @in_uvloop
    async def check() -> None:
        async with answering(*pieces) as server:
            assert await ask(server.port) == user

    check()


@in_uvloop
async def test_no_more_is_read_than_a_reply_may_have() -> None:
    async with answering(b"x" * MAX_LINE, close=False) as server:
        assert await ask(server.port) is None
        await server.gone.wait()


@in_uvloop
async def test_a_host_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert await ask(port) is None


@in_uvloop
async def test_an_address_that_is_not_ours() -> None:
    async with answering(OK) as server:
        assert await Ident(server.port).ask("192.0.2.1", "127.0.0.1", LOCAL, REMOTE) is None
        assert server.asked == []


@in_uvloop
async def test_who_does_not_wait_leaves_nothing_behind() -> None:
    async with answering(close=False) as server:
        task = asyncio.create_task(ask(server.port))
        await asyncio.wait([task], timeout=0.05)
        assert server.asked
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.gone.wait()


@pytest.mark.parametrize(
    ("reply", "user"),
    [
        (b"PORTS : USERID : UNIX : joe\r\n", b"joe"),
        (b"PORTS:ERROR:NO-USER\n", b""),
        (b"what?\n", b""),
        (b"\n", b""),
        (b"1,2:x:y: a b\tc\r:d\n", b"abc:d"),
        (b"1,2:x:y:joe\0you\n", b"joe"),
        (b"1,2:x:y:" + b"j" * 300 + b"\n", b"j" * MAX_USER),
        (b"1,2:x:y:" + b"j" * 2000, b"j" * MAX_USER),
        (b"1,2:x:y:" + b" " * 2000, None),
        (b"1,2:x:y:joe", None),
    ],
)
@in_uvloop
async def test_any_line_is_a_reply_where_that_is_wanted(reply: bytes, user: bytes | None) -> None:
    async with answering(reply) as server:
        ident = Ident(server.port)
        assert await ident.ask("127.0.0.1", "127.0.0.1", LOCAL, REMOTE, strict=False) == user
