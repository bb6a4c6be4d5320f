"""What operators ask of a running daemon, in the event loop."""

import asyncio
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from inprocess import Rig, received, serving, settings
from ucspid.admission.connection import Connection
from ucspid.admission.obstacles import Hold
from ucspid.control.operator_verbs import AT_A_TIME, OperatorVerbs
from ucspid.errors import PeerError
from ucspid.observe.log import LogOutput, configure


@pytest.fixture
def output() -> Iterator[LogOutput]:
    reading, writing = os.pipe()
    output = configure(writing, "json", "info")
    yield output
    output.close(5.0)
    os.close(writing)
    os.close(reading)


def verbs(rig: Rig, output: LogOutput) -> OperatorVerbs:
    return OperatorVerbs(rig.server.services, output)


async def begun(rig: Rig, count: int, service: str = "s", source: str = "127.0.0.1") -> list[int]:
    """Have so many sessions run; return their connections."""
    launcher = rig.launchers[0]
    for _ in range(count):
        before = set(launcher.starts)
        rig.connect(service, source)
        (new,) = set(await rig.starts(len(before) + 1)) - before
        launcher.started(new)
        running = rig.sessions(service).by_number[new]
        await rig.comes_true(partial(_has_program, running))
    return list(launcher.starts)


def _has_program(connection: Connection) -> bool:
    return connection.process is not None


def end(rig: Rig) -> None:
    for connection in list(rig.launchers[0].starts):
        rig.launchers[0].exited(connection)


async def test_sessions_are_listed_with_what_is_known_of_them(output: LogOutput) -> None:
    async with serving(settings("s"), settings("t")) as rig:
        (first,) = await begun(rig, 1)
        await begun(rig, 1, "t", "127.0.0.2")
        rig.connect("s", "127.0.0.3")
        await rig.starts(3)
        found = (await verbs(rig, output).sessions({}))["sessions"]
        assert [(item["service"], item["state"]) for item in found] == [
            ("s", "running"), ("s", "starting"), ("t", "running"),
        ]  # fmt: skip
        one = found[0]
        assert (one["conn"], one["pid"]) == (f"{first:x}", first & 0xFFFF)
        assert one["remote"] == "{}:{}".format(*rig.clients[0].getsockname())
        assert one["age"] >= 0
        assert (one["balancer"], one["rule"], one["ending"]) == (None, None, False)
        only = (await verbs(rig, output).sessions({"ip": "127.0.0.2"}))["sessions"]
        assert [item["service"] for item in only] == ["t"]
        rig.launchers[0].started((await rig.starts(3))[-1])
        end(rig)
        await rig.comes_true(lambda: not rig.server.services.live)


async def test_a_bound_list_says_how_many_more_there_are(output: LogOutput) -> None:
    async with serving(settings("s")) as rig:
        await begun(rig, 3)
        answer = await verbs(rig, output).sessions({"most": 2})
        assert (len(answer["sessions"]), answer["more"]) == (2, 1)
        assert (await verbs(rig, output).sessions({"most": 2, "ip": "192.0.2.1"}))["more"] == 0
        assert (await verbs(rig, output).sessions({}))["more"] == 0
        for most in (-1, "2", True, None):
            with pytest.raises(PeerError, match="most is a number"):
                await verbs(rig, output).sessions({"most": most})
        end(rig)
        await rig.comes_true(lambda: not rig.server.services.live)


async def test_a_long_list_lets_the_event_loop_do_other_work(output: LogOutput) -> None:
    count = AT_A_TIME + 1
    async with serving(settings("s", max_connections=count)) as rig:
        await begun(rig, count)
        turns = 0

        def turned() -> None:
            nonlocal turns
            turns += 1

        asyncio.get_running_loop().call_soon(turned)
        found = (await verbs(rig, output).sessions({}))["sessions"]
        assert len(found) == count
        assert turns == 1
        end(rig)
        await rig.comes_true(lambda: not rig.server.services.live)


@pytest.mark.parametrize("now", [False, True])
async def test_kill_signals_those_that_are_meant_and_no_others(output: LogOutput, now: bool) -> None:
    async with serving(settings("s", kill_timeout=3600.0)) as rig:
        first, second = await begun(rig, 2)
        args: dict[str, Any] = {"conns": [f"{first:x}"], **({"now": True} if now else {})}
        ended = (await verbs(rig, output).kill(args))["sessions"]
        assert [item["conn"] for item in ended] == [f"{first:x}"]
        expected = [(first, signal.SIGTERM)] + ([(first, signal.SIGKILL)] if now else [])
        await rig.until(lambda: len(rig.launchers[0].signals) >= len(expected))
        assert rig.launchers[0].signals == expected
        assert (await verbs(rig, output).sessions({"conns": [f"{second:x}"]}))["sessions"][0][
            "ending"
        ] is False
        rig.launchers[0].exited(first, signal.SIGTERM)
        rig.launchers[0].exited(second)
        await rig.comes_true(lambda: not rig.server.services.live)
        assert rig.sessions("s").counts.ended == {"ended": 1, "ok": 1}


async def test_kill_without_a_condition_is_refused(output: LogOutput) -> None:
    async with serving(settings("s")) as rig:
        for args in ({}, {"now": True}):
            with pytest.raises(PeerError, match="needs a connection"):
                await verbs(rig, output).kill(args)
        assert (await verbs(rig, output).kill({"older": 0}))["sessions"] == []


