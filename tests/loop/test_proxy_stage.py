"""Clients behind balancers: the header comes first, and reading it takes nothing of the client's."""

import os
import socket
import struct
from typing import Any

import pytest

from inprocess import Rig, received, serving, settings
from proxy_headers import AUTHORITY, SIGNATURE, addresses, ssl, tcp4, tlv, v1, v2
from ucspid.admission.obstacles import Hold
from ucspid.plan import Proxy, Rate, RuleSpec, Service
from ucspid.policy.environ import names_of
from uvloops import in_uvloop

CLIENT = "192.0.2.7"
LINE = v1(CLIENT, "198.51.100.1")
RESET = struct.pack("ii", 1, 0)


def behind(name: str = "s", **changed: Any) -> Service:
    """Return a service behind a balancer at 127.0.0.1."""
    proxy = {"from_": ("127.0.0.1",), **changed.pop("proxy", {})}
    return settings(name, proxy=Proxy(**proxy), **changed)


def deny(pattern: str) -> RuleSpec:
    """Return a rule."""
    return RuleSpec(
        from_=(pattern,),
        verdict="deny",
        env=(),
        max_per_ip=None,
        rate_per_ip=None,
        message="go away",
        where="f:1",
    )


def told(rig: Rig, connection: int) -> dict[bytes, bytes]:
    """Return the variables of a start, each of which the service's launcher allows."""
    found = dict(item.split(b"=", 1) for item in rig.launchers[0].variables[connection].split(b"\0"))
    assert {name.decode() for name in found} <= {*names_of("tcp", proxied=True)}
    return found


def sent_on(rig: Rig, connection: int) -> bytes:
    """Return what the program finds on its descriptor 0."""
    with socket.socket(fileno=os.dup(rig.launchers[0].starts[connection][1])) as sock:
        return sock.recv(4096)


async def started(rig: Rig, header: bytes) -> int:
    """Connect with a header; return the connection once it is at a launcher."""
    rig.connect("s").send(header)
    return (await rig.starts(1))[-1]


