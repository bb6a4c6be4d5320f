"""From accept to a slot: nobody waits for nothing, and everybody goes on under the plan that they met."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import pytest

from inprocess import TIMEOUT, Rig, received, serving, settings
from ucspid.admission import pipeline
from ucspid.admission.connection import Connection
from ucspid.admission.obstacles import Hold
from ucspid.admission.stage import Outcome, Resources
from ucspid.launcher.serve import IN_FLIGHT
from ucspid.plan import Lookup, Rate, RuleSpec, Throttling

OFTEN = Rate(count=1, seconds=0.02, burst=1)
SLOW = Throttling(failures=1, interval=0.05)


class Waiting:
    """A stage that makes every connection wait until the test lets it go on."""

    news: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self) -> None:
        self.doors: list[asyncio.Future[Outcome]] = []

    def enter(self, _connection: Connection) -> Any:
        door: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.doors.append(door)
        Waiting.news()
        return self.wait(door)

    @staticmethod
    async def wait(door: asyncio.Future[Outcome]) -> Outcome:
        return await door

    def open(self) -> None:
        for door in self.doors:
            if not door.done():
                door.set_result(None)


@contextlib.asynccontextmanager
async def admitting(*services: Any, **planned: Any) -> AsyncIterator[Rig]:
    """Serve, and have until() look again when a connection comes to the stage of the test's."""
    async with serving(*services, **planned) as rig:
        Waiting.news = rig.tell
        yield rig


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Waiting]:
    """Have services that look names up wait in a stage of the test's."""
    made: dict[str, Waiting] = {}

    def make(resources: Resources) -> Waiting | None:
        if not resources.settings.lookup.wanted:
            return None
        return made.setdefault(resources.settings.name, Waiting())

    before = [stage for stage in pipeline.STAGES if "names" not in stage.__module__]
    monkeypatch.setattr(pipeline, "STAGES", (*before, make))
    return made


def looking_up(name: str, **changed: Any) -> Any:
    return settings(name, lookup=Lookup(remote_host=True, timeout=60.0), **changed)


async def end_all(rig: Rig, served: int) -> None:
    """End sessions as they come, until so many have been served."""
    ended = len(rig.named("connection_served"))
    while ended < served:
        await rig.starts(1)
        launcher = rig.launchers[0]
        for connection in list(launcher.starts):
            launcher.started(connection)
            launcher.exited(connection)
            ended += 1
        await rig.until(lambda: len(rig.named("connection_served")) == ended)  # noqa: B023


async def nobody_waits_in_vain(rig: Rig) -> None:
    """Return when nobody does: a timer that is due may not have come yet."""
    async with asyncio.timeout(TIMEOUT):
        while any(item.acceptor.waits_in_vain() for item in rig.server.services.by_number.values()):
            await asyncio.get_running_loop().run_in_executor(None, int)


async def test_lookups_that_end_while_the_rate_holds_the_service_are_served(
    stages: dict[str, Waiting],
) -> None:
    """Eight tokens, nine clients: the service is held for the ninth while eight are looked up."""
    hourly = Rate(count=8, seconds=3600.0, burst=8)
    async with admitting(looking_up("a", rate=hourly)) as rig:
        for _ in range(9):
            rig.connect("a")
        await rig.until(lambda: rig.accepted == 8 and rig.service("a").acceptor.held)
        assert rig.service("a").acceptor.held is Hold.RATE
        stages["a"].open()
        await end_all(rig, 8)
        await nobody_waits_in_vain(rig)


