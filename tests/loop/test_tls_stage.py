"""TLS as the loop sees it: the socket goes to a process, and what comes back is one end of a pair."""

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

from inprocess import received, settings
from proxy_headers import v1
from tls_processes import TlsRig, secured, tls_of, tls_serving
from ucspid.admission import tls_channels
from ucspid.admission.obstacles import Hold
from ucspid.admission.stages import tls_handshake
from ucspid.ipc import messages as wire
from ucspid.plan import Proxy, RuleSpec
from ucspid.policy.tls_context import context_number

HELLO = b"\x16\x03\x01 hello"


def rule(pattern: str, **changed: Any) -> RuleSpec:
    """Return a rule that denies, unless the test says otherwise."""
    usual: dict[str, Any] = {
        "verdict": "deny", "env": (), "max_per_ip": None, "rate_per_ip": None,
        "message": "go away", "where": "f:1",
    }  # fmt: skip
    return RuleSpec(from_=(pattern,), **{**usual, **changed})


async def through(tls: TlsRig, connection: int, text: bytes) -> None:
    """Assert that a program is at the other end of a handshake's pair."""
    handshake = next(p.handshakes[connection] for p in tls.processes if connection in p.handshakes)
    handshake.program.send(text)
    with socket.socket(fileno=os.dup(tls.rig.launchers[0].starts[connection][1])) as program:
        program.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(program, 100) == text


# A handshake that succeeds


async def test_the_program_gets_one_end_of_a_pair_when_the_handshake_is_done() -> None:
    async with tls_serving(secured("s")) as tls:
        client = tls.rig.connect("s")
        client.send(HELLO)
        number, handshake = await tls.handshake()
        order = handshake.order
        assert order == wire.Secure(False, False, 10_000, context_number(tls_of().context), number)
        assert handshake.client.recv(100) == HELLO  # the loop has read nothing
        assert not tls.rig.launchers[0].starts
        tls.processes[0].shaken(number)
        assert await tls.rig.starts(1) == [number]
        await through(tls, number, b"decrypted")
        tls.rig.launchers[0].started(number)
        assert (await started(tls))["tls"] == "TLSv1.3"


async def started(tls: TlsRig) -> dict[str, Any]:
    await tls.rig.until(lambda: tls.rig.named("connection_started"))
    return tls.rig.named("connection_started")[0]


@pytest.mark.parametrize("dialect", ["s6", "ucspi-ssl"])
async def test_the_program_sees_what_the_handshake_has_shown(dialect: str) -> None:
    async with tls_serving(secured("s", tls={"env": dialect})) as tls:
        client = tls.rig.connect("s")
        number, handshake = await tls.handshake()
        assert handshake.order.described is (dialect == "ucspi-ssl")
        tls.processes[0].shaken(number, variables=(b"SSL_PROTOCOL=TLSv1.2", b"SSL_CIPHER=a=b"))
        await tls.rig.starts(1)
        found = tls.variables(number)
        assert (found[b"SSL_PROTOCOL"], found[b"SSL_CIPHER"]) == (b"TLSv1.2", b"a=b")
        own_ip, own_port = client.getsockname()
        port = tls.rig.addresses["s"][0][1]
        assert (found[b"TCPREMOTEIP"], found[b"TCPREMOTEPORT"]) == (own_ip.encode(), b"%d" % own_port)
        assert found[b"TCPLOCALPORT"] == b"%d" % port
        if dialect == "ucspi-ssl":
            assert (found[b"SSLREMOTEIP"], found[b"SSLLOCALPORT"]) == (own_ip.encode(), b"%d" % port)
        assert b"UCSPITLS" not in found


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("sni:mail.example.org", {"sni": "mail.example.org"}),
        ("san:client.example.org", {"names": (b"client.example.org",)}),
        ("sha256:" + "ab" * 32, {"fingerprint": "ab" * 32}),
    ],
)
async def test_rules_about_a_handshake_come_after_it_and_their_message_through_it(
    pattern: str, shown: dict[str, Any]
) -> None:
    async with tls_serving(secured("s", rules=(rule(pattern),))) as tls:
        tls.rig.connect("s")
        number, handshake = await tls.handshake()
        tls.processes[0].shaken(number, **shown)
        assert (await tls.refused())[0]["reason"] == "denied"
        handshake.program.setblocking(False)
        assert await received(handshake.program) == b"go away"
        assert not tls.rig.launchers[0].starts


