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
from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.master import loop_supervisor, succession
from ucspid.master.children import Children, Exit
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.loop_orders import LoopOrders
from ucspid.master.loop_process import LoopProcess
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.poller import Poller
from ucspid.master.upgrade_state import ChannelState, LoopState

TAKEN = f"note {wire.NOTE_TAKEN}"


class Supervised:
    """A supervisor with a process in place, of which the test has the other end, and what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.poller = Poller()
        self.held = Holdings(plan=plan())
        self.log = EventLog()
        self.children = Children()
        self.supervisor: Any = LoopSupervisor("file", self.held, self.poller, self.log, self, self.children)
        ours, theirs = pair()
        self._child = subprocess.Popen(["sleep", "60"])
        self.ours = Channel(ours)
        self.old = LoopProcess(self._child.pid, Channel(theirs), self.poller, self.log, self.supervisor)
        self.supervisor.current = LoopOrders(self.old)
        self.supervisor.current.begun = True
        self.supervisor._served = True

    def loop_note(self, kind: int, _number: int, _token: int) -> None:
        self.heard.append(f"note {kind}")

    def loop_lost(self, reason: str) -> None:
        raise AssertionError(reason)

    def loop_gone(self) -> None:
        """Who waits for an answer is the master's to know."""

    def loop_hands_over(self) -> None:
        self.heard.append("hands over")

    def loop_not_replaced(self, _reason: str) -> None:
        self.heard.append("not replaced")

    def replace(self) -> LoopProcess:
        """Have a successor, and return it."""
        self.supervisor.serve(by_another=True)
        successor = self.successor
        assert successor is not None
        return successor

    @property
    def successor(self) -> LoopProcess | None:
        orders = self.supervisor.succession.successor
        return None if orders is None else orders.process

    @property
    def current(self) -> LoopProcess | None:
        orders = self.supervisor.current
        return None if orders is None else orders.process

    def until(self, condition: Callable[[], object]) -> None:
        """Have the master work until something is so; pytest ends it if it never is."""
        while not condition():
            self.poller.call_in(0.01, lambda: None)  # a child's end is not what the poller waits for
            self.poller.run_once()

    def reap(self, process: LoopProcess) -> None:
        _pid, status = os.waitpid(process.pid, 0)
        assert self.supervisor.exited(Exit(process.pid, status, 0, 0, 0))

    def orders(self) -> list[dict[str, Any]]:
        """Return what the process in place was sent."""
        orders = []
        while (received := self.ours.receive()) and received[0]:
            for descriptor in received[1]:
                os.close(descriptor)
            orders.append(json.loads(received[0]))
        return orders

    def waiting_events(self) -> list[str]:
        """Return the events that nobody has been sent yet."""
        names: list[str] = []

        def take(event: dict[str, Any]) -> bool:
            names.append(event["event"])
            return True

        self.log.send(take)
        return names

    def close(self) -> None:
        for process in (self.current, self.successor):
            if process is not None:
                process.kill()
                process.channel.sock.close()
                os.waitpid(process.pid, 0)
        self._child.returncode = 0  # it was reaped as the master does it
        self.ours.sock.close()
        self.held.close()
        self.children.close()


class Silent:
    """Who hears nothing from launchers, since they say nothing here."""

    def log(self, *_: object, **__: object) -> None:
        raise AssertionError

    launcher_ready = launcher_refused = program_changed = log


@pytest.fixture
def supervised() -> Iterator[Supervised]:
    supervised = Supervised()
    yield supervised
    supervised.close()


def test_the_loop_is_sent_away_when_its_successor_is_ready(supervised: Supervised) -> None:
    successor = supervised.replace()
    supervisor = supervised.supervisor
    assert supervisor.pids == {supervised.old.pid, successor.pid}
    assert supervised.orders() == []
    supervised.until(lambda: supervised.heard == ["hands over"])
    assert [order["do"] for order in supervised.orders()] == ["hand_over"]
    supervised.log.info("meanwhile")
    assert supervised.orders() == []
    supervised.old.kill()
    supervised.reap(supervised.old)
    assert supervised.current is successor
    assert supervisor.pids == {successor.pid}
    supervised.until(lambda: TAKEN in supervised.heard)


def test_a_loop_that_does_not_exit_is_killed(supervised: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "HANDOVER_TIMEOUT", 0.01)
    supervised.replace()
    supervised.until(lambda: supervised.heard == ["hands over"])
    supervised.until(lambda: ended(supervised.old))
    supervised.reap(supervised.old)
    supervised.until(lambda: TAKEN in supervised.heard)


