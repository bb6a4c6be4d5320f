"""The master against launchers and a loop that were subverted: nothing they send ends or misleads it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaks import own_descriptors
from masters import events_of
from plans import service
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.session_table import Table, processes
from ucspid.master import loop_process
from ucspid.master.children import Children, Exit
from ucspid.master.event_log import MAX_WAITING, EventLog
from ucspid.master.held_launcher import MAX_REASON, MAX_TRACEBACK, HeldLauncher
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import MAX_UNREAD, ProfileLaunchers
from ucspid.master.loop_orders import LoopOrders
from ucspid.master.loop_process import MAX_UNREAD as MAX_UNREAD_BY_LOOP
from ucspid.master.loop_process import LoopProcess
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.main import Master
from ucspid.master.poller import Poller
from ucspid.master.programs import HeldProgram

PROGRAM = ["sleep", "1000"]


class Observer:
    """What the master hears of launchers and the loop."""

    def __init__(self) -> None:
        self.ready: list[HeldLauncher] = []
        self.reasons: list[str] = []
        self.programs: list[bool] = []
        self.changed: list[int] = []
        self.notes: list[tuple[int, int, int]] = []
        self.events: list[str] = []

    def launcher_ready(self, _profile: ProfileLaunchers, launcher: HeldLauncher) -> None:
        self.ready.append(launcher)

    def launcher_refused(self, _profile: ProfileLaunchers, reason: str, *, program: bool) -> None:
        self.reasons.append(reason)
        self.programs.append(program)

    def program_changed(self, profile: ProfileLaunchers) -> None:
        self.changed.append(profile.number)

    def loop_note(self, kind: int, number: int, token: int) -> None:
        self.notes.append((kind, number, token))

    def loop_lost(self, reason: str) -> None:
        raise AssertionError(reason)

    def loop_gone(self) -> None:
        self.events.append("gone")

    def loop_hands_over(self) -> None:
        self.events.append("hands over")

    def loop_not_replaced(self, reason: str) -> None:
        self.events.append(reason)


def set_program(number: int, executable: str) -> wire.SetProgram:
    return wire.SetProgram(number, wire.STDERR_GIVEN, executable, (), (), ())


class Hostile:
    """A profile with one launcher, whose end of the master's channel is the test's."""

    def __init__(self) -> None:
        self.observer = Observer()
        self.poller = Poller()
        self.log = EventLog()
        key = service("a").launcher_key
        self.profile = ProfileLaunchers(1, key, 1024, self.poller, self.log, self.observer)
        ours, theirs = pair()
        self.peer = Channel(theirs)
        self.launcher = self.profile.launchers[1] = HeldLauncher.open(1, self.poller, self.profile)
        self.launcher.listen(Channel(ours))

    def say(self, packet: bytes, *descriptors: int) -> None:
        self.peer.send(packet, descriptors)
        self.poller.run_once()

    def close(self) -> None:
        self.profile.dismiss()
        self.peer.sock.close()


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    hostile = Hostile()
    yield hostile
    hostile.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(PROGRAM, process_group=0) as process:
        yield process
        process.kill()


def refused(reason: bytes) -> bytes:
    return wire.PrivilegesRefused("").pack()[:-4] + len(reason).to_bytes(4, "little") + reason


def test_a_launcher_is_ready_when_it_says_so(hostile: Hostile) -> None:
    hostile.say(wire.Ready(wire.VERSION).pack())
    assert hostile.observer.ready == [hostile.launcher]


@pytest.mark.parametrize("packet", [refused(b""), refused(b"no"), refused(b"\xff")])
def test_a_refusal_has_a_reason_of_some_kind(hostile: Hostile, packet: bytes) -> None:
    hostile.say(packet)
    assert len(hostile.observer.reasons) == 1


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        bytes([wire.Ready.KIND]),
        wire.Ready(wire.VERSION + 1).pack(),
        refused(b"")[:-4] + b"\xff\xff\xff\x7f",
        bytes([wire.SignalOrphan.KIND]),
        bytes([wire.SetProgram.KIND]) * 100,
        bytes(wire.MAX_PACKET + 1),
    ],
    ids=lambda packet: packet[:4].hex(),
)
def test_a_launcher_that_sends_nonsense_is_killed(
    hostile: Hostile, process: subprocess.Popen[bytes], packet: bytes
) -> None:
    hostile.launcher.pid = process.pid
    hostile.say(packet)
    assert process.wait(10) == -signal.SIGKILL
    assert events_of(hostile.log) == ["launcher_broken"]
    hostile.launcher.pid = 0


def test_descriptors_from_a_launcher_are_not_taken(hostile: Hostile) -> None:
    reading, writing = os.pipe()
    hostile.say(wire.Ready(wire.VERSION).pack(), writing)
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert hostile.observer.ready == []


def test_a_launcher_may_have_its_own_orphans_ended_and_no_other_process(
    hostile: Hostile, process: subprocess.Popen[bytes]
) -> None:
    def ask(number: int, pid: int) -> None:
        hostile.say(wire.SignalOrphan(number, pid).pack())

    ask(signal.SIGKILL, process.pid)
    ask(signal.SIGKILL, 0)
    hostile.launcher.orphans = {process.pid}
    ask(signal.SIGSTOP, process.pid)
    ask(0xFFFF, process.pid)
    assert process.poll() is None
    ask(signal.SIGTERM, process.pid)
    assert process.wait(10) == -signal.SIGTERM


def test_a_reason_of_any_length_is_cut_to_one_that_can_be_sent(hostile: Hostile) -> None:
    hostile.say(refused(b"\xff" * 100_000))
    (reason,) = hostile.observer.reasons
    assert 0 < len(reason) <= MAX_REASON


def test_a_traceback_of_any_length_is_cut_to_one_that_can_be_sent(hostile: Hostile) -> None:
    head = wire.CannotLoad("").pack()[:-4]
    hostile.say(head + (100_000).to_bytes(4, "little") + b"\xff" * 100_000)
    (reason,) = hostile.observer.reasons
    assert 0 < len(reason) <= MAX_TRACEBACK
    assert hostile.observer.programs == [True]


def test_a_launcher_that_preloads_nothing_cannot_have_anything_imported(hostile: Hostile) -> None:
    hostile.say(wire.Changed().pack())
    assert hostile.observer.changed == []


LEAVES_ITS_GROUP = """
import os, signal, sys
if sys.argv[1] == "stays" and os.fork() == 0:
    signal.pause()