async def test_rules_by_address_come_before_and_cost_no_handshake() -> None:
    async with tls_serving(secured("s", rules=(rule("127.0.0.1"),))) as tls:
        client = tls.rig.connect("s")
        await tls.refused()
        assert await received(client) == b""  # not in clear: the client would take it for TLS
        assert not tls.processes[0].handshakes


# A handshake that fails


async def test_a_handshake_that_fails_is_refused_with_the_reason_and_nothing_is_sent_in_clear() -> None:
    async with tls_serving(secured("s", refuse_message="busy")) as tls:
        client = tls.rig.connect("s")
        number, _ = await tls.handshake()
        tls.processes[0].failed(number, "no shared cipher")
        (event,) = await tls.refused()
        assert (event["reason"], event["detail"]) == ("tls_failed", "no shared cipher")
        assert await received(client) == b""
        assert tls.rig.sessions("s").counts.refused == {"tls_failed": 1}


async def test_a_process_that_dies_takes_the_handshakes_it_was_at_and_no_others() -> None:
    async with tls_serving(secured("s"), processes=2) as tls:
        clients = [tls.rig.connect("s") for _ in range(2)]
        first, second = tls.processes
        await tls.rig.until(lambda: first.handshakes and second.handshakes)
        first.close()
        (event,) = await tls.refused()
        assert event["detail"] == tls_channels.ENDED
        (left,) = second.handshakes
        second.shaken(left)
        await tls.rig.starts(1)
        ends = [await asyncio.wait_for(received(each), 10) for each in clients if await closed(each)]
        assert ends == [b""]


async def closed(client: socket.socket) -> bool:
    """Return whether a client's connection has been closed; one that is served has nothing to read."""
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


async def test_a_client_waits_until_there_is_a_process() -> None:
    async with tls_serving(secured("s"), processes=0) as tls:
        tls.rig.connect("s")
        await tls.rig.comes_true(lambda: tls.rig.service("s").pipeline.pending)
        tls.process()
        number, _ = await tls.handshake()
        tls.processes[0].shaken(number)
        await tls.rig.starts(1)


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_where_no_process_comes_the_client_is_refused_in_time(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_handshake, "MARGIN", 0.01)
    async with tls_serving(secured("s", mode, {"handshake_timeout": 0.05}), processes=0) as tls:
        tls.rig.connect("s")
        (event,) = await tls.refused()
        assert (event["reason"], event["detail"]) == ("tls_failed", tls_channels.NO_PROCESS)


async def test_a_process_that_does_not_answer_costs_its_client_the_time_of_a_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls_handshake, "MARGIN", 0.01)
    async with tls_serving(secured("s", tls={"handshake_timeout": 0.05})) as tls:
        tls.rig.connect("s")
        (event,) = await tls.refused()
        assert event["reason"] == "tls_failed"
        assert event["detail"] == tls_channels.SILENT
        number, _ = await tls.handshake()
        tls.processes[0].shaken(number)  # too late
        tls.rig.connect("s")
        await tls.rig.until(lambda: len(tls.processes[0].handshakes) == 2)
        assert not tls.rig.launchers[0].starts


# Several processes


async def test_processes_are_used_in_turn_and_the_one_with_the_fewest_handshakes_first() -> None:
    async with tls_serving(secured("s"), processes=3) as tls:

        def had() -> list[int]:
            return [len(process.handshakes) for process in tls.processes]

        for _ in range(6):
            tls.rig.connect("s")
        await tls.rig.until(lambda: sum(had()) == 6)
        assert had() == [2, 2, 2]
        for number in tls.processes[1].handshakes:
            tls.processes[1].shaken(number)
        for number in await tls.rig.starts(2):
            tls.rig.launchers[0].started(number)
        for _ in range(2):
            tls.rig.connect("s")
        await tls.rig.until(lambda: sum(had()) == 8)
        assert had() == [2, 4, 2]


