"""The resolver against a real server on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import dns.message
import pytest
from dns_server import DnsServer, Zone, failing, lying, reply, serving, silent
from uvloops import in_uvloop

from ucspid.lookup.dns import Answer, Bounds, Question, Resolver

IP = "192.0.2.1"
PTR = "1.2.0.192.in-addr.arpa PTR"
PTR6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR"
FAILURE = Answer(None, failed=True)
NONE = Answer(None)


@contextlib.asynccontextmanager
async def resolving(zone: Zone, bounds: Bounds | None = None) -> AsyncIterator[tuple[Resolver, DnsServer]]:
    with serving(zone) as server:
        resolver = Resolver([server.address], bounds)
        yield resolver, server
        await resolver.close()


@in_uvloop
async def test_addresses_have_names_in_lower_case() -> None:
    zone = {PTR: ["Mail.Example.ORG."], PTR6: ["six.example.org."]}
    async with resolving(zone) as (resolver, _):
        assert await resolver.ask(Question(IP)) == Answer(b"mail.example.org")
        assert await resolver.ask(Question("2001:db8::1")) == Answer(b"six.example.org")


@in_uvloop
async def test_an_address_without_a_name() -> None:
    async with resolving({"2.2.0.192.in-addr.arpa TXT": ["x"]}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == NONE  # no such name
        assert await resolver.ask(Question("192.0.2.2")) == NONE  # a name without such records


@in_uvloop
async def test_the_first_of_several_names_is_taken() -> None:
    async with resolving({PTR: ["b.example.", "a.example.", "c.example."]}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == Answer(b"b.example")


@in_uvloop
async def test_aliases_are_followed() -> None:
    zone = {
        "1.2.0.192.in-addr.arpa CNAME": ["1.0-127.2.0.192.in-addr.arpa."],
        "1.0-127.2.0.192.in-addr.arpa CNAME": ["1.customer.example."],
        "1.customer.example PTR": ["host.customer.example."],
        "host.customer.example CNAME": ["real.customer.example."],
        "real.customer.example A": [IP],
    }
    async with resolving(zone) as (resolver, _):
        assert await resolver.ask(Question(IP)) == Answer(b"host.customer.example")
        assert await resolver.ask(Question(IP, b"host.customer.example")) == Answer(b"host.customer.example")


@in_uvloop
async def test_an_alias_that_leads_nowhere_is_no_name() -> None:
    async with resolving({"1.2.0.192.in-addr.arpa CNAME": ["nowhere.example."]}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == NONE


@in_uvloop
async def test_big_answers_come_over_tcp() -> None:
    names = [f"host-{number:040}.example." for number in range(100)]
    async with resolving({PTR: names}) as (resolver, server):
        assert await resolver.ask(Question(IP)) == Answer(names[0].rstrip(".").encode())
        assert server.asked[f"{PTR} tcp"] == 1


@pytest.mark.parametrize(
    ("ip", "kind", "addresses", "confirmed"),
    [
        (IP, "A", [IP], True),
        (IP, "A", ["192.0.2.7", IP], True),
        (IP, "A", ["192.0.2.7"], False),
        (IP, "AAAA", ["::ffff:192.0.2.1"], False),
        ("2001:db8::1", "AAAA", ["2001:db8:0::1"], True),
        ("2001:db8::1", "AAAA", ["2001:db8::2"], False),
    ],
)
def test_a_name_is_confirmed_by_its_addresses(
    ip: str, kind: str, addresses: list[str], confirmed: bool
) -> None:
    @in_uvloop
    async def check() -> None:
        async with resolving({f"a.example {kind}": addresses}) as (resolver, _):
            expected = Answer(b"a.example") if confirmed else NONE
            assert await resolver.ask(Question(ip, b"a.example")) == expected

    check()


@in_uvloop
async def test_odd_bytes_in_names_are_told_as_tcpserver_tells_them() -> None:
    zone = {
        PTR: [r"a\.b\\.c\000D\010.\032\255\*.Example."],
        "2.2.0.192.in-addr.arpa PTR": ["."],
        "3.2.0.192.in-addr.arpa PTR": ["under_score.example."],
    }
    async with resolving(zone) as (resolver, server):
        odd = rb"a\056b\134.c\000d\012.\040\377\052.example"
        assert await resolver.ask(Question(IP)) == Answer(odd)
        assert await resolver.ask(Question("192.0.2.2")) == NONE
        assert await resolver.ask(Question("192.0.2.3")) == Answer(b"under_score.example")
        assert await resolver.ask(Question(IP, odd)) == NONE
        assert server.asked.total() == 3


@in_uvloop
async def test_names_longer_than_names_can_be_are_none() -> None:
    def too_long(question: dns.message.Message) -> list[bytes]:
        head = reply(question)
        head.use_edns(False)
        packet = bytearray(head.to_wire())
        packet[7] = 1  # answers
        name = (b"\x3f" + b"a" * 63) * 4 + b"\0"
        return [packet + b"\xc0\x0c" + b"\0\x0c\0\1\0\0\1\0" + len(name).to_bytes(2) + name]

    async with resolving({PTR: too_long}) as (resolver, server):
        assert await resolver.ask(Question(IP)) == NONE
        assert server.asked == {PTR: 1}


@in_uvloop
async def test_lies_of_strangers_are_not_believed() -> None:
    async with resolving({PTR: lying("liar.example.", "honest.example.")}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == Answer(b"honest.example")


@in_uvloop
async def test_a_server_that_cannot_say_is_a_failure_and_not_dead() -> None:
    zone = {PTR: failing, "2.2.0.192.in-addr.arpa PTR": ["a.example."]}
    async with resolving(zone) as (resolver, _):
        assert await resolver.ask(Question(IP)) == FAILURE
        assert resolver.known(Question(IP)) == FAILURE
        assert await resolver.ask(Question("192.0.2.2")) == Answer(b"a.example")


@in_uvloop
async def test_answers_are_kept() -> None:
    async with resolving({PTR: ["a.example."]}) as (resolver, server):
        assert resolver.known(Question(IP)) is None
        for question in (Question(IP), Question("192.0.2.9")):
            answer = await resolver.ask(question)
            assert resolver.known(question) == answer == await resolver.ask(question)
        assert set(server.asked.values()) == {1}


@in_uvloop
async def test_one_question_is_asked_once_at_a_time() -> None:
    async with resolving({PTR: ["a.example."]}) as (resolver, server):
        answers = await asyncio.gather(*(resolver.ask(Question(IP)) for _ in range(20)))
        assert set(answers) == {Answer(b"a.example")}
        assert server.asked == {PTR: 1}


@in_uvloop
async def test_who_gives_up_waiting_does_not_stop_the_question() -> None:
    async with resolving({PTR: ["a.example."]}) as (resolver, _):
        first = asyncio.create_task(resolver.ask(Question(IP)))
        second = asyncio.create_task(resolver.ask(Question(IP)))
        started = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(started.set_result, None)
        await started
        first.cancel()
        assert await second == Answer(b"a.example")
        assert first.cancelled()


@in_uvloop
async def test_more_questions_than_may_wait_fail_at_once() -> None:
    zone: Zone = {f"{number}.2.0.192.in-addr.arpa PTR": silent for number in range(3)}
    async with resolving(zone, Bounds(most_asked=2)) as (resolver, server):
        waiting = [asyncio.create_task(resolver.ask(Question(f"192.0.2.{number}"))) for number in range(2)]
        await asyncio.wait(waiting, timeout=0.0)
        assert await resolver.ask(Question("192.0.2.2")) == FAILURE
        assert resolver.known(Question("192.0.2.2")) is None
        await resolver.close()
        assert [await task for task in waiting] == [FAILURE, FAILURE]
        assert server.asked["2.2.0.192.in-addr.arpa PTR"] == 0


@in_uvloop
async def test_nothing_is_asked_after_the_end() -> None:
    async with resolving({PTR: ["a.example."]}) as (resolver, server):
        await resolver.close()
        assert await resolver.ask(Question(IP)) == FAILURE
        assert not server.asked


@in_uvloop
async def test_channels_are_replaced_while_questions_wait() -> None:
    zone: Zone = {f"{number}.2.0.192.in-addr.arpa PTR": [f"{number}.example."] for number in range(40)}
    async with resolving(zone, Bounds(most_records=4, capacity=1)) as (resolver, server):
        for _ in range(2):
            answers = await asyncio.gather(*(resolver.ask(Question(f"192.0.2.{n}")) for n in range(40)))
            assert answers == [Answer(f"{number}.example".encode()) for number in range(40)]
        assert set(server.asked.values()) == {2}  # c-ares does not answer from its own, unbounded cache
