"""Launchers that do not answer: noticed, and replaced one at a time; not where the loop did not run."""

import contextlib
import os
import select
import socket
import threading

import pytest

from inprocess import NO_PID, serving, settings
from ucspid import spawn
from ucspid.control import launchers, status
from ucspid.ipc import messages as wire


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


async def test_what_a_launcher_sent_before_it_exited_counts() -> None:
    async with serving(settings("a")) as rig:
        for _ in range(2):
            rig.connect("a")
        connections = await rig.starts(2)
        for connection in connections:
            rig.launchers[0].started(connection)
        await rig.until(lambda: len(rig.named("connection_started")) == 2)
        rig.launchers[0].exited(connections[0], 256)
        rig.server.launchers.lose(rig.launchers[0].number)
        assert [event["status"] for event in rig.named("connection_served")] == [1, "unknown"]


async def test_whoever_has_the_channel_of_a_launcher_that_has_exited_cannot_hold_the_loop_up() -> None:
    async with serving(settings("a")) as rig:
        launcher = rig.launcher()
        await rig.until(lambda: rig.server.launchers.synced)
        report = wire.Report.head(wire.EXITED, 0, 1, 1, 1, 0, 0, 0, bytes(wire.TAG_SIZE))

        def send_without_end() -> None:
            with (
                socket.socket(fileno=os.dup(launcher.descriptor)) as sock,
                contextlib.suppress(BrokenPipeError),
            ):
                while True:
                    select.select([], [sock], [])
                    sock.send(report)

        sender = threading.Thread(target=send_without_end)
        sender.start()
        rig.server.launchers.lose(launcher.number)
        sender.join()
        assert list(rig.server.launchers.by_number) == [rig.launchers[0].number]


async def test_a_launcher_is_in_the_status_before_it_has_said_anything() -> None:
    async with serving(settings("a")) as rig:
        launcher = rig.launcher()
        listed = {item["pid"]: item for item in status.processes(rig.server) if item["role"] == "launcher"}
        assert listed[NO_PID + launcher.number]["kind"] == "python"
        assert 0 not in listed
