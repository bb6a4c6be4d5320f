"""The protocol between loop and launcher, against what must be true, whoever dies when and however often."""

import contextlib
import gc
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from succession import POINTS, Loop, World, slots
from tiers import examples
from ucspid.ipc import messages as wire
from ucspid.launcher.serve import IN_FLIGHT
from ucspid.linux import process_group
from ucspid.policy.connection_states import ConnectionState

QUESTION = wire.ListSessions.head(0)
ANSWER = wire.Report.head(wire.LISTED, 0, 77, IN_FLIGHT, 0, 0, 0, 0, bytes(wire.TAG_SIZE))


def open_descriptors() -> int:
    """Return how many sockets and pipes are open; a table's memory is closed when Python comes to it."""
    kinds = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            kinds.append(entry.readlink().name.partition(":")[0])
    return kinds.count("socket") + kinds.count("pipe")


@pytest.fixture(autouse=True, scope="module")
def garbage_of_others() -> None:
    """Close what earlier tests have dropped, before descriptors are counted."""
    gc.collect()


class Succession(RuleBasedStateMachine):
    """The life of one launcher and one loop, through all the processes that they are."""

    def __init__(self) -> None:
        super().__init__()
        self.before = open_descriptors()
        self.connections = 0
        self.world: World

    @initialize(small_buffers=st.booleans())
    def begin(self, small_buffers: bool) -> None:
        self.world = World(small_buffers=small_buffers)
        self.patched = mock.patch.object(process_group, "send_signal", self.world.kill)
        self.patched.start()

    def there_is_a_loop(self) -> bool:
        return self.world.loop is not None

    def there_is_a_launcher(self) -> bool:
        return self.world.process is not None

    def a_program_runs(self) -> bool:
        return bool(self.world.alive())

    # The loop

    @precondition(lambda self: self.world.loop is not None and self.world.loop.launcher.usable)
    @rule(count=st.integers(1, 3))
    def connect(self, count: int) -> None:
        assert self.world.loop is not None
        for _ in range(count):
            self.connections += 1
            self.world.loop.connect(self.connections)

    @precondition(there_is_a_loop)
    @rule(packets=st.integers(1, 4))
    def loop_receives(self, packets: int) -> None:
        assert self.world.loop is not None
        for _ in range(packets):
            assert self.world.loop.launcher.receive()

    @precondition(lambda self: self.world.loop is not None and self.world.loop.launcher.running)
    @rule(data=st.data(), number=st.sampled_from([15, 9]))
    def loop_signals(self, data: st.DataObject, number: int) -> None:
        assert self.world.loop is not None
        running = self.world.loop.launcher.running
        running[data.draw(st.sampled_from(sorted(running)))].send_signal(number)

    @precondition(there_is_a_loop)
    @rule()
    def loop_dies(self) -> None:
        assert self.world.loop is not None
        self.world.loop.die()
        self.world.loop = None

    @precondition(lambda self: self.world.loop is None)
    @rule()
    def loop_starts(self) -> None:
        self.world.loop = Loop(self.world)

    # What is late, and fills the channel

    @rule(packets=st.integers(1, 9))
    def questions_of_an_earlier_loop(self, packets: int) -> None:
        self.world.send_late(self.world.loop_end, QUESTION, packets)

    @rule(packets=st.integers(1, 9))
    def answers_to_an_earlier_loop(self, packets: int) -> None:
        self.world.send_late(self.world.own_end, ANSWER, packets)

    # The launcher

    @precondition(there_is_a_launcher)
    @rule(turns=st.integers(1, 4))
    def launcher_takes_turns(self, turns: int) -> None:
        for _ in range(turns):
            if self.world.process is not None:
                self.world.turn()

    @precondition(there_is_a_launcher)
    @rule(point=st.sampled_from(POINTS), chances=st.integers(0, 2))
    def launcher_is_going_to_die(self, point: str, chances: int) -> None:
        assert self.world.process is not None
        self.world.process.dies_at, self.world.process.chances = point, chances

    @precondition(there_is_a_launcher)
    @rule()
    def launcher_dies(self) -> None:
        self.world.kill_launcher()

    @precondition(lambda self: self.world.process is None)
    @rule(point=st.sampled_from(["", *POINTS]), chances=st.integers(0, 2))
    def launcher_starts(self, point: str, chances: int) -> None:
        self.world.restart(point, chances)

    # Programs

    @precondition(a_program_runs)
    @rule(data=st.data(), code=st.integers(0, 255))
    def program_ends(self, data: st.DataObject, code: int) -> None:
        self.world.end(data.draw(st.sampled_from(sorted(self.world.alive().values()))), code << 8)

    @rule(none=st.booleans())
    def programs_can_be_started(self, none: bool) -> None:
        self.world.no_more_processes = none

    # What must be true

    @invariant()
    def no_connection_has_two_slots(self) -> None:
        if hasattr(self, "world"):
            slots(self.world.memory)

    @rule()
    def all_settles(self) -> None:
        world = self.world
        loop = world.settle()
        alive = world.alive()
        assert loop.launcher.usable
        assert {connection: process.pid for connection, process in loop.launcher.running.items()} == alive
        assert slots(world.memory) == alive
        assert sorted(session.number for session in loop.live) == sorted(alive)
        assert {session.state for session in loop.live} <= {ConnectionState.RUNNING}
        started = {program.connection for program in world.programs.values()}
        assert loop.ids_served <= started - alive.keys() <= world.reported | loop.ids_served
        assert loop.ids_failed & started == set()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.all_settles()
        finally:
            self.world.close()
            self.patched.stop()
        assert open_descriptors() == self.before


TestSuccession = Succession.TestCase
TestSuccession.settings = settings(max_examples=examples(80), stateful_step_count=40, deadline=None)


def test_an_end_that_is_still_to_be_sent_when_the_launcher_dies_is_reported_by_its_successor() -> None:
    world = World(small_buffers=True)
    try:
        loop = world.settle()
        assert loop.connect(1)
        world.settle()
        loop.die()
        world.loop = None
        world.send_late(world.own_end, ANSWER, 100)
        (pid,) = world.alive().values()
        world.end(pid, 0)
        world.turn()
        world.kill_launcher()
        assert world.settle().ids_served == {1}
    finally:
        world.close()
