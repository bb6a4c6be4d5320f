import errno
import gc
import itertools
import os
import socket
import struct
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from inprocess import Rig, received, serving, settings
from leaks import no_descriptors
from ucspid.admission import fullness
from ucspid.admission.acceptor import BATCH
from ucspid.admission.obstacles import Hold
from ucspid.launcher.serve import IN_FLIGHT
from ucspid.plan import Rate, Throttling

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
    while rig.accepted < accepted or rig.server.services.limits.live:
        await end_one(rig)
        await served(rig, len(rig.named("connection_served")) + 1)


async def served(rig: Rig, count: int) -> None:
    await rig.until(lambda: len(rig.named("connection_served")) >= count)


async def failed(rig: Rig, count: int) -> None:
    await rig.until(lambda: len(rig.named("connection_failed")) == count)


async def has_accepted(rig: Rig, count: int) -> None:
    await rig.until(lambda: rig.accepted == count)


def ports(rig: Rig, name: str) -> list[int]:
    return [session.port for session in rig.sessions(name).by_number.values()]


def port(client: socket.socket) -> int:
    number: int = client.getsockname()[1]
    return number


async def test_a_client_over_the_limit_waits_in_the_backlog_until_a_session_ends() -> None:
    async with serving(one_at_a_time("a")) as rig:
        rig.connect("a")
        second = rig.connect("a")
        await rig.starts(1)
        assert rig.service("a").acceptor.held is Hold.FULL
        assert rig.sessions("a").counts.accepted == 1
        await end_one(rig)
        await rig.until(lambda: rig.sessions("a").counts.accepted == 2)
        assert ports(rig, "a") == [port(second)]
        await end_until(rig, 2)
        assert rig.service("a").acceptor.held is None


async def test_a_refused_client_gets_the_message_and_the_end() -> None:
    async with serving(one_at_a_time("a", on_full="refuse", refuse_message="421 full\r\n")) as rig:
        rig.connect("a")
        await rig.starts(1)
        second = rig.connect("a")
        second.send(b"EHLO me\r\n")
        assert await received(second) == b"421 full\r\n"
        assert rig.sessions("a").counts.refused == {"full": 1}
        await end_until(rig, 2)


async def test_services_that_wait_for_the_daemon_take_turns() -> None:
    names = ("a", "b", "c")
    async with serving(*(settings(name) for name in names), max_connections=1) as rig:
        for name in names * 3:
            rig.connect(name)
        order = []
        for count in range(1, 10):
            await has_accepted(rig, count)
            order += [name for name in names if rig.sessions(name).by_number]
            await end_one(rig)
        await rig.until(lambda: not rig.server.services.limits.live)
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
        assert list(rig.server.services.turns.waiting) == [
            rig.service("a").acceptor,
            rig.service("b").acceptor,
        ]
        await end_until(rig, 3)


async def test_listeners_of_a_service_take_turns() -> None:
    async with serving(one_at_a_time("a"), listeners=2) as rig:
        clients = {port(rig.connect("a", listener=listener)): listener for listener in (0, 0, 0, 1, 1, 1)}
        order = []
        for count in range(1, 7):
            await has_accepted(rig, count)
            order += [clients[number] for number in ports(rig, "a")]
            await end_one(rig)
        await rig.until(lambda: not rig.server.services.limits.live)
        assert order in ([0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0])


async def test_a_batch_of_one_listener_lets_another_service_have_its_turn() -> None:
    async with serving(settings("a"), settings("b"), listeners=1) as rig:
        for _ in range(BATCH):
            rig.launcher()
        for _ in range(2 * BATCH):
            rig.connect("a")
        rig.connect("b")
        await rig.until(lambda: rig.sessions("b").counts.accepted == 1)
        (turn,) = rig.sessions("b").by_number
        assert sum(connection < turn for connection in rig.sessions("a").by_number) <= BATCH
        await end_until(rig, 2 * BATCH + 1)


async def test_services_that_wait_for_launchers_go_on_when_starts_are_answered() -> None:
    async with serving(settings("a"), settings("b")) as rig:
        for _ in range(IN_FLIGHT):
            rig.connect("a")
            rig.connect("b")
        await rig.starts(IN_FLIGHT)
        held = [service.acceptor.held for service in rig.server.services.by_number.values()]
        assert Hold.LAUNCHERS in held
        assert sum(service.counts.accepted for service in rig.server.services.all_sessions()) == IN_FLIGHT
        assert rig.asked.count("more") == 1
        await end_until(rig, 2 * IN_FLIGHT)
        assert {service.counts.accepted for service in rig.server.services.all_sessions()} == {IN_FLIGHT}


async def test_a_rate_delays_and_loses_nobody() -> None:
    rate = Rate(count=1, seconds=0.05, burst=1)
    async with serving(settings("a", rate=rate)) as rig:
        rig.launcher()
        clients = [rig.connect("a") for _ in range(3)]
        await rig.starts(1)
        assert rig.service("a").acceptor.held is Hold.RATE
        await rig.starts(3)
        assert ports(rig, "a") == [port(client) for client in clients]
        began = [session.began for session in rig.sessions("a").by_number.values()]
        assert all(later - earlier > 0.049 for earlier, later in itertools.pairwise(began))
        await end_until(rig, 3)


