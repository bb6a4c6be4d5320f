"""A client is judged by the rules file that is there when it connects, whatever the loop does just then."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inprocess import Rig, received, serving, settings
from rules_files import Hang, hanging
from ucspid.admission import rules_file
from ucspid.admission.listener import Listener
from ucspid.admission.obstacles import Hold
from ucspid.admission.rules_look import Seen, Sight, look
from ucspid.admission.stages.fresh_rules import FreshRules
from ucspid.linux.inotify import Inotify
from ucspid.plan import RulesFile, Service
from ucspid.policy.connection_states import ConnectionState


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.write_text(":allow\n")
    return path


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    with hanging(monkeypatch) as hang:
        yield hang


def service(rules: Path) -> Service:
    return settings("s", rules=RulesFile(path=str(rules), kind="text"))


def change(rules: Path, text: str) -> None:
    new = rules.with_suffix(".new")
    new.write_text(text)
    new.rename(rules)


async def loaded(rig: Rig) -> None:
    await rig.until(lambda: rig.named("rules_loaded"))


async def refused(rig: Rig, count: int) -> None:
    await rig.until(lambda: len(rig.named("connection_refused")) == count)


def end(rig: Rig) -> None:
    """End all sessions."""
    for launcher in rig.launchers:
        for connection in list(launcher.starts):
            launcher.started(connection)
            launcher.exited(connection)


async def test_a_change_just_before_accept_is_in_force(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = Listener.accept

    def accept_after_a_change(listener: Listener) -> tuple[int, tuple[str, int]]:
        """Accept a client that has connected after a change, which was made after the event loop woke up."""
        if rules.read_text() != ":deny\n":
            change(rules, ":deny\n")
        return accept(listener)

    async with serving(service(rules)) as rig:
        await loaded(rig)
        monkeypatch.setattr(Listener, "accept", accept_after_a_change)
        client = rig.connect("s")
        assert await received(client) == b""
        assert rig.sessions("s").counts.refused == {"denied": 1}


async def test_a_service_without_a_rules_file_has_nothing_to_look_at() -> None:
    async with serving(settings("s")) as rig:
        assert rig.server.services.rules_files.descriptors == set()
        assert not any(isinstance(stage, FreshRules) for stage in rig.service("s").pipeline.stages)


async def test_a_client_that_waits_for_a_file_is_counted_and_holds_up_the_next(
    rules: Path, hang: Hang
) -> None:
    async with serving(service(rules)) as rig:
        await loaded(rig)
        hang.paths.add(str(rules))
        change(rules, ":deny\n")
        rig.connect("s")
        await rig.comes_true(lambda: rig.accepted == 1)
        rig.connect("s")
        sessions = rig.sessions("s")
        assert [item.state for item in sessions.waiting] == [ConnectionState.PENDING]
        assert (sessions.counts.open, sessions.live, sessions.unknown) == (1, 1, 0)
        await rig.comes_true(lambda: rig.service("s").acceptor.held is Hold.RULES)
        assert rig.accepted == 1
        hang.end()
        await refused(rig, 2)
        assert sessions.live == 0


async def test_a_stop_does_not_wait_for_a_file(rules: Path, hang: Hang) -> None:
    async with serving(service(rules)) as rig:
        await loaded(rig)
        hang.paths.add(str(rules))
        change(rules, ":deny\n")
        client = rig.connect("s")
        await rig.comes_true(lambda: rig.accepted == 1)
        rig.server.drain(at_once=False)
        await rig.until(lambda: "drained" in rig.asked)
        assert await received(client) == b""
        assert rig.sessions("s").counts.refused == {"closed": 1}


async def test_the_time_for_a_file_does_not_count_for_what_follows(
    rules: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_file, "HUNG_AFTER", 0.2)
    quick = service(rules)
    async with serving(quick) as rig:
        await loaded(rig)
        rig.service("s").pipeline._timeout = 0.0
        hang.paths.add(str(rules))
        change(rules, ":deny\n")
        rig.connect("s")
        assert len(await rig.starts(1)) == 1  # by the rules of before
        end(rig)
        await rig.until(lambda: rig.named("connection_served"))


async def test_a_file_that_never_rests_keeps_nobody_out(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def look_and_touch(path: str, seen: Seen | None, queue: Inotify | None) -> Sight:
        nonlocal looks
        looks += 1
        sight = look(path, seen, queue)
        os.utime(path)
        return sight

    monkeypatch.setattr(rules_file, "look", look_and_touch)
    async with serving(service(rules)) as rig:
        await loaded(rig)
        for _ in range(10):
            rig.connect("s")

        def all_served() -> bool:
            end(rig)
            return rig.accepted == 10 and not rig.server.services.live

        await rig.comes_true(all_served)
        assert looks < 100
