"""The loop's succession, by the master's end: with processes of the loop that the test started."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from plans import plan, service
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.master import loop_supervisor
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import Exit, ProfileLaunchers
from ucspid.master.loop_process import LoopProcess
from ucspid.master.loop_supervisor import LoopLink
from ucspid.master.poller import Poller
from ucspid.master.upgrade_state import ChannelState, LoopState


class Succession:
    """A link with a process in place, of which the test has the other end, and its owner."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.poller = Poller()
        self.held = Holdings(plan=plan())
        self.link = LoopLink("file", self.held, self.poller, self)
        ours, theirs = pair()
        self._child = subprocess.Popen(["sleep", "60"])
        self.ours = Channel(ours)
        self.old = LoopProcess(self._child.pid, Channel(theirs))
        self.old.told_first = True
        self.link._process = self.old
        self.link.taken = True
        self.link._watch(self.old)

    def loop_note(self, kind: int, _number: int, _token: int) -> None:
        self.told.append(f"note {kind}")

    def loop_lost(self, reason: str) -> None:
        raise AssertionError(reason)

    def loop_died(self) -> None:
        """Whoever waits for an answer is the master's to know."""

    def loop_leaves(self) -> None:
        self.told.append("leaves")

    def loop_not_replaced(self, _reason: str) -> None:
        self.told.append("not replaced")

    def until(self, condition: Callable[[], object]) -> None:
        """Have the master work until something is so; pytest ends it if it never is."""
        while not condition():
            self.poller.call_in(0.01, lambda: None)  # a child's end is not what the poller waits for
            self.poller.run_once()

    def reap(self, process: LoopProcess) -> None:
        _pid, status = os.waitpid(process.pid, 0)
        assert self.link.exited(Exit(process.pid, status, 0, 0, 0))

    def orders(self) -> list[dict[str, Any]]:
        """Return what the process in place was told."""
        orders = []
        while (received := self.ours.receive()) and received[0]:
            for descriptor in received[1]:
                os.close(descriptor)
            orders.append(json.loads(received[0]))
        return orders

    def close(self) -> None:
        for process in (self.link._process, self.link._successor):
            if process is not None:
                process.kill()
                process.channel.sock.close()
                os.waitpid(process.pid, 0)
        self._child.returncode = 0  # it was reaped as the master does it
        self.ours.sock.close()
        os.close(self.held._null)


class Unconcerned:
    """Who owns launchers that this is not about."""

    def log(self, *_: object, **__: object) -> None:
        raise AssertionError

    launcher_ready = launcher_refused = log


@pytest.fixture
def succession() -> Iterator[Succession]:
    succession = Succession()
    yield succession
    succession.close()


def test_the_loop_is_told_to_leave_when_its_successor_is_ready(succession: Succession) -> None:
    link = succession.link
    link.replace()
    successor = link._successor
    assert successor is not None
    assert link.pids == {succession.old.pid, successor.pid}
    assert succession.orders() == []
    succession.until(lambda: succession.told == ["leaves"])
    assert [order["do"] for order in succession.orders()] == ["leave"]
    link.log("info", "meanwhile")
    assert succession.orders() == []
    succession.old.kill()
    succession.reap(succession.old)
    assert link._process is successor
    assert link.pids == {successor.pid}
    assert successor.told_first
    succession.until(lambda: f"note {wire.NOTE_TAKEN}" in succession.told)


def test_a_loop_that_does_not_leave_is_killed(
    succession: Succession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_supervisor, "LEAVE_TIMEOUT", 0.01)
    succession.link.replace()
    succession.until(lambda: succession.told == ["leaves"])
    succession.until(lambda: ended(succession.old))
    succession.reap(succession.old)
    succession.until(lambda: f"note {wire.NOTE_TAKEN}" in succession.told)