async def test_a_process_that_is_replaced_gets_no_more_and_ends_what_it_is_at() -> None:
    async with tls_serving(secured("s"), processes=2) as tls:
        first, second = tls.processes
        tls.rig.connect("s")
        number, _ = await tls.handshake(first)
        tls.rig.server.tls.remove(1)
        for _ in range(2):
            tls.rig.connect("s")
        await tls.rig.until(lambda: len(second.handshakes) == 2)
        first.shaken(number)
        assert await tls.rig.starts(1) == [number]
        assert len(tls.rig.server.tls.descriptors) == 2
        first.close()
        await tls.rig.comes_true(lambda: len(tls.rig.server.tls.descriptors) == 1)
        tls.rig.server.tls.remove(2)
        tls.rig.connect("s")
        await tls.rig.comes_true(lambda: len(tls.rig.service("s").pipeline.pending) == 3)
        assert len(second.handshakes) == 2


async def test_handshakes_are_bounded_and_the_service_accepts_again_after_them() -> None:
    async with tls_serving(secured("s", tls={"max_handshakes": 2}), secured("other")) as tls:
        for _ in range(4):
            tls.rig.connect("s")
        process = tls.processes[0]
        await tls.rig.until(lambda: len(process.handshakes) == 2)
        await tls.rig.comes_true(lambda: tls.rig.service("s").acceptor.held is Hold.HANDSHAKES)
        assert tls.rig.accepted == 2
        tls.rig.connect("other")
        await tls.rig.until(lambda: len(process.handshakes) == 3)
        first, second, _ = process.handshakes
        process.failed(first, "nonsense")
        process.shaken(second)
        await tls.rig.until(lambda: len(process.handshakes) == 4)
        assert tls.rig.accepted == 5
        assert tls.rig.service("s").acceptor.waits_in_vain() is None


# What no process sends


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff junk",
        bytes([wire.Secured.KIND]),
        bytes([wire.NotSecured.KIND]) + b"\0" * 9,
        wire.Drain().pack(),
        wire.SecureEnd(1, 2, 3, 4, "x").pack()[:-1],
        b"x" * wire.MAX_PACKET,
    ],
)
async def test_a_process_that_sends_junk_is_used_no_more(junk: bytes) -> None:
    async with tls_serving(secured("s")) as tls:
        client = tls.rig.connect("s")
        await tls.handshake()
        tls.processes[0].say(junk)
        await tls.rig.until(lambda: tls.rig.named("tls_broken"))
        (event,) = tls.rig.named("tls_broken")
        assert (event["number"], event["level"]) == (1, "error")
        assert (await tls.refused())[0]["detail"] == tls_channels.ENDED
        await tls.rig.until(lambda: tls.processes[0]._channel.fileno() < 0)
        assert await received(client) == b""
        assert tls.rig.server.tls.descriptors == set()


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_the_master_is_to_look_at_a_process_that_says_nothing_while_connections_wait(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_channels, "SILENCE", 0.05)
    async with tls_serving(secured("s", mode)) as tls:
        tls.rig.connect("s")
        await tls.rig.until(lambda: "tls 1" in tls.rig.asked)


async def test_the_master_need_not_look_at_a_process_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_channels, "SILENCE", 1000)
    heard: list[tls_channels.TlsChannel] = []
    receive = tls_channels.TlsChannel.receive

    def hear(channel: tls_channels.TlsChannel) -> bool:
        heard.append(channel)
        return receive(channel)

    monkeypatch.setattr(tls_channels.TlsChannel, "receive", hear)
    async with tls_serving(secured("s")) as tls:
        clients = [tls.rig.connect("s") for _ in range(2)]
        await tls.rig.until(lambda: len(tls.processes[0].handshakes) == 2)
        tls.processes[0].failed(next(iter(tls.processes[0].handshakes)), "nonsense")
        await tls.refused()
        heard[0].look()
        assert "tls 1" not in tls.rig.asked
        heard[0].look()  # the other still waits, and it has said nothing since
        assert tls.rig.asked.count("tls 1") == 1
        assert len(clients) == 2


async def test_descriptors_that_a_process_sends_are_not_taken() -> None:
    async with tls_serving(secured("s")) as tls:
        before = set(os.listdir("/proc/self/fd"))
        process = tls.processes[0]
        with socket.socket() as sock:
            process._channel.send(wire.NotSecured(1, "x").pack(), (sock.fileno(),))
        await tls.rig.until(lambda: tls.rig.named("tls_broken"))
        await tls.rig.until(lambda: process._channel.fileno() < 0)
        assert set(os.listdir("/proc/self/fd")) <= before