async def test_a_drained_service_lets_clients_wait_and_others_go_on(output: LogOutput) -> None:
    async with serving(settings("s"), settings("t")) as rig:
        (first,) = await begun(rig, 1)
        operator = verbs(rig, output)
        assert await operator.drain({"service": "s"}) == {"live": 1}
        assert rig.service("s").acceptor.held is Hold.PAUSED
        rig.connect("s")
        await begun(rig, 1, "t")
        assert rig.accepted == 2
        rig.launchers[0].exited(first)
        await rig.comes_true(lambda: not rig.service("s").sessions.live)
        assert rig.service("s").acceptor.held is Hold.PAUSED
        assert rig.service("s").acceptor.waits_in_vain() is None
        rig.plan(settings("s", max_connections=7), settings("t"))
        assert rig.service("s").acceptor.held is Hold.PAUSED
        assert await operator.resume({"service": "s"}) == {"was_paused": True}
        await rig.starts(2)
        assert await operator.resume({"service": "s"}) == {"was_paused": False}
        (waited,) = rig.sessions("s").by_number
        rig.launchers[0].started(waited)
        end(rig)
        await rig.comes_true(lambda: not rig.server.services.live)


async def test_a_limit_holds_until_the_next_reload(output: LogOutput) -> None:
    async with serving(settings("s", max_connections=3), settings("t")) as rig:
        operator = verbs(rig, output)
        await begun(rig, 2)
        result = await operator.limit({"service": "s", "max_connections": 1})
        assert result == {"live": 2, "planned": 3}
        assert await operator.limit({"service": "s", "max_connections": 2}) == {"live": 2, "planned": 3}
        rig.connect("s")
        await rig.until(lambda: rig.named("service_full"))
        assert rig.service("s").acceptor.held is Hold.FULL
        assert rig.service("s").acceptor.clients_waiting == 1
        (full,) = rig.named("service_full")
        assert (full["service"], full["hold"], full["max_connections"]) == ("s", "full", 2)
        rig.server.take(1000, [], kept=list(rig.server.services.by_number))
        await rig.starts(3)
        assert rig.service("s").settings.max_connections == 3
        assert rig.service("s").operator_limit.planned is None
        for connection in await rig.starts(3):
            rig.launchers[0].started(connection)
        end(rig)
        await rig.comes_true(lambda: not rig.server.services.live)


async def test_a_limit_gives_way_to_a_changed_file(output: LogOutput) -> None:
    async with serving(settings("s", max_connections=3)) as rig:
        await verbs(rig, output).limit({"service": "s", "max_connections": 1})
        rig.plan(settings("s", max_connections=5))
        assert rig.service("s").limits.max_connections == 5
        assert rig.service("s").operator_limit.planned is None


@pytest.mark.parametrize("wanted", [0, -1, 65537, 1.5, True, "3", None])
async def test_a_limit_is_a_number_that_the_file_could_have(output: LogOutput, wanted: object) -> None:
    async with serving(settings("s")) as rig:
        with pytest.raises(PeerError, match="from 1 to 65536"):
            await verbs(rig, output).limit({"service": "s", "max_connections": wanted})
        with pytest.raises(PeerError, match="there is no service 'x': s"):
            await verbs(rig, output).limit({"service": "x", "max_connections": 3})


async def test_what_an_operator_has_drained_stays_so_under_the_next_loop(output: LogOutput) -> None:
    async with serving(settings("s")) as rig:
        await verbs(rig, output).drain({"service": "s"})
        state = rig.service("s").to_state(0.0)
    async with serving(settings("s")) as rig:
        rig.service("s").from_state(state, 0.0)
        assert rig.service("s").acceptor.held is Hold.PAUSED
        await verbs(rig, output).resume({"service": "s"})
        client = rig.connect("s")
        (connection,) = await rig.starts(1)
        rig.launchers[0].started(connection)
        rig.launchers[0].exited(connection)
        assert await received(client) == b""


@pytest.mark.parametrize("verb", ["drain", "resume"])
async def test_a_service_that_is_not_there_is_named(output: LogOutput, verb: str) -> None:
    async with serving(settings("s")) as rig:
        for args in ({}, {"service": 1}, {"service": "s", "more": 1}):
            with pytest.raises(PeerError, match="one member"):
                await getattr(verbs(rig, output), verb)(args)
        with pytest.raises(PeerError, match="there is no service 'x': s"):
            await getattr(verbs(rig, output), verb)({"service": "x"})


async def test_unknown_members_are_refused(output: LogOutput) -> None:
    async with serving(settings("s")) as rig:
        for verb in ("sessions", "kill", "log_level"):
            with pytest.raises(PeerError, match="member"):
                await getattr(verbs(rig, output), verb)({"all": True})


async def test_the_level_of_the_log(output: LogOutput) -> None:
    async with serving(settings("s")) as rig:
        assert await verbs(rig, output).log_level({"level": "error"}) == {"level": "error"}
        assert not output.logger.is_enabled_for(30)
        await verbs(rig, output).log_level({"level": "debug"})
        assert output.logger.is_enabled_for(10)
        with pytest.raises(PeerError, match="debug, info, warning, error"):
            await verbs(rig, output).log_level({"level": "trace"})
