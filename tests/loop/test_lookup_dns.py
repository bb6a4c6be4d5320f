"""The resolver against a real server on loopback."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dns.message
import dns.name
import pytest
from aiodns import error
from hypothesis import given
from hypothesis import strategies as st
from pycares import DNSResult

from dns_server import DnsServer, Zone, everything, failing, lying, reply, serving, silent
from ucspid.lookup.channel import Channels
from ucspid.lookup.dns import Bounds, DnsAnswer, Question, Resolver
from ucspid.lookup.hostname import hostname
from uvloops import in_uvloop

IP = "192.0.2.1"
PTR = "1.2.0.192.in-addr.arpa PTR"
PTR6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR"
FAILURE = DnsAnswer(None, failed=True)
NONE = DnsAnswer(None)


@contextlib.asynccontextmanager
async def resolving(zone: Zone, bounds: Bounds | None = None) -> AsyncIterator[tuple[Resolver, DnsServer]]:
    with serving(zone) as server:
        resolver = Resolver([server.address], bounds)
        try:
            yield resolver, server
        finally:
            await resolver.close()


@in_uvloop
async def test_addresses_have_names_in_lower_case() -> None:
    zone = {PTR: ["Mail.Example.ORG."], PTR6: ["six.example.org."]}
    async with resolving(zone) as (resolver, _):
        assert await resolver.ask(Question(IP)) == DnsAnswer(b"mail.example.org")
        assert await resolver.ask(Question("2001:db8::1")) == DnsAnswer(b"six.example.org")


@in_uvloop
async def test_an_address_without_a_name() -> None:
    async with resolving({"2.2.0.192.in-addr.arpa TXT": ["x"]}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == NONE  # no such name
        assert await resolver.ask(Question("192.0.2.2")) == NONE  # a name without such records


@in_uvloop
async def test_what_became_of_questions_is_counted() -> None:
    async with resolving({PTR: ["mail.example.org."]}) as (resolver, _):
        await resolver.ask(Question(IP))
        await resolver.ask(Question(IP))  # it is known by now
        await resolver.ask(Question("192.0.2.2"))
        assert resolver.outcomes == {"answered": 1, "nothing_there": 1, "timed_out": 0, "failed": 0}
    async with resolving(everything(failing)) as (resolver, _):
        await resolver.ask(Question(IP))
        assert resolver.outcomes == {"answered": 0, "nothing_there": 0, "timed_out": 0, "failed": 1}
    async with resolving(everything(silent), Bounds(timeout=0.1)) as (resolver, _):
        await resolver.ask(Question(IP))
        assert resolver.outcomes == {"answered": 0, "nothing_there": 0, "timed_out": 1, "failed": 0}


@in_uvloop
async def test_the_first_of_several_names_is_taken() -> None:
    async with resolving({PTR: ["b.example.", "a.example.", "c.example."]}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == DnsAnswer(b"b.example")


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
        assert await resolver.ask(Question(IP)) == DnsAnswer(b"host.customer.example")
        confirmed = DnsAnswer(b"host.customer.example")
        assert await resolver.ask(Question(IP, b"host.customer.example")) == confirmed


@in_uvloop
async def test_an_alias_that_leads_nowhere_is_no_name() -> None:
    async with resolving({"1.2.0.192.in-addr.arpa CNAME": ["nowhere.example."]}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == NONE


@in_uvloop
async def test_big_answers_come_over_tcp() -> None:
    names = [f"host-{number:040}.example." for number in range(100)]
    async with resolving({PTR: names}) as (resolver, server):
        assert await resolver.ask(Question(IP)) == DnsAnswer(names[0].rstrip(".").encode())
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
            expected = DnsAnswer(b"a.example") if confirmed else NONE
            assert await resolver.ask(Question(ip, b"a.example")) == expected

    check()


@in_uvloop
async def test_odd_bytes_in_names_are_given_as_tcpserver_gives_them() -> None:
    zone = {
        PTR: [r"a\.b\\.c\000D\010.\032\255\*.Example."],
        "2.2.0.192.in-addr.arpa PTR": ["."],
        "3.2.0.192.in-addr.arpa PTR": ["under_score.example."],
    }
    async with resolving(zone) as (resolver, server):
        odd = rb"a\056b\134.c\000d\012.\040\377\052.example"
        assert await resolver.ask(Question(IP)) == DnsAnswer(odd)
        assert await resolver.ask(Question("192.0.2.2")) == NONE
        assert await resolver.ask(Question("192.0.2.3")) == DnsAnswer(b"under_score.example")
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
        return [bytes(packet) + b"\xc0\x0c" + b"\0\x0c\0\1\0\0\1\0" + len(name).to_bytes(2) + name]

    async with resolving({PTR: too_long}) as (resolver, server):
        assert await resolver.ask(Question(IP)) == NONE
        assert server.asked == {PTR: 1}


@in_uvloop
async def test_lies_of_strangers_are_not_believed() -> None:
    async with resolving({PTR: lying("liar.example.", "honest.example.")}) as (resolver, _):
        assert await resolver.ask(Question(IP)) == DnsAnswer(b"honest.example")


@in_uvloop
async def test_a_server_that_cannot_say_is_a_failure_and_not_dead() -> None:
    zone: Zone = {PTR: failing, "2.2.0.192.in-addr.arpa PTR": ["a.example."]}
    async with resolving(zone) as (resolver, _):
        assert await resolver.ask(Question(IP)) == FAILURE
        assert resolver.known(Question(IP)) == FAILURE
        assert await resolver.ask(Question("192.0.2.2")) == DnsAnswer(b"a.example")


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
        assert set(answers) == {DnsAnswer(b"a.example")}
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
        assert await second == DnsAnswer(b"a.example")
        assert first.cancelled()


@in_uvloop
async def test_more_questions_than_may_wait_fail_at_once() -> None:
    zone: Zone = {f"{number}.2.0.192.in-addr.arpa PTR": silent for number in range(3)}
    async with resolving(zone, Bounds(max_asked=2)) as (resolver, server):
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
    async with resolving(zone, Bounds(max_records=4, capacity=1)) as (resolver, server):
        for _ in range(2):
            answers = await asyncio.gather(*(resolver.ask(Question(f"192.0.2.{n}")) for n in range(40)))
            assert answers == [DnsAnswer(f"{number}.example".encode()) for number in range(40)]
        # One answer is in the resolver's own cache; the others are not in that of c-ares.
        assert sorted(server.asked.values()) == [1] + [2] * 39


IMPATIENT = Bounds(timeout=0.03, test_timeout=0.03, test_again=0.0)
PATIENT = Bounds(timeout=10.0, test_timeout=10.0, test_again=0.0)


async def until_tested(resolver: Resolver) -> None:
    """Wait until a test of the name server that is under way has ended."""
    await asyncio.gather(*resolver._tests)


OTHERS = [Question("192.0.2.2"), Question("2001:db8::1"), Question(IP, b"a.example")]


@in_uvloop
async def test_a_dead_server_is_not_waited_for() -> None:
    async with resolving(everything(silent), IMPATIENT) as (resolver, server):
        assert await resolver.ask(Question(IP)) == FAILURE
        await until_tested(resolver)
        asked = server.asked.total()
        assert [resolver.known(question) for question in OTHERS] == [FAILURE] * 3
        await until_tested(resolver)
        assert server.asked.total() == asked + 1


def keep_silent(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    """Have questions whose names end so time out at once, so that others may take as long as they like."""
    query = Channels.query

    async def silent_or_query(channels: Channels, name: str, kind: str) -> DNSResult:
        if name.endswith(asked):
            raise error.DNSError(error.ARES_ETIMEOUT, "nobody answers")
        return await query(channels, name, kind)

    monkeypatch.setattr(Channels, "query", silent_or_query)


@in_uvloop
async def test_a_dead_server_that_answers_again_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with resolving({PTR: []}, PATIENT) as (resolver, server):
        with monkeypatch.context() as patch:
            keep_silent(patch, "")
            assert await resolver.ask(Question(IP)) == FAILURE
            await until_tested(resolver)
        assert not server.asked
        assert await resolver.ask(OTHERS[0]) == FAILURE
        await until_tested(resolver)
        assert [await resolver.ask(question) for question in OTHERS] == [NONE] * 3


@in_uvloop
async def test_where_there_is_no_server_it_counts_as_dead() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    resolver = Resolver([f"127.0.0.1:{port}"], Bounds(test_timeout=0.03))
    assert await resolver.ask(Question(IP)) == FAILURE
    await until_tested(resolver)
    assert resolver.known(Question("192.0.2.2")) == FAILURE
    await resolver.close()


@in_uvloop
async def test_zones_of_clients_that_never_answer_do_not_make_the_server_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_silent(monkeypatch, PTR.removesuffix(" PTR"))
    async with resolving({"2.2.0.192.in-addr.arpa PTR": ["a.example."]}, PATIENT) as (resolver, _):
        assert await resolver.ask(Question(IP)) == FAILURE
        await until_tested(resolver)
        assert resolver.known(Question("192.0.2.2")) is None
        assert await resolver.ask(Question("192.0.2.2")) == DnsAnswer(b"a.example")


@in_uvloop
async def test_nothing_wakes_up_while_there_is_nothing_to_ask() -> None:
    async with resolving({PTR: ["a.example."]}) as (resolver, _):
        others = switches().keys()
        await resolver.ask(Question(IP))
        threads = switches().keys() - others
        assert threads
        for _ in range(10):  # the machine may be busy, and files in /etc are watched
            before = switches()
            await nothing(0.2)
            after = switches()
            if all(after[thread] == before[thread] for thread in threads):
                return
        pytest.fail("a thread wakes up all the time")


async def nothing(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


def switches() -> dict[str, int]:
    """Return how often each thread of this process has gone to sleep; one of another test's may end."""
    tasks = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            tasks[task.name] = (task / "status").read_text()
    return {
        name: int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        for name, status in tasks.items()
    }


@given(st.text(max_size=300))
def test_any_text_is_a_name_without_bytes_that_could_do_harm_or_none(text: str) -> None:
    name = hostname(text)
    assert name is None or re.fullmatch(rb"(?:[a-z0-9._-]|\\[0-3][0-7]{2})+", name)


@given(st.lists(st.binary(min_size=1, max_size=63), min_size=1, max_size=8))
def test_names_keep_all_their_bytes_but_for_upper_case(labels: list[bytes]) -> None:
    def back(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 8)])

    length = sum(len(label) + 1 for label in labels) + 1
    written = hostname(dns.name.Name([*labels, b""]).to_text() if length <= 255 else in_zone_file(labels))
    if length > 255:
        assert written is None
    else:
        assert written is not None
        octets = [re.sub(rb"\\([0-7]{3})", back, label) for label in written.split(b".")]
        assert octets == [label.lower() for label in labels]


def in_zone_file(labels: list[bytes]) -> str:
    return ".".join("".join(f"\\{octet:03}" for octet in label) for label in labels)


@pytest.mark.parametrize("text", ["", ".", "..", "a..b", ".a", "a\\999", "\u0100"])
def test_what_is_no_name(text: str) -> None:
    assert hostname(text) is None
