"""Starts, reloads, upgrades and stops as the master carries them out, with children that are the test's."""

import errno
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masters import MasterRig, mastering
from plans import plan, service
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE
from ucspid.ipc import messages as wire
from ucspid.master import changeover, preparation
from ucspid.master.holdings import Holdings
from ucspid.master.reports import REPLACED
from ucspid.master.transition import Phase
from ucspid.profile import Profile

A, B = service("a"), service("b")
STOPPING = "the daemon stops"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[MasterRig]:
    with mastering(monkeypatch) as rig:
        yield rig


@pytest.fixture
def serving(rig: MasterRig) -> MasterRig:
    rig.serve("a")
    rig.events()
    return rig


def ports(rig: MasterRig) -> int:
    return len([*rig.master.parts.held.listeners])


# A start


@pytest.mark.parametrize(
    ("status", "errors", "code"), [(EXIT_USAGE << 8, b"wrong", EXIT_USAGE), (9, b"", EXIT_SYSTEM)]
)
def test_a_start_that_fails_ends_the_daemon(
    rig: MasterRig, capfd: pytest.CaptureFixture[str], status: int, errors: bytes, code: int
) -> None:
    rig.begin()
    rig.read(status=status, errors=errors)
    assert rig.master.exit == code
    assert capfd.readouterr().err.startswith("ucspid: ")


def test_the_first_plan_has_to_be_served_however_long_it_takes(
    rig: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(changeover.TIMEOUTS, Phase.TAKING, 0.0)
    rig.begin()
    rig.read(plan(A))
    rig.work()
    assert rig.events() == []
    rig.take()
    assert rig.events() == ["started"]


def test_a_loop_that_dies_again_and_again_before_it_serves_ends_the_daemon(rig: MasterRig) -> None:
    rig.begin()
    rig.read(plan(A))
    while rig.master.exit is None:
        rig.end(rig.loop, 1 << 8)
    assert (rig.master.exit, len(rig.loops)) == (EXIT_SYSTEM, 5)


# A reload


def test_a_client_is_answered_when_the_loop_serves_the_new_plan(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=7)
    serving.work()
    serving.read(plan(A, B))
    assert serving.answered() == {}
    serving.take()
    assert serving.events() == ["reloaded"]
    assert serving.answered() == {7: {"changes": ["b: added, listening on 127.0.0.1:0"]}}


def test_clients_that_wait_are_shown_how_far_it_is(serving: MasterRig) -> None:
    def stages() -> list[str | None]:
        return [order["stage"] for order in serving.loop.orders() if order["do"] == "take_stage"]

    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    assert stages() == ["reading the file"]
    serving.read(plan(A, service("b", profile=Profile(umask=0o77))))
    assert stages() == ["starting launchers"]
    serving.launchers[-1].say(wire.Ready(wire.VERSION).pack())
    serving.work()
    assert stages() == ["the event loop takes up the plan"]
    serving.take()
    assert stages() == [None]
    serving.loop.note(wire.NOTE_UPGRADE, token=2)
    serving.work()
    assert stages() == ["trying the version that is installed"]
    serving.end(serving.trials[-1], 1 << 8)
    assert stages() == [None]


def test_those_that_come_during_one_are_one_that_follows_it(serving: MasterRig) -> None:
    for token in (1, 2, 3):
        serving.loop.note(wire.NOTE_RELOAD, token=token)
        serving.work()
        serving.master.signalled(signal.SIGHUP)
    assert len(serving.readers) == 2  # the first is that of the start
    serving.read(plan(A, B))
    serving.take()
    assert [*serving.answered()] == [1]
    assert len(serving.readers) == 3
    serving.read(plan(A, B))
    serving.take()
    assert serving.answered()[2] == serving.answered()[3] == {"changes": []}
    assert len(serving.readers) == 3


def test_one_that_fails_says_why_and_changes_nothing(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(status=EXIT_USAGE << 8, errors=b"file:1:1: wrong")
    assert serving.events() == ["reload_failed"]
    assert serving.answered() == {1: "file:1:1: wrong"}
    assert ports(serving) == 1


def test_a_launcher_that_refuses_its_privileges_fails_it_and_what_was_acquired_is_given_back(
    serving: MasterRig,
) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, service("b", profile=Profile(umask=0o77))))
    serving.refuse(serving.launchers[-1], "no such user")
    assert serving.answered() == {1: "b: privileges cannot be taken: no such user"}
    serving.launchers[-1].wait_killed()
    assert ports(serving) == 1


def test_new_launchers_that_are_not_ready_in_time_fail_it(
    serving: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "LAUNCHER_TIMEOUT", 0.0)
    serving.master.signalled(signal.SIGHUP)
    serving.read(plan(A, service("b", profile=Profile(umask=0o77))))
    assert serving.events() == ["reload_failed"]
    serving.launchers[-1].wait_killed()