async def test_reports_of_connections_that_no_handshake_waits_for_are_events() -> None:
    async with tls_serving(secured("s")) as tls:
        process = tls.processes[0]
        process.shaken(77, sni="a")
        process.say(wire.NotSecured(78, "nonsense").pack())
        process.say(wire.SecureEnd(1, 79, 10, 20, "").pack())
        process.say(wire.SecureEnd(200, 80, 2**64 - 1, 20, "what").pack())
        await tls.rig.until(lambda: len(tls.rig.named("tls_ended")) == 2)
        assert [item["how"] for item in tls.rig.named("tls_ended")] == ["truncated", "200"]
        assert tls.rig.named("tls_started")[0]["sni"] == "a"
        assert tls.rig.named("tls_not_started")[0]["reason"] == "nonsense"
        assert not tls.rig.named("tls_broken")


async def test_a_handshake_is_answered_once() -> None:
    async with tls_serving(secured("s")) as tls:
        tls.rig.connect("s")
        number, _ = await tls.handshake()
        process = tls.processes[0]
        process.say(wire.NotSecured(number, "first").pack())
        process.shaken(number)
        assert (await tls.refused())[0]["detail"] == "first"
        await tls.rig.until(lambda: tls.rig.named("tls_started"))
        assert not tls.rig.launchers[0].starts


# The service goes, the loop drains, the plan changes


async def test_a_service_that_goes_refuses_who_shakes_hands() -> None:
    async with tls_serving(secured("s"), settings("other")) as tls:
        client = tls.rig.connect("s")
        number, handshake = await tls.handshake()
        tls.rig.plan(settings("other"))
        assert [item["reason"] for item in await tls.refused()] == ["closed"]
        handshake.program.setblocking(False)
        assert await received(handshake.program) == b""  # so the process sees the end
        tls.processes[0].handshakes.pop(number).close()
        assert await received(client) == b""


@pytest.mark.parametrize("grace", [0.0, 10.0])
async def test_at_a_drain_handshakes_have_the_grace_to_end(grace: float) -> None:
    async with tls_serving(secured("s")) as tls:
        tls.rig.connect("s")
        number, _ = await tls.handshake()
        draining = asyncio.create_task(tls.rig.service("s").drain(grace))
        await tls.rig.turn()
        if grace:
            tls.processes[0].shaken(number)
            await tls.rig.starts(1)
        await draining
        refused = [] if grace else ["closed"]
        assert [item["reason"] for item in tls.rig.named("connection_refused")] == refused


@pytest.mark.parametrize("after", ["starttls", "none"])
async def test_a_client_that_has_met_implicit_tls_is_served_so_whatever_comes_meanwhile(after: str) -> None:
    async with tls_serving(secured("s")) as tls:
        tls.rig.connect("s")
        number, _ = await tls.handshake()
        tls.rig.plan(secured("s", "starttls") if after == "starttls" else settings("s"))
        tls.processes[0].shaken(number)
        await tls.rig.starts(1)
        assert tls.variables(number)[b"SSL_PROTOCOL"] == b"TLSv1.3"
        assert b"UCSPITLS" not in tls.variables(number)
        await through(tls, number, b"decrypted")
        assert len(tls.processes[0].handshakes) == 1


async def test_a_client_that_has_met_no_tls_is_served_so_whatever_comes_meanwhile() -> None:
    behind: Any = {"proxy": Proxy(from_=("127.0.0.1",)), "max_connections": 1}
    async with tls_serving(settings("s", **behind)) as tls:
        rig, launcher = tls.rig, tls.rig.launchers[0]
        for _ in range(2):
            rig.connect("s").send(v1("192.0.2.7", "198.51.100.1"))
        (first,) = await rig.starts(1)
        launcher.started(first)
        await rig.comes_true(lambda: rig.service("s").acceptor.queue)
        rig.plan(secured("s", **behind))
        launcher.exited(first)
        (second,) = await rig.starts(1)
        assert b"UCSPITLS" not in tls.variables(second)
        assert not tls.processes[0].handshakes


async def test_a_client_that_has_met_no_tls_can_read_why_it_is_refused_whatever_comes_meanwhile() -> None:
    behind: Any = {"proxy": Proxy(from_=("127.0.0.1",)), "rules": (rule("192.0.2.7"),)}
    async with tls_serving(settings("s", **behind)) as tls:
        client = tls.rig.connect("s")
        await tls.rig.comes_true(lambda: tls.rig.service("s").pipeline.pending)
        tls.rig.plan(secured("s", **behind))
        client.send(v1("192.0.2.7", "198.51.100.1"))
        assert await received(client) == b"go away"