def ended(process: LoopProcess) -> bool:
    """Whether a child has ended; it stays there to be reaped."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_a_successor_that_dies_is_replaced_while_the_loop_goes_on(supervised: Supervised) -> None:
    first = supervised.replace()
    first.kill()
    supervised.reap(first)
    assert supervised.supervisor.pids == {supervised.old.pid}
    assert [order["event"] for order in supervised.orders()] == ["process_died"]
    supervised.until(lambda: supervised.heard == ["hands over"])
    assert supervised.current is supervised.old


def test_a_successor_that_is_never_ready_is_killed(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "READY_TIMEOUT", 0.01)
    supervised.replace()
    for _ in range(succession.MAX_FALSE_STARTS):
        supervised.until(lambda: supervised.successor is not None)
        successor = supervised.successor
        assert successor is not None
        os.kill(successor.pid, signal.SIGSTOP)
        supervised.until(partial(ended, successor))
        supervised.reap(successor)
    assert supervised.heard == ["not replaced"]
    assert supervised.current is supervised.old
    assert [order["event"] for order in supervised.orders()][:2] == ["loop_broken", "process_died"]


def test_a_loop_that_does_not_serve_the_plan_in_time_is_killed_and_another_is_sent_it(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_supervisor, "TAKEN_TIMEOUT", 0.01)
    supervised.supervisor.serve(by_another=False)
    monkeypatch.undo()
    assert [order["do"] for order in supervised.orders()] == ["take_plan"]
    supervised.until(lambda: ended(supervised.old))
    supervised.reap(supervised.old)
    assert supervised.waiting_events() == ["loop_broken", "process_died"]
    supervised.until(lambda: supervised.heard == [TAKEN])


def test_a_loop_that_has_served_the_plan_is_left_alone(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_supervisor, "TAKEN_TIMEOUT", 0.01)
    supervised.supervisor.serve(by_another=False)
    supervised.ours.send(wire.Note.head(wire.NOTE_TAKEN, 1, 0))
    late: list[bool] = []
    supervised.poller.call_in(0.05, lambda: late.append(True))
    supervised.until(lambda: late)
    assert not supervised.old.killed


def test_a_note_of_an_earlier_plan_is_not_that_of_the_plan_in_force(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_supervisor, "TAKEN_TIMEOUT", 0.05)
    supervised.supervisor.serve(by_another=False)
    supervised.ours.send(wire.Note.head(wire.NOTE_TAKEN, 0, 0))
    supervised.until(lambda: ended(supervised.old))


def test_the_loop_dies_before_its_successor_is_ready(supervised: Supervised) -> None:
    supervised.replace()
    supervised.old.kill()
    supervised.reap(supervised.old)
    supervised.until(lambda: supervised.heard == [TAKEN])


def test_the_successor_dies_after_the_loop_was_sent_away(supervised: Supervised) -> None:
    successor = supervised.replace()
    supervised.until(lambda: supervised.heard == ["hands over"])
    successor.kill()
    supervised.reap(successor)
    supervised.old.kill()
    supervised.reap(supervised.old)
    supervised.until(lambda: supervised.heard == ["hands over", TAKEN])


def test_the_loop_dies_while_no_successor_can_be_had(supervised: Supervised) -> None:
    successor = supervised.replace()
    successor.kill()
    supervised.reap(successor)
    supervised.old.kill()
    supervised.reap(supervised.old)
    supervised.until(lambda: supervised.heard == [TAKEN])
    assert supervised.successor is None


def test_a_stop_needs_no_successor(supervised: Supervised) -> None:
    successor = supervised.replace()
    supervised.supervisor.drain(at_once=False)
    assert [order["do"] for order in supervised.orders()] == ["stop"]
    supervised.reap(successor)
    assert supervised.supervisor.pids == {supervised.old.pid}
    assert supervised.heard == []


def test_a_stop_while_the_loop_hands_over_is_the_successors(supervised: Supervised) -> None:
    successor = supervised.replace()
    supervised.until(lambda: supervised.heard == ["hands over"])
    supervised.supervisor.drain(at_once=False)
    supervised.old.kill()
    supervised.reap(supervised.old)
    supervised.reap(successor)  # it has no sessions, so that it ends at once
    assert supervised.supervisor.pids == set()


def test_another_plan_is_for_the_successor_that_is_wanted_already(supervised: Supervised) -> None:
    """Its settings may be those of the process in place, or of neither."""
    successor = supervised.replace()
    supervised.supervisor.serve(by_another=False)
    assert supervised.orders() == []
    assert supervised.successor is successor


def test_a_loop_of_another_version_is_killed(supervised: Supervised) -> None:
    supervised.ours.send(wire.Note.head(wire.NOTE_READY, wire.VERSION + 1, 0))
    supervised.until(lambda: ended(supervised.old))
    assert supervised.orders() == []  # nobody would read it
    assert supervised.waiting_events() == ["loop_broken"]


def test_a_successor_that_asks_for_something_before_it_serves_is_killed(supervised: Supervised) -> None:
    successor = supervised.replace()
    with pytest.raises(WireError, match="before it was sent a plan"):
        supervised.supervisor.note(successor, wire.NOTE_RELOAD, 0, 1)
    assert supervised.heard == []


def test_a_loop_cannot_make_more_of_the_memory_than_it_was_given(supervised: Supervised) -> None:
    supervised.replace()
    supervised.until(lambda: supervised.heard == ["hands over"])
    received = supervised.ours.receive()
    assert received is not None
    (memory,) = received[1]
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, size)
    os.close(memory)


def test_what_a_loop_of_an_earlier_image_knows_it_is_not_sent_again(supervised: Supervised) -> None:
    supervisor = supervised.supervisor
    profile = ProfileLaunchers(1, service("a").launcher_key, 256, supervised.poller, EventLog(), Silent())
    launchers = [profile.add(1), profile.add(2)]
    channel = ChannelState.of(supervised.old.channel)
    supervised.poller.forget(channel.descriptor)
    supervised.old.channel.sock.detach()
    introduced: list[tuple[str, int]] = [("launcher", 1)]
    supervisor.from_state(
        LoopState(pid=supervised.old.pid, channel=channel, introduced=introduced, generation=3, began=0.0)
    )
    for launcher in launchers:
        supervisor.introduce(partial(LoopOrders.send_launcher, profile=profile, launcher=launcher))
    assert [order["number"] for order in supervised.orders()] == [2]
    assert sorted(supervisor.to_state().introduced) == [("launcher", 1), ("launcher", 2)]
    pids = [launcher.pid for launcher in launchers]
    profile.dismiss()
    for pid in pids:
        os.waitpid(pid, 0)


def test_a_loop_of_an_earlier_image_is_replaced_whatever_the_plan_has_changed(
    supervised: Supervised,
) -> None:
    supervised.old.outdated = True
    supervised.supervisor.serve(by_another=False)
    assert supervised.successor is not None