os.setpgid(0, os.getpgid(os.getppid()))
os.write(1, b"left")
signal.pause()
"""
"""Goes to the group of whoever has started it, which is to get no signal."""


@pytest.mark.parametrize("child", ["stays", "none"])
def test_an_orphan_that_has_left_its_process_group_is_signalled_and_the_group(
    hostile: Hostile, child: str
) -> None:
    command = [sys.executable, "-I", "-S", "-c", LEAVES_ITS_GROUP, child]
    with subprocess.Popen(command, process_group=0, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"left"
        hostile.launcher.orphans = {process.pid}
        hostile.say(wire.SignalOrphan(signal.SIGTERM, process.pid).pack())
        assert process.wait(10) == -signal.SIGTERM
        assert process.stdout.read() == b""  # nobody has it any more


def test_a_launcher_cannot_cut_its_table_short(hostile: Hostile) -> None:
    launcher = hostile.profile.add(2)
    with pytest.raises(PermissionError):
        os.ftruncate(launcher.memory, 0)
    assert processes(launcher.memory) == set()
    hostile.profile.dismiss()
    os.waitpid(launcher.pid, 0)


def test_the_end_of_an_orphan_waits_until_a_launcher_can_be_sent_it(hostile: Hostile) -> None:
    hostile.launcher.orphans = {77}
    assert hostile.profile.orphan_exited(Exit(77, 0, 1, 2, 3))
    assert not hostile.profile.orphan_exited(Exit(77, 0, 1, 2, 3))
    assert hostile.peer.receive_packet() == wire.OrphanExit(77, 0, 1, 2, 3).pack()


@given(
    st.lists(st.binary(min_size=1, max_size=100) | st.integers(48, 50).map(lambda kind: bytes([kind]) * 8))
)
def test_no_bytes_of_a_launcher_end_the_master(packets: list[bytes]) -> None:
    hostile = Hostile()
    try:
        for packet in packets:
            hostile.say(packet)
    finally:
        hostile.close()


@contextlib.contextmanager
def group() -> Iterator[int]:
    """Start what the master would take for an orphan: a child that leads a process group."""
    with subprocess.Popen(PROGRAM, process_group=0) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_launcher_that_names_programs_of_others_in_its_table_does_not_get_them(hostile: Hostile) -> None:
    """The first launcher is subverted; the second has died, with a session of before that it took over."""
    master: Any = Master("file", None, -1, 1024)
    held = master.parts.held
    held.profiles = {"profile": hostile.profile}
    other = hostile.profile.launchers[2] = HeldLauncher.open(2, hostile.poller, hostile.profile)
    with group() as its_own, group() as orphan, group() as starting:
        other.orphans = {orphan}
        table = Table(other.memory)
        table.started(table.claim(1, 1, b""), its_own)
        table = Table(hostile.launcher.memory)
        for connection, process in enumerate([its_own, orphan], 1):
            table.started(table.claim(connection, 1, b""), process)
        other.pid = os.getsid(0)  # as if it had led the session of these
        found = master.reaper.orphans(other, set())
        other.pid = 0
        assert {its_own, starting} <= found
        assert orphan not in master.reaper.orphans(hostile.launcher, set())
    held.close()
    master.parts.children.close()


class HostileLoop:
    """The master's side of a loop whose end of the channel is the test's."""

    def __init__(self) -> None:
        self.observer = Observer()
        self.poller = Poller()
        self.held = Holdings()
        self.log = EventLog()
        self.children = Children()
        self.supervisor: Any = LoopSupervisor(
            "file", self.held, self.poller, self.log, self.observer, self.children
        )
        ours, theirs = pair()
        self.peer = Channel(theirs)
        self.ours = ours
        self.process = LoopProcess(0, Channel(ours), self.poller, self.log, self.supervisor)
        self.orders = self.supervisor.current = LoopOrders(self.process)

    def say(self, packet: bytes, *descriptors: int) -> None:
        self.peer.send(packet, descriptors)
        self.poller.call_in(0.0, lambda: None)  # one that is killed is not heard any more
        self.poller.run_once()

    def close(self) -> None:
        self.peer.sock.close()
        self.ours.close()
        self.held.close()
        self.children.close()


@pytest.fixture
def loop() -> Iterator[HostileLoop]:
    loop = HostileLoop()
    yield loop
    loop.close()


def test_a_note_is_passed_on(loop: HostileLoop) -> None:
    loop.say(wire.Note.head(wire.NOTE_RELOAD, 1, 2))
    assert loop.observer.notes == [(wire.NOTE_RELOAD, 1, 2)]


@pytest.mark.parametrize("packet", [b"x", wire.Note.head(wire.NOTE_TAKEN, 1, 2) + b"x", b'{"do": "x"}'])
def test_a_loop_that_sends_nonsense_is_killed(
    loop: HostileLoop, process: subprocess.Popen[bytes], packet: bytes
) -> None:
    loop.process.pid = process.pid
    loop.say(packet)
    assert process.wait(10) == -signal.SIGKILL
    assert loop.observer.notes == []


def test_a_loop_that_closes_its_channel_and_stays_costs_no_time_and_is_killed(
    loop: HostileLoop, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_process, "EXIT_TIMEOUT", 0.01)
    loop.process.pid = process.pid
    loop.peer.sock.shutdown(socket.SHUT_RDWR)
    loop.poller.run_once()
    assert process.poll() is None
    loop.process.send(orders.Stop(at_once=False))
    loop.poller.run_once()  # nothing is there to wake it up but the time
    assert process.wait(10) == -signal.SIGKILL


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_no_bytes_of_a_loop_end_the_master(packets: list[bytes]) -> None:
    loop = HostileLoop()
    try:
        for packet in packets:
            loop.say(packet)
    finally:
        loop.close()


def test_events_for_a_loop_that_does_not_read_wait_in_bounds_and_are_sent_when_it_does(
    loop: HostileLoop,
) -> None:
    loop.orders.begun = True
    for number in range(3000):
        loop.log.info("event", number=number)
    channel = loop.process.channel
    assert len(channel.waiting) <= 1
    sent = []
    while (packet := loop.peer.receive_packet()) is not None or channel.backed_up:
        if packet is None:
            loop.poller.run_once()  # there is room for more
        else:
            sent.append(json.loads(packet)["fields"]["number"])
    assert sent[-1] == 2999
    assert sent[-MAX_WAITING:] == list(range(2000, 3000))
    assert not channel.backed_up


def test_a_loop_that_never_reads_what_it_is_sent_is_killed(
    loop: HostileLoop, process: subprocess.Popen[bytes]
) -> None:
    loop.process.pid = process.pid
    for token in range(3 * MAX_UNREAD_BY_LOOP):
        loop.process.send(orders.Answer(token=token, error="x" * 1000))
        assert loop.process.channel.backlog <= MAX_UNREAD_BY_LOOP + 1 or loop.process.killed
    assert process.wait(10) == -signal.SIGKILL


def test_a_launcher_that_does_not_listen_to_changes_of_its_programs_is_killed(
    hostile: Hostile, process: subprocess.Popen[bytes]
) -> None:
    hostile.launcher.pid = process.pid
    reading, writing = os.pipe()
    before = len(own_descriptors())
    for change in range(10_000):
        hostile.profile.set_programs([HeldProgram(set_program(1, str(change)), writing)], "a")
        channel = hostile.launcher.channel
        assert channel is not None
        assert len(channel.waiting) <= MAX_UNREAD + 2
    assert process.wait(10) == -signal.SIGKILL
    assert len(own_descriptors()) <= before + MAX_UNREAD + 2
    hostile.launcher.ended()
    assert len(own_descriptors()) == before - 1
    os.close(reading)
    os.close(writing)