# TLS that the program asks for


async def test_with_starttls_the_program_gets_three_sockets_and_the_process_their_others() -> None:
    async with tls_serving(secured("s", "starttls")) as tls:
        client = tls.rig.connect("s")
        (number,) = await tls.rig.starts(1)
        given, handshake = await tls.handshake()
        assert given == number
        assert handshake.order.starttls
        found = tls.variables(number)
        assert {name: found[name] for name in (b"UCSPITLS", b"SSLCTLFD", b"SSLREADFD", b"SSLWRITEFD")} == {
            b"UCSPITLS": b"1", b"SSLCTLFD": b"3", b"SSLREADFD": b"4", b"SSLWRITEFD": b"4",
        }  # fmt: skip
        assert len(handshake.sockets) == 3
        launcher = tls.rig.launchers[0]
        given_to_it = (launcher.starts[number][1], *launcher.others[number])
        theirs = [socket.socket(fileno=os.dup(each)) for each in given_to_it]
        try:
            assert len(theirs) == 3
            client.send(b"EHLO")
            assert theirs[0].recv(100) == b"EHLO"
            theirs[1].send(b"y")
            assert handshake.sockets[2].recv(1) == b"y"
            handshake.program.send(b"decrypted")
            assert theirs[2].recv(100) == b"decrypted"
        finally:
            for sock in theirs:
                sock.close()
        tls.processes[0].shaken(number)
        await tls.rig.until(lambda: tls.rig.named("tls_started"))


async def test_a_starttls_service_waits_for_a_process_and_refuses_nobody() -> None:
    async with tls_serving(secured("s", "starttls"), processes=0) as tls:
        tls.rig.connect("s")
        await tls.rig.comes_true(lambda: tls.rig.service("s").pipeline.pending)
        tls.process()
        await tls.rig.starts(1)
        await tls.handshake()


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.EMFILE])
async def test_a_connection_that_no_process_can_be_sent_fails_and_has_no_program(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    async with tls_serving(secured("s", "starttls")) as tls:
        monkeypatch.setattr(tls_channels.TlsChannel, "send", send)
        client = tls.rig.connect("s")
        await tls.rig.until(lambda: tls.rig.named("connection_failed"))
        assert await received(client) == b""
        await tls.rig.turn()
        assert not tls.rig.launchers[0].starts
        assert tls.rig.sessions("s").counts.failed == {errno.errorcode[number]: 1}


async def test_a_launcher_that_takes_nothing_gives_the_process_its_end() -> None:
    async with tls_serving(secured("s", "starttls")) as tls:
        tls.rig.launchers[0].take_nothing()
        tls.rig.connect("s")
        _, handshake = await tls.handshake()
        handshake.sockets[2].setblocking(False)
        assert await received(handshake.sockets[2]) == b""


@pytest.mark.parametrize("mode", ["implicit", "starttls"])
async def test_a_process_that_reads_nothing_keeps_nothing_open_in_the_loop(mode: str) -> None:
    """What waited for it would keep its client's socket open, and more, after its program has ended."""
    async with tls_serving(secured("s", mode, max_connections=600, tls={"max_handshakes": 600})) as tls:
        rig, launcher = tls.rig, tls.rig.launchers[0]
        tls.processes[0].hang()
        while not (rig.named("connection_failed") or rig.named("connection_refused")):
            rig.connect("s")
            await rig.comes_true(lambda: rig.accepted == len(rig.clients))
            for number in list(launcher.starts):
                launcher.started(number)
                launcher.exited(number)
            assert len(rig.clients) < 600
        tls.process()
        late = rig.connect("s")
        number, _ = await tls.handshake(tls.processes[1])
        if mode == "implicit":
            tls.processes[1].shaken(number)
        assert await rig.starts(1) == [number]
        launcher.exited(number)
        assert late.getsockname()


async def test_with_starttls_processes_are_used_in_turn() -> None:
    async with tls_serving(secured("s", "starttls"), processes=2) as tls:
        for count in range(1, 5):
            tls.rig.connect("s")
            tls.rig.launchers[0].started((await tls.rig.starts(count))[-1])
        await tls.rig.until(lambda: sum(len(each.handshakes) for each in tls.processes) == 4)
        assert [len(each.handshakes) for each in tls.processes] == [2, 2]
