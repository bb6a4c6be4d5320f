"""The watchdog: an event loop that does not turn is killed, and nobody is woken up who need not be."""

import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ucspid.ipc.condition import Condition
from ucspid.ipc.orders import ReportCondition
from ucspid.master import watchdog
from ucspid.master.holdings import Holdings
from ucspid.master.leftovers import lists
from ucspid.master.notify import Readiness
from ucspid.master.poller import Poller
from ucspid.master.watchdog import Watchdog, interval_of_manager

SOON = 0.06
"""Seconds in which a loop of these tests has to turn."""


class Process:
    """A process of the loop."""

    def __init__(self) -> None:
        self.child = subprocess.Popen(["sleep", "60"])
        self.pid = self.child.pid
        self.killed = self.outdated = self.busy = False
        self.asked = 0
        self.given_up = ""

    def send(self, order: object) -> None:
        assert order == ReportCondition()
        self.asked += 1

    def give_up(self, reason: str) -> None:
        self.given_up = reason


class Rig:
    """A watchdog, and what it watches."""

    def __init__(self) -> None:
        self.process = Process()
        self.poller = Poller()
        self.held = Holdings()
        current = SimpleNamespace(process=self.process, begun=True)
        loop: Any = SimpleNamespace(current=current, succession=SimpleNamespace(handing_over=False))
        self.watchdog = Watchdog(self.held, loop, self.poller, Readiness(None))

    def until_asked(self, times: int) -> None:
        while self.process.asked < times and not self.process.given_up:
            self.poller.run_once()

    def close(self) -> None:
        self.process.child.kill()
        self.process.child.wait()
        self.held.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def no_timer(rig: Rig) -> bool:
    return rig.poller.idle


def test_nothing_is_asked_unless_somebody_wants_it(rig: Rig) -> None:
    rig.watchdog.watch(None)
    assert no_timer(rig)
    rig.watchdog.watch(5)
    assert not no_timer(rig)
    rig.watchdog.watch(None)
    assert no_timer(rig)


def test_a_loop_that_answers_is_asked_again(rig: Rig) -> None:
    rig.watchdog.watch(SOON)
    for times in range(1, 5):
        rig.until_asked(times)
        rig.watchdog.answered(Condition(0))
    assert rig.process.given_up == ""


def test_a_loop_that_does_not_answer_is_killed(rig: Rig) -> None:
    rig.watchdog.watch(SOON)
    rig.until_asked(2)
    while not rig.process.given_up:  # where this process itself did not run, it asks again
        rig.poller.run_once()
    assert rig.process.given_up == f"it has not turned for {SOON / 4:g} s"


def test_a_loop_with_a_deadline_of_its_own_is_not_asked(rig: Rig) -> None:
    rig.process.busy = True
    rig.watchdog.watch(SOON)
    for _ in range(5):
        rig.poller.run_once()
    assert rig.process.asked == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "own"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_the_manager_says_how_often(
    environment: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("WATCHDOG_PID", "WATCHDOG_USEC"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(os.getpid()) if value == "own" else value)
    assert interval_of_manager() == expected


def changed(rig: Rig, number: int, options: int) -> None:
    """Stop the loop, or let it go on, and have the watchdog look when the kernel has done it."""
    os.kill(rig.process.pid, number)
    assert os.waitid(os.P_PID, rig.process.pid, options | os.WNOWAIT) is not None
    rig.watchdog.child_changed()


def test_a_loop_that_stays_stopped_is_killed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "STOPPED_TIMEOUT", 5.0)
    changed(rig, signal.SIGSTOP, os.WSTOPPED)
    assert not no_timer(rig)
    changed(rig, signal.SIGCONT, os.WCONTINUED)
    assert no_timer(rig)
    monkeypatch.setattr(watchdog, "STOPPED_TIMEOUT", 0.02)
    changed(rig, signal.SIGSTOP, os.WSTOPPED)
    while not rig.process.given_up:
        rig.poller.run_once()
    assert rig.process.given_up == "it was stopped, and has not gone on for 0.02 s"


def test_processes_of_the_unit_are_listed_in_its_control_group() -> None:
    unified = "0::/system.slice/ucspid.service\n"
    assert next(lists(unified)) == "/sys/fs/cgroup/system.slice/ucspid.service/cgroup.procs"
    hybrid = "9:name=systemd:/system.slice/ucspid.service\n5:memory:/x\n0::/\n"
    assert [*lists(hybrid)] == ["/sys/fs/cgroup/systemd/system.slice/ucspid.service/cgroup.procs"]
