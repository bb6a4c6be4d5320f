import asyncio
import errno
import itertools
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from inprocess import Rig, received, serving, settings
from ucspid.admission.acceptor import BATCH, Hold
from ucspid.plan import Rate
from ucspid.policy.backoff import FIRST_PAUSE, THRESHOLD
from ucspid.spawn import IN_FLIGHT

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

one_at_a_time: Callable[..., Any] = partial(settings, max_connections=1)


async def end_one(rig: Rig) -> None:
    """Have a launcher start what came first, and end it."""
    await rig.starts(1)
    launcher = next(launcher for launcher in rig.launchers if launcher.starts)
    connection = next(iter(launcher.starts))
    launcher.started(connection)
    launcher.exited(connection)


async def end_until(rig: Rig, accepted: int) -> None:
    """End sessions as they come, until so many connections in all have been accepted and have ended."""
    while rig.accepted < accepted or rig.server.limits.live:
        await end_one(rig)
        await served(rig, len(rig.named("connection_served")) + 1)


async def served(rig: Rig, count: int) -> None:
    await rig.until(lambda: len(rig.named("connection_served")) >= count)


async def failed(rig: Rig, count: int) -> None:
    await rig.until(lambda: len(rig.named("connection_failed")) == count)


async def has_accepted(rig: Rig, count: int) -> None:
    await rig.until(lambda: rig.accepted == count)


def ports(rig: Rig, name: str) -> list[int]:
    return [session.port for session in rig.service(name).sessions.values()]


def port(client: socket.socket) -> int:
    number: int = client.getsockname()[1]
    return number


