"""The launchers of a profile as the master keeps them: what they are sent at a start and at a reload."""

import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from masters import events_of
from plans import plan, service
from ucspid.codec import Packed
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.linux.fd_limit import raise_limit
from ucspid.master import settling
from ucspid.master.acquired import Acquired
from ucspid.master.children import Exit
from ucspid.master.event_log import EventLog
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.log_pipes import LogPipe
from ucspid.master.poller import Poller
from ucspid.master.programs import HeldProgram, program
from ucspid.master.settling import Settling
from ucspid.plan import LauncherKey, LauncherKind
from ucspid.profile import Profile

NOBODYS = 1 << 22
"""No process has this number or a higher one: PID_MAX_LIMIT of the kernel."""

MESSAGES: dict[int, type[Packed]] = {
    message.KIND: message
    for message in (wire.SetProgram, wire.AllowNames, wire.ForbidNames, wire.RemovePrograms)
}


class Observer:
    """What the master hears of launchers."""

    def __init__(self) -> None:
        self.ready: list[int] = []

    def launcher_ready(self, _profile: ProfileLaunchers, launcher: HeldLauncher) -> None:
        self.ready.append(launcher.number)

    def launcher_refused(self, _profile: ProfileLaunchers, reason: str, *, program: bool) -> None:
        raise AssertionError(reason, program)

    def program_changed(self, profile: ProfileLaunchers) -> None:
        raise AssertionError(profile.names)


class Rig:
    """A profile with one launcher, whose place the test takes."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.profile = ProfileLaunchers(1, LauncherKey(Profile()), 1024, self.poller, EventLog(), Observer())
        ours, theirs = pair()
        self.peer = Channel(theirs)
        launcher = self.profile.launchers[1] = HeldLauncher.open(1, self.poller, self.profile)
        launcher.listen(Channel(ours))

    def received(self) -> list[Packed]:
        found = []
        while packet := self.peer.receive_packet():
            found.append(MESSAGES[packet[0]].unpack(packet))
        return found

    def allowed(self, number: int) -> set[bytes]:
        return set(self.profile._programs[number].allowed)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.profile.dismiss()
    rig.peer.sock.close()


def set_program(number: int, *names: bytes, executable: str = "/bin/cat") -> HeldProgram:
    return HeldProgram(wire.SetProgram(number, wire.STDERR_KEPT, executable, (b"cat",), (), names), None)


def test_only_what_has_changed_is_sent(rig: Rig) -> None:
    one, two = set_program(1, b"A"), set_program(2)
    rig.profile.set_programs([one, two], "a,b")
    assert rig.received() == [one.message, two.message]
    changed = set_program(2, executable="/bin/echo")
    rig.profile.set_programs([one, changed], "a,b")
    assert rig.received() == [changed.message]


def test_variables_that_a_plan_takes_away_stay_until_no_connection_needs_them(rig: Rig) -> None:
    rig.profile.set_programs([set_program(1, b"A", b"B")], "a")
    rig.profile.set_programs([set_program(1, b"B", b"C")], "a")
    rig.profile.set_programs([set_program(1, b"C", b"D")], "a")
    assert not [message for message in rig.received() if isinstance(message, wire.ForbidNames)]
    assert rig.allowed(1) == {b"A", b"B", b"C", b"D"}
    rig.profile.settle([set_program(1, b"C", b"D")])
    assert rig.received() == [wire.ForbidNames(1, (b"A", b"B"))]
    assert rig.allowed(1) == {b"C", b"D"}
    rig.profile.settle([set_program(1, b"C", b"D")])
    assert rig.received() == []


def test_a_variable_that_comes_back_is_not_taken_away(rig: Rig) -> None:
    for names in ((b"A",), (), (b"A",)):
        rig.profile.set_programs([set_program(1, *names)], "a")
    rig.profile.settle([set_program(1, b"A")])
    assert not [message for message in rig.received() if isinstance(message, wire.ForbidNames)]


def test_a_service_that_is_gone_can_be_started_until_no_connection_needs_it(rig: Rig) -> None:
    rig.profile.set_programs([set_program(number) for number in range(1, 6)], "a")
    rig.received()
    rig.profile.set_programs([set_program(1)], "a")
    assert rig.received() == []
    rig.profile.settle([set_program(1)])
    assert rig.received() == [wire.RemovePrograms((2, 3, 4, 5))]


def test_a_launcher_that_starts_meanwhile_is_sent_all_that_may_be_needed(rig: Rig) -> None:
    many = [b"%05d" % number * 100 for number in range(200)]
    rig.profile.set_programs([set_program(1, *many), set_program(2)], "a")
    rig.profile.set_programs([set_program(1, b"A")], "a")
    sent = [packet for item in rig.profile._programs.values() for packet, _ in item.messages()]
    assert all(len(packet) <= wire.MAX_PACKET for packet in sent)
    first, *others, last = [MESSAGES[packet[0]].unpack(packet) for packet in sent]
    assert (first, last) == (set_program(1, b"A").message, set_program(2).message)
    names = [name for message in others if isinstance(message, wire.AllowNames) for name in message.names]
    assert names == many


@pytest.fixture
def _raised_limit() -> Iterator[None]:
    """Have as many descriptors as a master: of others' processes, no more may be on their way, unix(7)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = raise_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_raised_limit")
def test_no_number_of_services_or_sessions_is_too_large_for_a_launcher_to_start() -> None:
    observer, poller, log, held = Observer(), Poller(), EventLog(), Holdings()

    def start(
        key: LauncherKey, programs: list[HeldProgram], names: str, _kind: LauncherKind
    ) -> ProfileLaunchers:
        launchers = ProfileLaunchers(1, key, 1024, poller, log, observer)
        launchers.set_programs(programs, names)
        launchers.add(1)
        return launchers

    acquired = Acquired()
    held.acquire(
        plan(*(service(f"{number:032}", listen=(), stderr="null") for number in range(4200))), acquired, start
    )
    (profile,) = acquired.profiles.values()
    launcher = profile.launchers[1]
    while observer.ready != [1]:
        poller.run_once()
    assert len(profile.names) < 1000

    for died in (1, 2):
        launcher.kill()
        pid, status = os.waitpid(launcher.pid, 0)
        profile.died(launcher, Exit(pid, status, 0, 0, 0), set(range(NOBODYS, NOBODYS + 20_000)))
        while len(observer.ready) != 1 + died:
            poller.run_once()
    assert events_of(log) == ["process_died", "process_died"]

    pid = launcher.pid
    profile.dismiss()
    os.waitpid(pid, 0)
    held.close()


class Settled(Holdings):
    """Counts how often it was settled."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = plan()
        self.times = 0

    def settle(self) -> list[LogPipe]:
        self.times += 1
        return []


def test_what_only_an_earlier_plan_had_is_forgotten_when_the_loop_says_so_or_time_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "SETTLE_TIMEOUT", 0.001)
    held, poller = Settled(), Poller()
    waiting = Settling(held, poller)
    waiting.settled()
    assert held.times == 1
    assert poller._wait() is None  # the time does not matter any more
    waiting.go_over(plan(), Acquired())
    while held.times == 1:
        poller.run_once()
    assert held.times == 2
    held.close()


def test_what_programs_have_in_common_is_there_once() -> None:
    common: dict[str, Any] = {"argv": ("x", "y"), "env": (("A", "B"),), "rule_env": ("C",)}
    first, second = (program(number, service(f"s{number}", **common), None).message for number in (1, 2))
    for name in ("arguments", "environment", "names"):
        assert getattr(first, name) is getattr(second, name)