@pytest.mark.parametrize("limit", ["of the phase", "of launchers"])
def test_a_bug_on_the_way_fails_it_in_time_and_the_next_one_works(
    serving: MasterRig, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "of launchers":
        monkeypatch.setattr(preparation, "LAUNCHER_TIMEOUT", 0.0)
    else:
        monkeypatch.setitem(changeover.TIMEOUTS, Phase.PREPARING, 0.05)

    def acquire(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(Holdings, "acquire", acquire)
        serving.master.signalled(signal.SIGHUP)
        serving.readers[-1].write(plan(A).to_json().encode())
        serving.end(serving.readers[-1])
        logged: list[str] = []
        while "reload_failed" not in logged:
            serving.work()
            logged += serving.events()
    assert "internal_error" in logged
    serving.master.signalled(signal.SIGHUP)
    serving.read(plan(A, B))
    serving.take()
    assert serving.events() == ["reloaded"]


# A loop that does not serve the new plan


def test_a_plan_that_no_loop_serves_in_time_is_followed_by_others(
    serving: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(changeover.TIMEOUTS, Phase.TAKING, 0.0)
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(B))
    assert serving.events() == ["reload_overdue"]
    assert serving.answered() == {1: "no event loop serves the new plan within 0 s"}
    assert ports(serving) == 2
    serving.master.signalled(signal.SIGHUP)
    serving.loop.note(wire.NOTE_TAKEN, serving.generation)
    serving.work()
    assert serving.events() == ["reloaded"]
    assert ports(serving) == 1
    monkeypatch.undo()
    serving.readers[-1].write(plan(A).to_json().encode())
    serving.end(serving.readers[-1])


def test_a_successor_that_never_starts_blocks_no_reload(serving: MasterRig) -> None:
    """An earlier plan wants another loop, which cannot run; the next one is without that."""
    old = serving.loop
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, nameservers=("127.0.0.1:53",)))
    for _ in range(5):
        serving.end(serving.loop, 1 << 8)
    assert "reload_overdue" in serving.events(old)
    assert serving.answered() == {1: "the event loop does not start: exit status 1"}
    serving.master.signalled(signal.SIGHUP)
    serving.read(plan(A))
    serving.loop.note(wire.NOTE_READY, wire.VERSION)
    serving.work()
    serving.end(old)
    serving.take()
    assert "reloaded" in serving.events()


def test_clients_are_answered_by_their_loop_before_another_takes_over(serving: MasterRig) -> None:
    old = serving.loop
    for token in (1, 2):
        old.note(wire.NOTE_RELOAD, token=token)
        serving.work()
    old.note(wire.NOTE_UPGRADE, token=3)
    serving.work()
    serving.read(plan(A, nameservers=("127.0.0.1:53",)))
    assert serving.answered(old) == {}
    serving.loop.note(wire.NOTE_READY, wire.VERSION)
    serving.work()
    answers = serving.answered(old)
    assert answers[1]["changes"]
    assert answers[2] == answers[3] == str(REPLACED)


def test_clients_of_a_loop_that_dies_are_forgotten_and_the_next_serves_the_plan(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, B))
    serving.end(serving.loop, signal.SIGKILL)
    serving.take()
    assert serving.events() == ["process_died", "reloaded"]
    assert serving.answered() == {}


# An upgrade


def test_an_upgrade_waits_for_a_reload_and_what_comes_meanwhile_waits_for_it(
    serving: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[Any] = []

    def execve(_python: str, arguments: list[str], _environment: object) -> None:
        executed.append(arguments)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "execve", execve)
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.loop.note(wire.NOTE_UPGRADE, token=2)
    serving.loop.note(wire.NOTE_RELOAD, token=3)
    serving.work()
    assert serving.trials == []
    serving.read(plan(A, B))
    serving.take()
    assert [*serving.answered()] == [1]
    assert executed == []
    serving.end(serving.trials[-1])
    assert len(executed) == 1
    assert "cannot execute" in serving.answered()[2]
    assert serving.events() == []
    serving.read(plan(A, B))
    serving.take()
    assert serving.answered()[3] == {"changes": []}


def test_a_trial_that_fails_says_why(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_UPGRADE, token=1)
    serving.work()
    serving.trials[-1].write(b"", b"it needs\nmore\n")
    serving.end(serving.trials[-1], EXIT_SYSTEM << 8)
    assert serving.events() == ["upgrade_failed"]
    assert serving.answered()[1].splitlines()[1:] == ["it needs", "more"]


# A stop


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.PREPARING, Phase.TAKING, Phase.TRYING])
def test_a_stop_gives_up_what_is_under_way(serving: MasterRig, phase: Phase) -> None:
    kind = wire.NOTE_UPGRADE if phase is Phase.TRYING else wire.NOTE_RELOAD
    if phase is not Phase.IDLE:
        for token in (1, 2):
            serving.loop.note(kind, token=token)
            serving.work()
    if phase is Phase.TAKING:
        serving.read(plan(A, B))
    serving.master.signalled(signal.SIGTERM)
    serving.work()
    assert serving.answered() == ({} if phase is Phase.IDLE else {1: STOPPING, 2: STOPPING})
    for child in itertools.chain(serving.readers[1:], serving.trials):
        if not child.ended:
            child.wait_killed()
            serving.end(child, signal.SIGKILL)
    serving.loop.note(wire.NOTE_RELOAD, token=5)
    serving.loop.note(wire.NOTE_UPGRADE, token=6)
    serving.work()
    assert serving.answered()[5] == serving.answered()[6] == STOPPING
    serving.end(serving.loop)
    assert serving.master.exit is None
    for launcher in serving.launchers:
        serving.end(launcher)
    assert serving.master.exit == 0


def test_a_signal_that_means_nothing_does_nothing(serving: MasterRig) -> None:
    serving.master.signalled(signal.SIGUSR1)
    serving.work()
    assert (serving.events(), len(serving.readers), serving.trials) == ([], 1, [])


# The control socket


def test_the_control_socket_of_before_stays_until_another_loop_serves_the_new_one(
    serving: MasterRig, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    serving.master.signalled(signal.SIGHUP)
    serving.read(plan(A, control=str(old)))
    serving.succeed()
    before = serving.loop
    before.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, control=str(new)))
    assert (old.exists(), new.exists()) == (True, True)
    assert serving.answered(before) == {}
    serving.loop.note(wire.NOTE_READY, wire.VERSION)
    serving.work()
    assert serving.answered(before)[1]["changes"]
    assert old.exists()
    serving.end(before)
    serving.take()
    assert (old.exists(), new.exists()) == (False, True)