async def refused(rig: Rig, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many were refused."""
    await rig.until(lambda: len(rig.named("connection_refused")) >= count)
    return rig.named("connection_refused")


@pytest.mark.parametrize("header", [LINE, tcp4(), tcp4(ssl(), tlv(AUTHORITY, b"mail.example.org"))])
async def test_the_client_is_the_one_that_the_header_names(header: bytes) -> None:
    async with serving(behind(max_per_ip=1)) as rig:
        connection = await started(rig, header + b"EHLO client\r\n")
        found = told(rig, connection)
        assert (found[b"TCPREMOTEIP"], found[b"TCPREMOTEPORT"]) == (CLIENT.encode(), b"4321")
        assert (found[b"TCPLOCALIP"], found[b"TCPLOCALPORT"]) == (b"198.51.100.1", b"25")
        own_ip, own_port = rig.clients[0].getsockname()
        assert (found[b"UCSPID_PROXY_IP"], found[b"UCSPID_PROXY_PORT"]) == (own_ip.encode(), b"%d" % own_port)
        assert found.get(b"SSL_TLS_SNI_SERVERNAME") == (b"mail.example.org" if b"mail" in header else None)
        assert sent_on(rig, connection) == b"EHLO client\r\n"
        rig.connect("s").send(header)
        (event,) = await refused(rig)
        assert (event["reason"], event["client"], event["remote"]) == ("per_ip", CLIENT, f"{CLIENT}:4321")
        assert event["balancer"] == "{}:{}".format(*rig.clients[1].getsockname())


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(b"", 0x00), v2(bytes(216), 0x31)])
async def test_where_the_balancer_names_nobody_it_is_the_client(header: bytes) -> None:
    async with serving(behind()) as rig:
        found = told(rig, await started(rig, header))
        ip, port = rig.clients[0].getsockname()
        assert (found[b"TCPREMOTEIP"], found[b"TCPREMOTEPORT"]) == (ip.encode(), b"%d" % port)
        assert found[b"TCPLOCALPORT"] == b"%d" % rig.addresses["s"][0][1]


@pytest.mark.parametrize("header", [LINE, v1("2001:db8::7", "2001:db8::1"), tcp4(ssl())])
@in_uvloop
async def test_a_header_may_come_byte_by_byte(header: bytes) -> None:
    async with serving(behind()) as rig:
        client = rig.connect("s")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(header)):
            client.send(header[place : place + 1])
            await rig.turn()
        client.send(b"first words")
        (connection,) = await rig.starts(1)
        assert os.get_blocking(rig.launchers[0].starts[connection][1])
        assert sent_on(rig, connection) == b"first words"


async def test_rules_and_rates_apply_to_the_client() -> None:
    rules = (deny("203.0.113.0/24"),)
    rate = Rate(count=1, seconds=3600.0, burst=1)
    async with serving(behind(rules=rules, rate_per_ip=rate)) as rig:
        for source in ("203.0.113.9", CLIENT, CLIENT, "192.0.2.8"):
            rig.connect("s").send(v1(source, "198.51.100.1"))
        assert await received(rig.clients[0]) == b"go away"
        assert [item["reason"] for item in await refused(rig, 2)] == ["denied", "rate_per_ip"]
        assert len(await rig.starts(2)) == 2


@pytest.mark.parametrize(
    ("junk", "detail"),
    [
        (b"EHLO spoofer\r\n", "no PROXY header"),
        (LINE[:-2] + b"\n", "CR LF"),
        (SIGNATURE + b"\x21\x11\xff\xff", "at most"),
        (v2(addresses(CLIENT, "198.51.100.1"), 0x12), "family"),
    ],
)
async def test_a_balancer_without_a_header_is_refused_with_the_reason(junk: bytes, detail: str) -> None:
    async with serving(behind(refuse_message="not this, it is for clients over a limit")) as rig:
        client = rig.connect("s")
        client.send(junk)
        (event,) = await refused(rig)
        assert event["reason"] == "proxy_header"
        assert detail in event["detail"]
        assert rig.sessions("s").counts.refused == {"proxy_header": 1}


async def test_a_version_that_is_not_wanted_is_refused() -> None:
    async with serving(behind(proxy={"versions": (2,)})) as rig:
        rig.connect("s").send(LINE)
        assert "version 1" in (await refused(rig))[0]["detail"]


async def test_a_silent_balancer_is_refused_after_its_time() -> None:
    async with serving(behind(proxy={"timeout": 0.05})) as rig:
        rig.connect("s").send(LINE[:9])
        assert "0.05s" in (await refused(rig))[0]["detail"]


async def test_a_balancer_that_ends_within_its_header_is_refused() -> None:
    async with serving(behind()) as rig:
        client = rig.connect("s")
        client.send(LINE[:9])
        client.shutdown(socket.SHUT_WR)
        assert "ended" in (await refused(rig))[0]["detail"]


@pytest.mark.parametrize("how", ["local", "closed", "reset"])
async def test_health_checks_have_no_program_and_a_count_of_their_own(how: str) -> None:
    async with serving(behind()) as rig:
        client = rig.connect("s")
        if how == "local":
            client.send(v2(b"", 0x00, command=0x20))
        elif how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if how != "local":
            client.close()
        await rig.until(lambda: rig.named("health_check"))
        assert rig.sessions("s").counts.refused == {"health_check": 1}
        assert not rig.named("connection_refused")
        assert not rig.launchers[0].starts


@pytest.mark.parametrize("others", ["refuse", "direct"])
async def test_others_are_refused_or_served_as_they_are(others: str) -> None:
    async with serving(behind(proxy={"others": others})) as rig:
        client = rig.connect("s", source="127.0.0.2")
        client.send(LINE)
        if others == "refuse":
            assert (await refused(rig))[0]["reason"] == "not_proxied"
        else:
            (connection,) = await rig.starts(1)
            assert told(rig, connection)[b"TCPREMOTEIP"] == b"127.0.0.2"
            assert b"UCSPID_PROXY_IP" not in told(rig, connection)
            assert sent_on(rig, connection) == LINE


async def test_no_more_are_accepted_than_may_wait_for_their_header() -> None:
    async with serving(behind(proxy={"max_pending": 2})) as rig:
        for _ in range(3):
            rig.connect("s")
        await rig.comes_true(lambda: rig.service("s").acceptor.held is Hold.HANDSHAKES)
        assert rig.accepted == 2
        assert rig.service("s").acceptor.waits_in_vain() is None
        rig.clients[0].send(LINE)
        await rig.comes_true(lambda: rig.accepted == 3)
        for client in rig.clients[1:]:
            client.send(v1("192.0.2.8", "198.51.100.1"))
        first, _ = await rig.starts(2)
        rig.launchers[0].started(first)
        rig.launchers[0].exited(first)
        assert first not in await rig.starts(2)


async def test_a_connection_waits_under_the_plan_that_it_met() -> None:
    async with serving(behind()) as rig:
        client = rig.connect("s")
        await rig.comes_true(lambda: rig.service("s").pipeline.pending)
        rig.asked.clear()
        rig.plan(settings("s"))
        assert "settled" not in rig.asked
        client.send(LINE)
        (connection,) = await rig.starts(1)
        assert told(rig, connection)[b"TCPREMOTEIP"] == CLIENT.encode()
        rig.launchers[0].started(connection)
        await rig.until(lambda: "settled" in rig.asked)


async def test_a_service_that_goes_refuses_who_waits() -> None:
    async with serving(behind(), settings("other")) as rig:
        client = rig.connect("s")
        await rig.comes_true(lambda: rig.service("s").pipeline.pending)
        rig.plan(settings("other"))
        assert await received(client) == b""
        assert [event["reason"] for event in await refused(rig)] == ["closed"]


async def test_a_full_service_queues_clients_whose_header_has_come() -> None:
    async with serving(behind(max_connections=1)) as rig:
        for source in (CLIENT, "192.0.2.8"):
            rig.connect("s").send(v1(source, "198.51.100.1"))
        (first,) = await rig.starts(1)
        rig.launchers[0].started(first)
        rig.launchers[0].exited(first)
        (second,) = await rig.starts(1)
        assert {told(rig, each)[b"TCPREMOTEIP"] for each in (first, second)} == {
            CLIENT.encode(),
            b"192.0.2.8",
        }