async def test_lookups_that_end_while_another_service_has_the_launchers_are_served(
    stages: dict[str, Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucspid.limits.MAX_LOOKUPS", 20)
    async with admitting(looking_up("a"), settings("b")) as rig:
        for _ in range(21):
            rig.connect("a")
        await rig.until(lambda: rig.accepted == 20)
        assert rig.service("a").acceptor.held is Hold.LOOKUPS
        for _ in range(IN_FLIGHT):
            rig.connect("b")
        await rig.starts(IN_FLIGHT)
        stages["a"].open()
        await end_all(rig, 20 + IN_FLIGHT)
        await rig.until(lambda: rig.accepted == 21 + IN_FLIGHT)
        stages["a"].open()
        await end_all(rig, 21 + IN_FLIGHT)


async def a_session_ends(rig: Rig) -> None:
    launcher = rig.launchers[0]
    connection = next(iter(launcher.starts), None)
    if connection is not None:
        ended = len(rig.named("connection_served"))
        launcher.started(connection)
        launcher.exited(connection)
        await rig.until(lambda: len(rig.named("connection_served")) > ended)


async def a_start_is_answered(rig: Rig) -> None:
    launcher = rig.launchers[0]
    started = len(rig.named("connection_started"))
    waiting = [number for number in launcher.starts if number in rig.server.launchers.by_number[1].in_flight]
    if waiting:
        launcher.started(waiting[0])
        await rig.until(lambda: len(rig.named("connection_started")) > started)


async def a_launcher_comes(rig: Rig) -> None:
    rig.launcher()
    await asyncio.get_running_loop().run_in_executor(None, int)


async def the_daemon_gets_room(rig: Rig) -> None:
    rig.server.take(1000, [], list(rig.server.services.by_number))


async def a_client_comes(rig: Rig) -> None:
    rig.connect("a")
    await asyncio.get_running_loop().run_in_executor(None, int)


HOLDS: dict[Hold, dict[str, Any]] = {
    Hold.FULL: {"max_connections": 1},
    Hold.RATE: {"rate": OFTEN},
    Hold.DAEMON_FULL: {},
    Hold.LAUNCHERS: {},
    Hold.THROTTLED: {"throttle": SLOW},
    Hold.LOOKUPS: {},
}
WAKES: list[Callable[[Rig], Awaitable[None]]] = [
    a_session_ends, a_start_is_answered, a_launcher_comes, the_daemon_gets_room, a_client_comes,
]  # fmt: skip


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize(
    "wakes", [*itertools.permutations(WAKES, 2)], ids=lambda pair: "-".join(wake.__name__ for wake in pair)
)
async def test_whatever_held_a_service_nobody_stays_idle_who_could_go_on(
    stages: dict[str, Waiting],
    monkeypatch: pytest.MonkeyPatch,
    hold: Hold,
    wakes: tuple[Callable[[Rig], Awaitable[None]], ...],
) -> None:
    """Clients come while the service is held, in both ways in; then this and that happens, in any order."""
    monkeypatch.setattr("ucspid.limits.MAX_LOOKUPS", 4 if hold is Hold.LOOKUPS else 256)
    most = 1 if hold is Hold.DAEMON_FULL else 1000
    a, b = looking_up("a", **HOLDS[hold]), settings("b", **HOLDS[hold])
    async with admitting(a, b, max_connections=most) as rig:
        for _ in range(IN_FLIGHT + 3):
            rig.connect("a")
            rig.connect("b")
        if hold is Hold.THROTTLED:
            rig.service("a").throttle.failed(0.0)
            rig.service("b").throttle.failed(0.0)
        await rig.until(lambda: rig.accepted)
        if stages["a"].doors:
            stages["a"].open()
        for wake in wakes:
            await wake(rig)
            stages["a"].open()
        clients = len(rig.clients)
        while len(rig.named("connection_served")) < clients:
            stages["a"].open()
            await rig.until(
                lambda: (
                    any(item.starts for item in rig.launchers)
                    or open_doors(stages["a"])
                    or len(rig.named("connection_served")) == clients
                )
            )
            for launcher in rig.launchers:
                for connection in list(launcher.starts):
                    if rig.server.launchers.by_number[launcher.number].running.get(connection) is None:
                        launcher.started(connection)
                    launcher.exited(connection)
            rig.tell()
        await nobody_waits_in_vain(rig)


def open_doors(stage: Waiting) -> bool:
    return any(not door.done() for door in stage.doors)


async def test_a_stage_that_has_no_result_long_after_the_deadline_costs_its_client_only(
    stages: dict[str, Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "LATE", 0.0)
    hasty = settings("a", lookup=Lookup(remote_host=True, timeout=0.01))
    async with admitting(hasty, settings("b")) as rig:
        assert await received(rig.connect("a")) == b""
        assert rig.sessions("a").counts.refused == {"timed_out": 1}
        assert stages["a"].doors[0].cancelled()
        rig.connect("b")
        await end_all(rig, 1)


def rule(verdict: Literal["allow", "deny"], **env: str) -> RuleSpec:
    """Return a rule for every client of these tests."""
    return RuleSpec(
        from_=("127.0.0.0/8",),
        verdict=verdict,
        env=tuple(env.items()),
        max_per_ip=None,
        rate_per_ip=None,
        message=None,
        where="f:1",
    )


async def test_a_connection_goes_on_under_the_plan_that_it_met(stages: dict[str, Waiting]) -> None:
    async with admitting(looking_up("a", rules=(rule("allow", RELAYCLIENT=""),))) as rig:
        rig.connect("a")
        await rig.until(lambda: rig.accepted == 1)
        rig.asked.clear()
        rig.plan(looking_up("a", rules=(rule("deny"),)))
        assert "settled" not in rig.asked, "one is on its way that met the plan of before"
        stages["a"].open()
        (connection,) = await rig.starts(1)
        assert "settled" not in rig.asked, "its start is not answered"
        rig.launchers[0].started(connection)
        await rig.until(lambda: "settled" in rig.asked)
        rig.launchers[0].exited(connection)
        assert await received(rig.connect("a")) == b""
        assert rig.sessions("a").counts.refused == {"denied": 1}


async def test_a_plan_is_settled_at_once_where_nobody_is_on_the_way() -> None:
    async with serving(settings("a")) as rig:
        rig.asked.clear()
        rig.plan(settings("a"))
        assert rig.asked == ["settled"]


async def test_a_start_in_flight_keeps_a_plan_from_being_settled_until_it_has_failed() -> None:
    async with serving(settings("a")) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        rig.asked.clear()
        rig.plan()
        assert rig.asked == []
        rig.launchers[0].failed(connection)
        await rig.until(lambda: rig.asked == ["settled"])


@pytest.mark.usefixtures("stages")
async def test_a_refused_connection_does_not_keep_a_plan_from_being_settled() -> None:
    async with admitting(looking_up("a")) as rig:
        client = rig.connect("a")
        await rig.until(lambda: rig.accepted == 1)
        rig.asked.clear()
        rig.plan()
        await rig.until(lambda: rig.asked == ["settled"])
        assert await received(client) == b""
        assert (
            rig.sessions("a").counts.refused == {"closed": 1} if rig.server.services.all_sessions() else True
        )


async def test_how_long_connections_take_is_counted() -> None:
    async with serving(settings("s")) as rig:
        client = rig.connect("s")
        (connection,) = await rig.starts(1)
        assert rig.sessions("s").timings is None
        rig.launchers[0].started(connection)
        rig.launchers[0].exited(connection)
        assert await received(client) == b""
        await rig.comes_true(lambda: not rig.server.services.live)
        timings = rig.sessions("s").timings
        assert timings is not None
        assert [sum(timings.to_state()[name]["counts"]) for name in ("queue_wait", "start", "duration")] == [
            1, 1, 1,
        ]  # fmt: skip