async def test_a_program_that_cannot_be_started_throttles_its_service_only() -> None:
    slow = Throttling(interval=1000.0)
    async with serving(settings("bad", throttle=slow), settings("good")) as rig:
        for count in range(1, Throttling().failures + 1):
            client = rig.connect("bad")
            (connection,) = await rig.starts(1)
            rig.launchers[0].failed(connection, errno.ENOENT)
            assert await received(client) == b""
            await failed(rig, count)
        assert rig.service("bad").throttle.throttled
        (event,) = rig.named("service_throttled")
        assert (event["cause"], event["interval"]) == (os.strerror(errno.ENOENT), 1000.0)
        rig.connect("bad")
        rig.connect("good")
        await rig.starts(1)
        assert rig.sessions("good").counts.accepted == 1
        assert rig.sessions("bad").counts.failed == {"ENOENT": Throttling().failures}
        assert len(rig.named("service_throttled")) == 1
        await end_one(rig)
        await rig.until(lambda: not rig.server.services.limits.live)


@pytest.mark.parametrize("status", [111 << 8, 126 << 8, 127 << 8, 1 << 8, 11])
async def test_what_programs_make_of_their_clients_slows_no_service(status: int) -> None:
    async with serving(settings("a")) as rig:
        for count in range(1, 31):
            rig.connect("a", f"127.0.0.{count}")
            (connection,) = await rig.starts(1)
            rig.launchers[0].started(connection)
            rig.launchers[0].exited(connection, status)
            await served(rig, count)
        assert not rig.named("service_throttled")
        assert rig.service("a").acceptor.held is None


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
        broken.take_nothing()
        clients = [rig.connect("a") for _ in range(3)]
        assert [await received(client) for client in clients] == [b""] * 3
        await rig.until(lambda: len(rig.named("connection_failed")) == 3)
        assert rig.sessions("a").counts.failed == {"EPIPE": 3}
        broken.close()


async def test_starts_that_fail_at_once_in_hundreds_of_waiting_services_do_not_pile_up() -> None:
    names = [f"s{number}" for number in range(300)]
    async with serving(*(settings(name) for name in names), max_connections=1) as rig:
        for name in names:
            rig.connect(name)
        await rig.starts(1)
        rig.launchers[0].started(next(iter(rig.launchers[0].starts)))
        rig.launchers[0].exited(next(iter(rig.launchers[0].starts)))
        rig.launchers[0].take_nothing()
        await rig.until(lambda: len(rig.named("connection_failed")) == len(names) - 1)
        await rig.until(lambda: not rig.server.services.limits.live)


@pytest.mark.slow
async def test_without_descriptors_one_client_is_sent_away_and_the_rest_wait() -> None:
    async with serving(settings("a")) as rig:
        clients = {"{}:{}".format(*client.getsockname()): client for client in map(rig.connect, "a" * 8)}
        with no_descriptors():
            await rig.until(lambda: len(rig.named("accept_failed")) >= 2)
            assert rig.service("a").acceptor.held is Hold.ACCEPT
        pauses = [item["pause"] for item in rig.named("accept_failed")]
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6][: len(pauses)]  # more than two if others use the CPUs
        assert {item["reason"] for item in rig.named("accept_failed")} == {os.strerror(errno.EMFILE)}
        dropped = len(pauses)
        sent_away = [item["remote"] for item in rig.named("connection_dropped")]
        assert len(sent_away) == dropped
        assert [await received(clients[remote]) for remote in sent_away] == [b""] * dropped
        assert rig.sessions("a").counts.failed == {"descriptors": dropped}
        await end_until(rig, len(clients))
        assert rig.sessions("a").counts.served == len(clients) - dropped


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
        assert rig.service("a").acceptor.held is reason
        accepted = rig.sessions("a").counts.accepted
        if way == "removed and added":
            rig.plan(planned[1], max_connections=most)
            assert list(rig.server.services.served().values()) == ["b"]
            rig.plan(*planned, max_connections=most)
            for _ in range(IN_FLIGHT + 2 - accepted):
                rig.connect("a")
        else:
            changed = {"max_per_ip": 1000} if way == "other settings" else {}
            rig.plan(settings("a", **HELD[reason], **changed), planned[1], max_connections=most)
        rig.connect("b")
        await end_until(rig, IN_FLIGHT + 3)
        assert rig.service("a").acceptor.held in (None, Hold.RATE)
        assert rig.sessions("b").counts.served == 1


async def test_a_reload_without_descriptors_loses_nobody_who_waits() -> None:
    async with serving(settings("a")) as rig:
        rig.connect("a")
        rig.connect("a")
        with no_descriptors():
            await rig.until(lambda: rig.named("accept_failed"))
            rig.plan(settings("a"))
            assert rig.service("a").acceptor.held is Hold.ACCEPT
        await end_until(rig, 2)
        assert len(rig.named("connection_dropped")) == 2 - rig.sessions("a").counts.served


