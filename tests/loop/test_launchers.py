"""Launchers that do not answer: noticed, and replaced one at a time; not where the loop did not run."""

import threading

import pytest

from inprocess import serving, settings
from ucspid import spawn
from ucspid.control import launchers


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "STUCK_AFTER", 0.05)
    monkeypatch.setattr(spawn, "OVERDUE_AFTER", 0.1)
    monkeypatch.setattr(launchers, "STUCK_AFTER", 0.05)
    monkeypatch.setattr(launchers, "MIN_LOOK", 0.01)
    monkeypatch.setattr(launchers, "MAX_LATE", 0.5)


async def test_a_launcher_that_does_not_answer_is_stuck_and_another_wanted_and_then_replaced() -> None:
    async with serving(settings("a")) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        await rig.until(lambda: rig.named("launcher_stuck"))
        assert "more" in rig.asked
        assert not rig.broken
        await rig.until(lambda: rig.broken)
        rig.launchers[0].started(connection)
        await rig.until(lambda: rig.named("connection_started"))
        rig.launchers[0].exited(connection)
        await rig.until(lambda: rig.named("connection_served"))
        assert len(rig.named("launcher_stuck")) == 1


async def test_an_overdue_launcher_is_replaced_before_another() -> None:
    async with serving(settings("a")) as rig:
        rig.launcher()
        await rig.until(lambda: rig.server.launchers.synced)
        for _ in range(2):
            rig.connect("a")
        connections = await rig.starts(2)
        assert [len(launcher.starts) for launcher in rig.launchers] == [1, 1]
        await rig.until(lambda: rig.asked.count("broken") == 2)
        assert rig.broken == [1, 1]
        rig.launchers[0].started(connections[0])
        await rig.until(lambda: rig.broken[-1] == 2)
        for launcher, connection in zip(rig.launchers, connections, strict=True):
            launcher.failed(connection)
        await rig.until(lambda: len(rig.named("connection_failed")) == 2)


async def test_a_launcher_is_not_blamed_for_the_time_at_which_the_loop_did_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launchers, "MAX_LATE", 0.1)
    async with serving(settings("a")) as rig:
        rig.connect("a")
        (connection,) = await rig.starts(1)
        rig.launchers[0].started(connection)  # which the loop, that is stopped, cannot read yet
        threading.Event().wait(0.2)
        await rig.until(lambda: rig.named("connection_started"))
        assert not rig.named("launcher_stuck")
        rig.launchers[0].exited(connection)
        await rig.until(lambda: rig.named("connection_served"))
        assert not {"more", "broken"} & set(rig.asked)