def ended(process: LoopProcess) -> bool:
    """Whether a child has ended; it stays there to be reaped."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_a_successor_that_dies_is_replaced_while_the_loop_goes_on(succession: Succession) -> None:
    link = succession.link
    link.replace()
    first = link._successor
    assert first is not None
    first.kill()
    succession.reap(first)
    assert link.pids == {succession.old.pid}
    assert [order["event"] for order in succession.orders()] == ["process_died"]
    succession.until(lambda: succession.told == ["leaves"])
    assert link._process is succession.old


def test_a_successor_that_is_never_ready_is_killed(
    succession: Succession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_supervisor, "READY_TIMEOUT", 0.01)
    link = succession.link
    link.replace()
    for _ in range(loop_supervisor.MAX_FALSE_STARTS):
        succession.until(lambda: link._successor is not None)
        successor = link._successor
        assert successor is not None
        os.kill(successor.pid, signal.SIGSTOP)
        succession.until(partial(ended, successor))
        succession.reap(successor)
    assert succession.told == ["not replaced"]
    assert link._process is succession.old


def test_the_loop_dies_before_its_successor_is_ready(succession: Succession) -> None:
    link = succession.link
    link.replace()
    succession.old.kill()
    succession.reap(succession.old)
    succession.until(lambda: succession.told == [f"note {wire.NOTE_TAKEN}"])


def test_the_successor_dies_after_the_loop_was_told_to_leave(succession: Succession) -> None:
    link = succession.link
    link.replace()
    successor = link._successor
    assert successor is not None
    succession.until(lambda: succession.told == ["leaves"])
    successor.kill()
    succession.reap(successor)
    succession.old.kill()
    succession.reap(succession.old)
    succession.until(lambda: succession.told == ["leaves", f"note {wire.NOTE_TAKEN}"])


def test_a_stop_needs_no_successor(succession: Succession) -> None:
    link = succession.link
    link.replace()
    successor = link._successor
    assert successor is not None
    link.drain(at_once=False)
    assert [order["do"] for order in succession.orders()] == ["drain"]
    succession.reap(successor)
    assert link.pids == {succession.old.pid}
    assert succession.told == []


def test_a_stop_while_the_loop_leaves_is_the_successors(succession: Succession) -> None:
    link = succession.link
    link.replace()
    successor = link._successor
    assert successor is not None
    succession.until(lambda: succession.told == ["leaves"])
    link.drain(at_once=False)
    succession.old.kill()
    succession.reap(succession.old)
    succession.reap(successor)  # it has no sessions, so that it ends at once
    assert link.pids == set()


def test_a_loop_of_another_version_is_killed(succession: Succession) -> None:
    succession.ours.send(wire.NOTE_HEAD.pack(wire.NOTE_READY, wire.VERSION + 1, 0))
    succession.until(lambda: ended(succession.old))
    assert [event["event"] for event in succession.link._events] == ["loop_broken"]
    assert succession.orders() == []  # nobody would hear it


def test_a_loop_cannot_make_more_of_the_memory_than_it_was_given(succession: Succession) -> None:
    succession.link.replace()
    succession.until(lambda: succession.told == ["leaves"])
    received = succession.ours.receive()
    assert received is not None
    (memory,) = received[1]
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, size)
    os.close(memory)


def test_what_a_loop_of_an_earlier_image_knows_it_is_not_told_again(succession: Succession) -> None:
    link = succession.link
    profile = ProfileLaunchers(1, service("a").profile, 256, succession.poller, Unconcerned())
    launchers = [profile.add(1), profile.add(2)]
    channel = ChannelState.of(succession.old.channel)
    succession.poller.forget(channel.descriptor)
    succession.old.channel.sock.detach()
    introduced: list[tuple[str, int]] = [("launcher", 1)]
    link.from_state(
        LoopState(pid=succession.old.pid, channel=channel, introduced=introduced, generation=3, began=0.0)
    )
    assert link.outdated
    for launcher in launchers:
        link.tell_launcher(profile, launcher)
    assert [order["number"] for order in succession.orders()] == [2]
    assert sorted(link.to_state().introduced) == [("launcher", 1), ("launcher", 2)]
    pids = [launcher.pid for launcher in launchers]
    profile.dismiss()
    for pid in pids:
        os.waitpid(pid, 0)