@contextmanager
def no_descriptors(left: int = 0) -> Iterator[None]:
    """Leave this process with so many free descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(left + 1)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_client_over_the_limit_waits_in_the_backlog_until_a_session_ends() -> None:
    async with serving(one_at_a_time("a")) as rig:
        rig.connect("a")
        second = rig.connect("a")
        await rig.starts(1)
        assert rig.service("a").gate.held is Hold.FULL
        assert rig.service("a").counts.accepted == 1
        await end_one(rig)
        await rig.until(lambda: rig.service("a").counts.accepted == 2)
        assert ports(rig, "a") == [port(second)]
        await end_until(rig, 2)
        assert rig.service("a").gate.held is None


async def test_a_refused_client_gets_the_message_and_the_end() -> None:
    async with serving(one_at_a_time("a", on_full="refuse", refuse_message="421 full\r\n")) as rig:
        rig.connect("a")
        await rig.starts(1)
        second = rig.connect("a")
        second.send(b"EHLO me\r\n")
        assert await received(second) == b"421 full\r\n"
        assert rig.service("a").counts.refused == {"full": 1}
        await end_until(rig, 2)


async def test_services_that_wait_for_the_daemon_take_turns() -> None:
    names = ("a", "b", "c")
    async with serving(*(settings(name) for name in names), max_connections=1) as rig:
        for name in names * 3:
            rig.connect(name)
        order = []
        for count in range(1, 10):
            await has_accepted(rig, count)
            order += [name for name in names if rig.service(name).sessions]
            await end_one(rig)
        await rig.until(lambda: not rig.server.limits.live)
        # The first to come is the first to wait as well: others can only wait once they have come.
        assert sorted(order[1:4]) == [*names]
        assert order[1:7] == order[1:4] * 2


async def test_a_service_that_waits_through_reloads_waits_once() -> None:
    planned = settings("a"), settings("b")
    async with serving(*planned, max_connections=1) as rig:
        for name in ("a", "a", "b"):
            rig.connect(name)
        await rig.starts(1)
        for _ in range(5):
            rig.plan(*planned, max_connections=1)
        assert list(rig.server._turns._gates) == [rig.service("a").gate, rig.service("b").gate]
        await end_until(rig, 3)


async def test_listeners_of_a_service_take_turns() -> None:
    async with serving(one_at_a_time("a"), listeners=2) as rig:
        clients = {port(rig.connect("a", listener=listener)): listener for listener in (0, 0, 0, 1, 1, 1)}
        order = []
        for count in range(1, 7):
            await has_accepted(rig, count)
            order += [clients[number] for number in ports(rig, "a")]
            await end_one(rig)
        await rig.until(lambda: not rig.server.limits.live)
        assert order in ([0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0])


async def test_a_batch_of_one_listener_lets_another_service_have_its_turn() -> None:
    async with serving(settings("a"), settings("b"), listeners=1) as rig:
        for _ in range(BATCH):
            rig.launcher()
        for _ in range(2 * BATCH):
            rig.connect("a")
        rig.connect("b")
        await rig.until(lambda: rig.service("b").counts.accepted == 1)
        (turn,) = rig.service("b").sessions
        assert sum(connection < turn for connection in rig.service("a").sessions) <= BATCH
        await end_until(rig, 2 * BATCH + 1)


async def test_services_that_wait_for_launchers_go_on_when_starts_are_answered() -> None:
    async with serving(settings("a"), settings("b")) as rig:
        for _ in range(IN_FLIGHT):
            rig.connect("a")
            rig.connect("b")
        await rig.starts(IN_FLIGHT)
        held = [service.gate.held for service in rig.server.all_services()]
        assert Hold.LAUNCHERS in held
        assert sum(service.counts.accepted for service in rig.server.all_services()) == IN_FLIGHT
        assert rig.asked == ["more"]
        await end_until(rig, 2 * IN_FLIGHT)
        assert {service.counts.accepted for service in rig.server.all_services()} == {IN_FLIGHT}


async def test_a_rate_delays_and_loses_nobody() -> None:
    rate = Rate(count=1, seconds=0.05, burst=1)
    async with serving(settings("a", rate=rate)) as rig:
        rig.launcher()
        clients = [rig.connect("a") for _ in range(3)]
        await rig.starts(1)
        assert rig.service("a").gate.held is Hold.RATE
        await rig.starts(3)
        assert ports(rig, "a") == [port(client) for client in clients]
        began = [session.began for session in rig.service("a").sessions.values()]
        assert all(later - earlier > 0.049 for earlier, later in itertools.pairwise(began))
        await end_until(rig, 3)


async def test_a_program_that_cannot_be_started_throttles_its_service_only() -> None:
    async with serving(settings("bad"), settings("good")) as rig:
        for count in range(1, THRESHOLD + 1):
            client = rig.connect("bad")
            (connection,) = await rig.starts(1)
            rig.launchers[0].failed(connection, errno.ENOENT)
            assert await received(client) == b""
            await failed(rig, count)
        assert rig.service("bad").throttle.throttled
        rig.connect("bad")
        rig.connect("good")
        await rig.starts(1)
        assert rig.service("good").counts.accepted == 1
        assert rig.service("bad").counts.failed == {"ENOENT": THRESHOLD}
        assert len(rig.named("service_throttled")) == 1
        await end_one(rig)
        await rig.until(lambda: not rig.server.limits.live)


async def test_clients_that_are_exempt_count_one_by_one_when_their_programs_fail() -> None:
    async with serving(settings("a", exempt=("127.0.0.0/8",))) as rig:
        for number in range(1, THRESHOLD + 1):
            rig.connect("a", f"127.0.0.{number}")
        for _ in range(THRESHOLD):
            (connection, *_others) = await rig.starts(1)
            rig.launchers[0].started(connection)
            rig.launchers[0].exited(connection, 111 << 8)
        await rig.until(lambda: rig.named("service_throttled"))


async def test_a_client_that_resets_before_it_is_accepted_leaves_no_slot() -> None:
    async with serving(one_at_a_time("a")) as rig:
        client = rig.connect("a")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client.close()
        rig.connect("a")
        await end_until(rig, 2)
        assert rig.service("a").limits.live == 0


async def test_a_launcher_that_takes_nothing_costs_the_client_its_connection_and_nobody_a_slot() -> None:
    async with serving(one_at_a_time("a")) as rig:
        broken = rig.launchers.pop()
        asyncio.get_running_loop().remove_reader(broken._channel.fileno())
        rig.server.launchers[1]._channel.sock.shutdown(socket.SHUT_WR)
        clients = [rig.connect("a") for _ in range(3)]
        assert [await received(client) for client in clients] == [b""] * 3
        await rig.until(lambda: len(rig.named("connection_failed")) == 3)
        assert rig.service("a").counts.failed == {"EPIPE": 3}
        broken.close()


async def test_starts_that_fail_at_once_in_hundreds_of_waiting_services_do_not_pile_up() -> None:
    names = [f"s{number}" for number in range(300)]
    async with serving(*(settings(name) for name in names), max_connections=1) as rig:
        for name in names:
            rig.connect(name)
        await rig.starts(1)
        sock = rig.server.launchers[1]._channel.sock
        rig.launchers[0].started(next(iter(rig.launchers[0].starts)))
        rig.launchers[0].exited(next(iter(rig.launchers[0].starts)))
        asyncio.get_running_loop().remove_reader(rig.launchers[0]._channel.fileno())
        sock.shutdown(socket.SHUT_WR)
        await rig.until(lambda: len(rig.named("connection_failed")) == len(names) - 1)
        await rig.until(lambda: not rig.server.limits.live)


async def test_without_descriptors_one_client_is_sent_away_and_the_rest_wait() -> None:
    async with serving(settings("a")) as rig:
        clients = [rig.connect("a") for _ in range(3)]
        with no_descriptors():
            await rig.until(lambda: len(rig.named("accept_failed")) == 2)
            assert rig.service("a").gate.held is Hold.ACCEPT
        pauses = [item["pause"] for item in rig.named("accept_failed")]
        assert pauses == [0.1, 0.2]
        assert {item["reason"] for item in rig.named("accept_failed")} == {os.strerror(errno.EMFILE)}
        assert [await received(client) for client in clients[:2]] == [b""] * 2
        assert len(rig.named("connection_dropped")) == 2
        assert rig.service("a").counts.failed == {"descriptors": 2}
        await end_until(rig, 3)
        assert rig.service("a").counts.served == 1


HELD: dict[Hold, dict[str, Any]] = {
    Hold.FULL: {"max_connections": 1},
    Hold.RATE: {"rate": Rate(count=1, seconds=0.02, burst=1)},
    Hold.DAEMON_FULL: {},
    Hold.LAUNCHERS: {},
}


@pytest.mark.parametrize("reason", HELD)
@pytest.mark.parametrize("way", ["the same", "removed and added", "other settings"])
async def test_a_reload_of_a_service_that_is_held_loses_nobody(reason: Hold, way: str) -> None:
    planned = settings("a", **HELD[reason]), settings("b")
    most = 1 if reason is Hold.DAEMON_FULL else 1000
    async with serving(*planned, max_connections=most) as rig:
        for _ in range(IN_FLIGHT + 2):
            rig.connect("a")
        await rig.starts(1)
        assert rig.service("a").gate.held is reason
        accepted = rig.service("a").counts.accepted
        if way == "removed and added":
            rig.plan(planned[1], max_connections=most)
            assert rig.service("a").gate.held is Hold.CLOSED
            rig.plan(*planned, max_connections=most)
            for _ in range(IN_FLIGHT + 2 - accepted):
                rig.connect("a")
        else:
            changed = {"max_per_ip": 1000} if way == "other settings" else {}
            rig.plan(settings("a", **HELD[reason], **changed), planned[1], max_connections=most)
        rig.connect("b")
        await end_until(rig, IN_FLIGHT + 3)
        assert rig.service("a").gate.held in (None, Hold.RATE)
        assert rig.service("b").counts.served == 1


async def test_a_reload_without_descriptors_loses_nobody_who_waits() -> None:
    async with serving(settings("a")) as rig:
        rig.connect("a")
        rig.connect("a")
        with no_descriptors():
            await rig.until(lambda: rig.named("accept_failed"))
            rig.plan(settings("a"))
            assert rig.service("a").gate.held is Hold.ACCEPT
        await end_until(rig, 2)
        assert len(rig.named("connection_dropped")) == 2 - rig.service("a").counts.served


async def test_a_reload_does_not_end_the_pause_of_a_service_that_is_throttled() -> None:
    async with serving(settings("a")) as rig:
        for _ in range(THRESHOLD):
            rig.service("a").throttle.cannot_start(time.monotonic())
        rig.connect("a")
        rig.plan(settings("a"))
        assert rig.service("a").gate.held is Hold.THROTTLED
        began = time.monotonic()
        await end_until(rig, 1)
        assert time.monotonic() - began > 0.9 * FIRST_PAUSE
        assert rig.named("service_recovered")


async def test_a_service_that_goes_while_it_is_held_ends_with_its_last_session() -> None:
    async with serving(one_at_a_time("a"), settings("b")) as rig:
        rig.connect("a")
        waiting = rig.connect("a")
        await rig.starts(1)
        rig.plan(settings("b"))
        with pytest.raises(ConnectionResetError):
            await received(waiting)
        assert [service.name for service in rig.server.all_services()] == ["b", "a"]
        await end_one(rig)
        await rig.until(lambda: not rig.server.limits.live)
        assert [service.name for service in rig.server.all_services()] == ["b"]


async def test_a_drain_takes_nobody_in_who_waits() -> None:
    async with serving(one_at_a_time("a")) as rig:
        rig.connect("a")
        rig.connect("a")
        await rig.starts(1)
        rig.server.drain(at_once=False)
        await end_one(rig)
        await rig.until(lambda: "drained" in rig.asked)
        assert rig.service("a").counts.accepted == 1
        assert rig.named("drained")