SLOW = Throttling(failures=2, interval=0.05)


async def throttled(rig: Rig, name: str) -> None:
    """Have starts of a service fail until it is slowed."""
    for _ in range(SLOW.failures):
        rig.connect(name)
        (connection,) = await rig.starts(1)
        rig.launchers[0].failed(connection)
        await rig.until(lambda: not rig.launchers[0].starts and not rig.sessions(name).by_number)
    assert rig.named("service_throttled")[-1]["cause"] == os.strerror(errno.ENOENT)


async def test_a_slowed_service_goes_on_accepting_and_serves_in_order_when_it_works_again() -> None:
    async with serving(settings("a", throttle=SLOW)) as rig:
        await throttled(rig, "a")
        for source in range(1, 5):
            rig.connect("a", f"127.0.0.{source}")
        began = time.monotonic()
        for _ in range(2):
            (connection,) = await rig.starts(1)
            rig.launchers[0].failed(connection)
            await rig.until(lambda: not rig.sessions("a").by_number)
        assert time.monotonic() - began > 1.5 * SLOW.interval
        (connection,) = await rig.starts(1)
        rig.launchers[0].started(connection)
        rig.launchers[0].exited(connection)
        await rig.until(lambda: rig.named("service_recovered"))
        await end_until(rig, SLOW.failures + 4)
        sources = [item["remote"].split(":")[0] for item in rig.named("connection_served")]
        assert sources == ["127.0.0.3", "127.0.0.4"]
        assert rig.service("a").acceptor.held is None


async def test_a_reload_ends_the_throttling() -> None:
    slow = Throttling(failures=2, interval=1000.0)
    async with serving(settings("a", throttle=slow)) as rig:
        await throttled(rig, "a")
        rig.connect("a")
        assert rig.service("a").throttle.throttled
        rig.plan(settings("a", throttle=slow))
        await end_until(rig, SLOW.failures + 1)
        assert not rig.service("a").throttle.throttled


async def test_a_service_that_goes_while_it_is_held_ends_with_its_last_session() -> None:
    async with serving(one_at_a_time("a"), settings("b")) as rig:
        rig.connect("a")
        waiting = rig.connect("a")
        await rig.starts(1)
        rig.plan(settings("b"))
        with pytest.raises(ConnectionResetError):
            await received(waiting)
        assert [sessions.name for sessions in rig.server.services.all_sessions()] == ["b", "a"]
        await end_one(rig)
        await rig.until(lambda: not rig.server.services.limits.live)
        assert [sessions.name for sessions in rig.server.services.all_sessions()] == ["b"]


async def test_a_drain_takes_nobody_in_who_waits() -> None:
    async with serving(one_at_a_time("a")) as rig:
        rig.connect("a")
        rig.connect("a")
        await rig.starts(1)
        rig.server.drain(at_once=False)
        await end_one(rig)
        await rig.until(lambda: "drained" in rig.asked)
        assert rig.sessions("a").counts.accepted == 1
        assert rig.named("drained")


async def test_a_service_at_its_limit_is_full_once_and_has_room_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fullness, "ROOM_FOR", 0.05)
    async with serving(settings("s", max_connections=1)) as rig:
        launcher = rig.launchers[0]
        for _ in range(3):
            client = rig.connect("s")
            (connection,) = await rig.starts(1)
            launcher.started(connection)
            waiting = rig.connect("s")
            await rig.comes_true(lambda: rig.service("s").acceptor.held is Hold.FULL)
            launcher.exited(connection)
            assert await received(client) == b""
            (connection,) = await rig.starts(1)
            launcher.started(connection)
            launcher.exited(connection)
            assert await received(waiting) == b""
        await rig.until(lambda: rig.named("service_has_room"))
        full, room = len(rig.named("service_full")), len(rig.named("service_has_room"))
        assert 0 <= full - room <= 1
        assert rig.named("service_has_room")[0]["seconds"] >= 0
        await rig.until(lambda: len(rig.named("service_has_room")) == len(rig.named("service_full")))


async def test_a_full_daemon_is_said_to_be_what_is_full() -> None:
    async with serving(settings("a"), settings("b"), max_connections=1) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        rig.connect("b")
        await rig.until(lambda: rig.named("service_full"))
        assert {item["hold"] for item in rig.named("service_full")} == {"daemon_full"}
        rig.launchers[0].started(connection)
        rig.launchers[0].exited(connection)
        (connection,) = await rig.starts(1)
        rig.launchers[0].started(connection)
        rig.launchers[0].exited(connection)
        await rig.comes_true(lambda: not rig.server.services.live)


@pytest.mark.slow
async def test_a_service_that_nobody_uses_takes_less_than_5_kilobytes() -> None:
    many = [settings(f"s{number}") for number in range(300)]
    async with serving(settings("a")) as rig:
        gc.collect()
        tracemalloc.start()
        try:
            rig.plan(settings("a"), *many)
            await rig.comes_true(lambda: all(rig.service(item.name).acceptor.held is None for item in many))
            gc.collect()
            taken, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert taken / len(many) < 5000
