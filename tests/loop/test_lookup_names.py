"""All lookups of a connection together, against real servers on loopback."""

import contextlib
import time
from collections.abc import AsyncIterator

from dns_server import DnsServer, Zone, everything, serving, silent
from ident_server import answering
from ucspid.lookup.dns import Resolver
from ucspid.lookup.ident import Ident
from ucspid.lookup.names import Names
from ucspid.plan import Lookup
from ucspid.policy.client_facts import NO_FACTS, ClientFacts
from uvloops import in_uvloop

LOCAL = ("127.0.0.1", 25)
REMOTE = ("127.0.0.2", 6193)
ZONE = {
    "1.0.0.127.in-addr.arpa PTR": ["here.example."],
    "2.0.0.127.in-addr.arpa PTR": ["there.example."],
    "there.example A": ["192.0.2.9", "127.0.0.2"],
    "3.0.0.127.in-addr.arpa PTR": ["there.example."],
    "4.0.0.127.in-addr.arpa PTR": ["nowhere.example."],
}
OK = b"PORTS : USERID : UNIX : joe\r\n"
SOON = 0.05

SECONDS = 20.0
"""How long names may take."""


def wanted(
    *,
    remote_host: bool = False,
    paranoid: bool = False,
    local_host: str | None = None,
    local_ptr: bool = False,
    ident: bool = False,
    timeout: float = 10.0,
) -> Lookup:
    return Lookup(
        remote_host=remote_host,
        paranoid=paranoid,
        local_host=local_host,
        local_ptr=local_ptr,
        ident=ident,
        timeout=timeout,
    )


@contextlib.asynccontextmanager
async def names(zone: Zone, ident_port: int = 9) -> AsyncIterator[tuple[Names, DnsServer]]:
    with serving(zone) as server:
        asked = Names(Resolver([server.address]), Ident(ident_port))
        try:
            yield asked, server
        finally:
            await asked.close()


@in_uvloop
async def test_all_that_can_be_found() -> None:
    async with answering(OK, host="127.0.0.2") as ident, names(ZONE, ident.port) as (asked, _):
        lookup = wanted(remote_host=True, paranoid=True, local_ptr=True, ident=True)
        assert await asked.find(lookup, LOCAL, REMOTE, SECONDS) == (b"there.example", b"here.example", b"joe")
        assert ident.asked == [("127.0.0.1", b"6193 , 25\r\n")]


@in_uvloop
async def test_only_what_is_wanted_is_asked() -> None:
    async with names(ZONE) as (asked, server):
        assert await asked.find(wanted(), LOCAL, REMOTE, SECONDS) == NO_FACTS
        assert await asked.find(wanted(paranoid=True), LOCAL, REMOTE, SECONDS) == NO_FACTS
        assert asked.cached(wanted(paranoid=True), LOCAL, REMOTE) == NO_FACTS
        assert not server.asked


@in_uvloop
async def test_a_local_name_that_is_given_is_not_asked_for() -> None:
    async with names(ZONE) as (asked, server):
        lookup = wanted(local_host="mx.example.org")
        expected = ClientFacts(local_host=b"mx.example.org")
        assert asked.cached(lookup, LOCAL, REMOTE) == expected
        assert await asked.find(lookup, LOCAL, REMOTE, SECONDS) == expected
        assert not server.asked


@in_uvloop
async def test_a_name_that_is_not_confirmed_is_none_for_the_paranoid() -> None:
    async with names(ZONE) as (asked, _):
        for ip, name in (
            ("127.0.0.2", b"there.example"),  # has the address
            ("127.0.0.3", None),  # has others
            ("127.0.0.4", None),  # has none
            ("127.0.0.5", None),  # there is no name
        ):
            lookup = wanted(remote_host=True, paranoid=True)
            assert (await asked.find(lookup, LOCAL, (ip, 1), SECONDS)).remote_host == name
            assert asked.cached(lookup, LOCAL, (ip, 1)) == ClientFacts(remote_host=name)
        trusting = await asked.find(wanted(remote_host=True), LOCAL, ("127.0.0.3", 1), SECONDS)
        assert trusting.remote_host == b"there.example"


@in_uvloop
async def test_what_is_known_needs_no_waiting() -> None:
    async with names(ZONE) as (asked, server):
        lookup = wanted(remote_host=True, paranoid=True, local_ptr=True)
        assert asked.cached(lookup, LOCAL, REMOTE) is None
        found = await asked.find(lookup, LOCAL, REMOTE, SECONDS)
        assert asked.cached(lookup, LOCAL, REMOTE) == found == ClientFacts(b"there.example", b"here.example")
        assert asked.cached(lookup, LOCAL, ("127.0.0.3", 1)) is None
        assert set(server.asked.values()) == {1}


@in_uvloop
async def test_an_ident_user_is_asked_for_each_time() -> None:
    async with answering(OK, host="127.0.0.2") as ident, names(ZONE, ident.port) as (asked, _):
        for _ in range(2):
            assert asked.cached(wanted(ident=True), LOCAL, REMOTE) is None
            assert await asked.find(wanted(ident=True), LOCAL, REMOTE, SECONDS) == ClientFacts(info=b"joe")
        assert len(ident.asked) == 2


@in_uvloop
async def test_there_is_one_deadline_for_everything() -> None:
    async with (
        answering(close=False, host="127.0.0.2") as ident,
        names(everything(silent), ident.port) as (asked, _),
    ):
        lookup = wanted(remote_host=True, local_ptr=True, ident=True, timeout=SOON)
        began = time.monotonic()
        assert await asked.find(lookup, LOCAL, REMOTE, SOON) == NO_FACTS
        assert time.monotonic() - began < 5.0  # the DNS alone would take 6 seconds
        await ident.gone.wait()


@in_uvloop
async def test_what_is_there_at_the_deadline_counts() -> None:
    slow_to_confirm: Zone = {**ZONE, "there.example A": silent}
    async with (
        answering(close=False, host="127.0.0.2") as ident,
        names(slow_to_confirm, ident.port) as (asked, _),
    ):
        # What is known needs no time.
        await asked.find(wanted(remote_host=True, local_ptr=True), LOCAL, REMOTE, SECONDS)
        lookup = wanted(remote_host=True, local_ptr=True, ident=True, timeout=SOON)
        assert await asked.find(lookup, LOCAL, REMOTE, SOON) == ClientFacts(b"there.example", b"here.example")
        ident.gone.clear()
        lookup = wanted(remote_host=True, paranoid=True, local_ptr=True, ident=True, timeout=SOON)
        assert await asked.find(lookup, LOCAL, REMOTE, SOON) == ClientFacts(local_host=b"here.example")


@in_uvloop
async def test_what_comes_after_the_deadline_is_known_to_the_next() -> None:
    async with names(ZONE) as (asked, _):
        hurried = wanted(remote_host=True, timeout=0.0)
        assert await asked.find(hurried, LOCAL, REMOTE, 0.0) == NO_FACTS
        found = await asked.find(wanted(remote_host=True), LOCAL, REMOTE, SECONDS)
        assert found.remote_host == b"there.example"
