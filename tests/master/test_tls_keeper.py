"""The TLS processes by the master's end: processes that only sleep, and the test says what they say."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaks import own_descriptors
from masters import events_of
from ucspid.errors import ResourceError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, close_all, seqpacket
from ucspid.master import roles
from ucspid.master.acquired import Acquired
from ucspid.master.children import Children, Exit
from ucspid.master.event_log import EventLog
from ucspid.master.held_tls import MAX_REASON, MAX_UNREAD, HeldTls, TlsHoldings
from ucspid.master.poller import Poller
from ucspid.master.tls_keeper import TlsKeeper
from ucspid.plan import TlsProcesses
from ucspid.policy.backoff import Backoff
from ucspid.tls.ticket_keys import PERIOD

TWO = TlsProcesses(count=2, uid=None, gid=None, groups=None)
OTHER = TlsProcesses(count=2, uid=65534, gid=65534, groups=())


@dataclass
class Process:
    """A process that sleeps, and the test's ends of its channels."""

    process: subprocess.Popen[bytes]
    channel: Channel
    loop: Channel
    ended: bool = False

    def sent(self) -> list[Any]:
        """Return what the master has sent since the last time; of certificates, what is in the memory."""
        found: list[Any] = []
        while (received := self.channel.receive()) and received[0]:
            packet, descriptors = received
            if packet[0] == wire.UseMaterial.KIND:
                number = wire.UseMaterial.unpack(packet).number
                found.append((number, os.pread(descriptors[0], 100, 0)))
            elif packet[0] == wire.Drain.KIND:
                found.append("drain")
            else:
                found.append(wire.TakeTlsRights.unpack(packet))
            close_all(descriptors)
        return found

    @property
    def killed(self) -> bool:
        """Whether somebody has killed it."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait_killed(self) -> None:
        """Wait until somebody has killed it; it stays there to be reaped."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        self.channel.sock.close()
        self.loop.sock.close()


class Kept:
    """A keeper, and what it keeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[Process] = []
        self.ready: list[int] = []
        self.reasons: list[str] = []
        self.acquired: list[Acquired] = []
        self.preparing = False
        self.failing = False
        self.children, self.poller, self.log = Children(), Poller(), EventLog()
        self.held = TlsHoldings()
        self.keeper = TlsKeeper(self.held, self.children, self.poller, self.log, self)
        monkeypatch.setattr(roles, "start_tls", self._start)
        self.pauses: list[float] = []
        monkeypatch.setattr(Backoff, "failed", lambda _backoff, now: self._pause(now))

    def _pause(self, now: float) -> float:
        self.pauses.append(now)
        return 0.0

    def _start(self, master: int, loop: int) -> int:
        if self.failing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        child = subprocess.Popen(["sleep", "1000"], process_group=0, close_fds=True)
        ours, others = (Channel(seqpacket(os.dup(end))) for end in (master, loop))
        self.processes.append(Process(child, ours, others))
        return child.pid

    # The observer

    def tls_ready(self, process: HeldTls) -> None:
        self.ready.append(process.number)

    def tls_refused(self, reason: str) -> bool:
        self.reasons.append(reason)
        return self.preparing

    # What the test does

    def work(self) -> None:
        """Have the master do what there is to do."""
        for _ in range(20):
            self.poller.call_in(0.0, lambda: None)
            self.poller.run_once()

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.poller.call_in(0.01, lambda: None)
            self.poller.run_once()

    def acquire(self, settings: TlsProcesses | None = TWO, text: bytes = b"first") -> Acquired:
        """Prepare a plan."""
        acquired = Acquired(material=memory(text))
        self.acquired.append(acquired)
        self.preparing = True
        self.keeper.acquire(settings, acquired)
        self.work()
        return acquired

    def take(self, processes: list[Process] | None = None) -> None:
        """Have processes, all if not these, use what they were sent last."""
        for process in self.processes if processes is None else processes:
            if not process.ended:
                (*_, (number, _text)) = [item for item in process.sent() if isinstance(item, tuple)]
                process.channel.send(wire.MaterialTaken(number).pack())
        self.work()

    def go_over(self, settings: TlsProcesses | None = TWO, text: bytes = b"first") -> None:
        """Put a plan in force."""
        acquired = self.acquire(settings, text)
        if acquired.tls:
            self.take([each for each in self.processes if each.process.pid in {p.pid for p in acquired.tls}])
            assert ready(acquired)
        self.preparing = False
        self.keeper.go_over(settings, acquired)
        acquired.release()
        self.work()

    def end(self, process: Process, status: int = signal.SIGKILL) -> None:
        """Have a process end with a wait status, as the master sees it."""
        process.close()
        process.ended = True
        assert self.children.exited(Exit(process.process.pid, status, 0, 0, 0))
        self.work()

    def events(self) -> list[str]:
        return events_of(self.log)

    def close(self) -> None:
        for process in [*self.held.all(), *(each for acquired in self.acquired for each in acquired.tls)]:
            process.close()
        for acquired in self.acquired:
            acquired.release()
        for each in self.processes:
            each.close()
            each.process.kill()
            each.process.wait()
        if self.held.material is not None:
            os.close(self.held.material)
        self.children.close()


def ready(acquired: Acquired) -> bool:
    return acquired.ready


def memory(text: bytes) -> int:
    descriptor = os.memfd_create("material", os.MFD_CLOEXEC)
    os.write(descriptor, text)
    return descriptor


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    before = own_descriptors()
    kept = Kept(monkeypatch)
    yield kept
    kept.close()
    left = {os.readlink(f"/proc/self/fd/{number}") for number in own_descriptors() - before}
    assert left <= {"anon_inode:[eventpoll]"}  # the poller has no close()


# A start


def test_the_first_secret_of_tickets_is_of_the_period_that_it_is() -> None:
    """From the first of 1970 on it would take a hash for each of a hundred thousand."""
    began = int(time.time()) // PERIOD
    assert TlsHoldings().secret.period in {began, began + 1}


def test_processes_are_sent_whom_to_be_and_the_certificates_and_are_ready_when_they_use_them(
    kept: Kept,
) -> None:
    acquired = kept.acquire()
    assert len(kept.processes) == 2
    rights, material = kept.processes[0].sent()
    assert (rights.version, rights.uid, bytes.fromhex(rights.secret)) == (
        wire.VERSION, None, kept.held.secret.secret,
    )  # fmt: skip
    assert material == (1, b"first")
    assert not ready(acquired)
    kept.processes[0].channel.send(wire.Ready(wire.VERSION).pack())
    kept.processes[0].channel.send(wire.MaterialTaken(1).pack())
    kept.work()
    assert kept.ready == [1]
    assert not ready(acquired)
    kept.take(kept.processes[1:])
    assert ready(acquired)
    kept.keeper.go_over(TWO, acquired)
    assert [*kept.held.serving] == [1, 2]
    assert acquired.material is None


def test_a_plan_without_tls_starts_none(kept: Kept) -> None:
    kept.go_over(None)
    assert kept.processes == []


def test_a_process_that_cannot_be_started_fails_the_plan_and_what_was_started_is_ended(kept: Kept) -> None:
    kept.failing = True
    with pytest.raises(ResourceError, match="cannot start a TLS process"):
        kept.acquire()


@pytest.mark.parametrize("how", ["refuses", "dies", "exits"])
def test_a_process_that_cannot_use_them_fails_the_plan_and_all_that_were_started_for_it_end(
    kept: Kept, how: str
) -> None:
    acquired = kept.acquire()
    first, second = kept.processes
    if how == "refuses":
        first.channel.send(wire.MaterialRefused(1, "no shared secret").pack())
        kept.work()
        assert kept.reasons == ["no shared secret"]
    else:
        kept.end(first, signal.SIGSEGV if how == "dies" else 111 << 8)
        assert kept.reasons == ["a TLS process ended before it could use them"]
    kept.keeper.release(acquired)
    acquired.release()
    second.wait_killed()
    kept.preparing = False
    kept.end(second)
    assert kept.held.serving == {}
    assert kept.events() == []
    assert len(kept.processes) == 2  # none is started again: no plan wants them


# Deaths


def test_a_process_that_dies_is_started_again_after_a_pause_with_the_certificates_in_force(
    kept: Kept,
) -> None:
    kept.go_over()
    kept.end(kept.processes[0])
    assert kept.events() == ["process_died"]
    assert len(kept.pauses) == 1
    kept.until(lambda: len(kept.processes) == 3)
    assert kept.processes[2].sent()[1] == (1, b"first")
    assert [*kept.held.serving] == [2, 3]
    assert not kept.held.serving[3].ready
    kept.processes[2].channel.send(wire.MaterialTaken(1).pack())
    kept.work()
    assert kept.ready[-1] == 3


def test_a_process_that_cannot_be_started_again_is_tried_until_it_can(kept: Kept) -> None:
    kept.go_over()
    kept.failing = True
    kept.end(kept.processes[0])
    kept.until(lambda: len(kept.pauses) >= 3)
    assert set(kept.events()) == {"process_died", "process_not_started"}
    kept.failing = False
    kept.until(lambda: len(kept.processes) == 3)
    kept.work()
    assert len(kept.processes) == 3


def test_one_that_ends_in_order_though_it_serves_is_started_again(kept: Kept) -> None:
    kept.go_over()
    kept.end(kept.processes[1], 0)
    kept.until(lambda: len(kept.processes) == 3)
    assert kept.events() == ["process_died"]


def test_when_the_daemon_stops_none_is_started_again(kept: Kept) -> None:
    kept.go_over()
    kept.keeper.stop()
    kept.end(kept.processes[0], 0)
    assert kept.events() == []
    kept.end(kept.processes[1])
    assert kept.events() == ["process_died"]
    kept.work()
    assert len(kept.processes) == 2
    assert not any(kept.held.all())


# A reload


def test_with_the_same_settings_processes_stay_and_are_sent_the_certificates(kept: Kept) -> None:
    kept.go_over()
    acquired = kept.acquire(text=b"second")
    assert not ready(acquired)
    kept.take()
    assert ready(acquired)
    kept.keeper.go_over(TWO, acquired)
    assert len(kept.processes) == 2
    assert os.pread(kept.held.material or -1, 100, 0) == b"second"


def test_certificates_that_are_refused_at_a_reload_leave_those_of_before(kept: Kept) -> None:
    kept.go_over()
    acquired = kept.acquire(text=b"second")
    first, second = kept.processes
    for process in kept.processes:
        assert [text for _, text in process.sent()] == [b"second"]
    first.channel.send(wire.MaterialRefused(2, "bad").pack())
    kept.work()
    kept.preparing = False
    kept.keeper.release(acquired)
    acquired.release()
    second.channel.send(wire.MaterialRefused(2, "bad").pack())  # late: nobody waits for it any more
    kept.work()
    assert kept.events() == []
    assert kept.reasons == ["bad"]
    for process in kept.processes:
        ((number, text),) = process.sent()
        assert text == b"first"
        process.channel.send(wire.MaterialTaken(number).pack())
    kept.work()
    assert all(process.ready for process in kept.held.serving.values())
    assert not any(process.killed for process in kept.processes)


def test_a_refusal_of_earlier_certificates_fails_no_plan(kept: Kept) -> None:
    kept.go_over()
    kept.keeper.renew(memory(b"half written"))
    acquired = kept.acquire(text=b"second")
    for process in kept.processes:
        assert [text for _, text in process.sent()] == [b"half written", b"second"]
        process.channel.send(wire.MaterialRefused(2, "cut off").pack())
    kept.work()
    assert kept.reasons == []
    for process in kept.processes:
        process.channel.send(wire.MaterialTaken(3).pack())
    kept.work()
    assert ready(acquired)
    acquired.release()


def test_a_process_that_dies_before_it_uses_a_plans_certificates_fails_the_plan_at_once(kept: Kept) -> None:
    kept.go_over()
    acquired = kept.acquire(text=b"second")
    kept.end(kept.processes[0])
    assert kept.reasons == ["a TLS process ended before it could use them"]
    kept.keeper.release(acquired)
    acquired.release()
    kept.until(lambda: len(kept.processes) == 3)
    assert kept.processes[2].sent()[1][1] == b"first"


def test_one_that_dies_after_it_has_taken_them_is_replaced_when_the_plan_is_in_force(kept: Kept) -> None:
    kept.go_over()
    acquired = kept.acquire(text=b"second")
    kept.take()
    kept.end(kept.processes[0])
    kept.until(lambda: len(kept.processes) == 3)
    assert ready(acquired)
    kept.preparing = False
    kept.keeper.go_over(TWO, acquired)
    kept.until(lambda: len(kept.processes) == 4)
    assert kept.processes[3].sent()[1][1] == b"second"
    assert [*kept.held.serving] == [2, 4]
    assert [*kept.held.draining] == [3]  # it has the certificates of before


def test_certificates_renewed_while_a_plan_is_prepared_do_not_replace_the_plans(kept: Kept) -> None:
    kept.go_over()
    acquired = kept.acquire(text=b"second")
    for text in (b"renewed", b"once more"):
        kept.keeper.renew(memory(text))
    kept.take()
    assert ready(acquired)
    kept.preparing = False
    kept.keeper.go_over(TWO, acquired)
    for process in kept.processes:
        assert process.sent()[-1][1] == b"second"


def test_other_settings_replace_processes_which_drain_and_are_not_started_again(kept: Kept) -> None:
    kept.go_over()
    acquired = kept.acquire(OTHER)
    assert len(kept.processes) == 4
    assert kept.processes[2].sent()[0].uid == 65534
    for process in kept.processes[2:]:
        process.channel.send(wire.MaterialTaken(2).pack())
    kept.work()
    kept.preparing = False
    kept.keeper.go_over(OTHER, acquired)
    assert ([*kept.held.serving], [*kept.held.draining]) == ([3, 4], [1, 2])
    for held in kept.held.draining.values():
        held.drain()
    assert [process.sent()[-1] for process in kept.processes[:2]] == ["drain", "drain"]
    kept.end(kept.processes[0], 0)
    assert kept.events() == []
    kept.end(kept.processes[1])
    assert kept.events() == ["process_died"]
    kept.work()
    assert len(kept.processes) == 4


def test_a_plan_that_needs_no_tls_any_more_has_all_drained(kept: Kept) -> None:
    kept.go_over()
    kept.go_over(None)
    assert ([*kept.held.serving], [*kept.held.draining]) == ([], [1, 2])
    kept.end(kept.processes[0], 0)
    assert kept.events() == []


# Renewal


def test_renewed_certificates_go_to_all_and_to_those_that_come_later(kept: Kept) -> None:
    kept.go_over()
    kept.keeper.renew(memory(b"renewed"))
    assert [process.sent() for process in kept.processes] == [[(2, b"renewed")]] * 2
    kept.end(kept.processes[0])
    kept.until(lambda: len(kept.processes) == 3)
    assert kept.processes[2].sent()[1] == (2, b"renewed")


def test_renewed_certificates_that_are_refused_are_reported_and_the_process_serves_on(kept: Kept) -> None:
    kept.go_over()
    kept.keeper.renew(memory(b"renewed"))
    kept.processes[0].channel.send(wire.MaterialRefused(2, "bad").pack())
    kept.work()
    assert kept.events() == ["certificates_refused"]
    assert not kept.processes[0].killed


# An upgrade


def test_the_next_image_of_the_master_has_the_same_processes_and_replaces_them(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.go_over()
    kept.go_over(OTHER)
    state = kept.held.to_state()
    # Execve(2) would leave them to the next image; here both are there.
    state.material = os.dup(kept.held.material or -1)
    for item in (*state.serving, *state.draining):
        item.loop_end = os.dup(item.loop_end)
        item.channel.descriptor = os.dup(item.channel.descriptor)
    after = Kept(monkeypatch)
    try:
        after.processes = kept.processes
        after.keeper.from_state(state)
        assert ([*after.held.serving], [*after.held.draining]) == ([3, 4], [1, 2])
        assert after.held.secret == kept.held.secret  # tickets of before are opened still
        assert all(process.ready for process in after.held.serving.values())
        after.end(kept.processes[2])
        after.until(lambda: len(after.processes) == 5)
        assert [*after.held.serving] == [4, 5]
        acquired = after.acquire(OTHER, b"second")
        assert len(after.processes) == 7  # their code is not ours
        assert len(acquired.tls) == 2
    finally:
        after.close()


# What no process sends


def refused(reason: bytes) -> bytes:
    return wire.MaterialRefused(1, "").pack()[:-4] + len(reason).to_bytes(4, "little") + reason


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        bytes([wire.Ready.KIND]),
        wire.Ready(wire.VERSION + 1).pack(),
        wire.Secured.KIND.to_bytes() * 30,
        wire.Drain().pack(),
        bytes([wire.MaterialTaken.KIND]) * 100,
        refused(b"")[:-4] + b"\xff\xff\xff\x7f",
        bytes(wire.MAX_PACKET + 1),
    ],
    ids=lambda packet: packet[:4].hex(),
)
def test_a_process_that_sends_nonsense_is_killed_and_another_follows(kept: Kept, packet: bytes) -> None:
    kept.go_over()
    kept.processes[0].channel.send(packet)
    kept.work()
    kept.processes[0].wait_killed()
    assert kept.events() == ["tls_broken"]
    kept.end(kept.processes[0])
    kept.until(lambda: len(kept.processes) == 3)
    assert not kept.processes[1].killed


# Those that hang


def asked(process: Process) -> int:
    """Return how often a process was asked since the last time."""
    count = 0
    while packet := process.channel.receive_packet():
        count += packet == wire.Ping().pack()
    return count


def test_a_process_that_does_not_answer_is_killed_and_another_follows(kept: Kept) -> None:
    kept.go_over()
    first, second = (kept.held.serving[number] for number in (1, 2))
    first.ask(0.05)
    second.ask(0.05)
    kept.processes[1].channel.send(wire.Pong().pack())
    kept.until(lambda: kept.processes[0].killed)
    assert kept.events() == ["tls_broken"]
    kept.end(kept.processes[0])
    kept.until(lambda: len(kept.processes) == 3)
    assert not kept.processes[1].killed


def test_a_process_is_asked_once_until_it_answers(kept: Kept) -> None:
    kept.go_over()
    for _ in range(3):
        kept.keeper.suspect(1)
    kept.keeper.suspect(77)
    assert asked(kept.processes[0]) == 1
    kept.processes[0].channel.send(wire.Pong().pack())
    kept.work()
    kept.keeper.suspect(1)
    assert asked(kept.processes[0]) == 1
    assert asked(kept.processes[1]) == 0


def test_the_shorter_time_to_answer_counts(kept: Kept) -> None:
    kept.go_over()
    process = kept.held.serving[1]
    for seconds in (1000, 0.05, 1000):
        process.ask(seconds)
    assert asked(kept.processes[0]) == 1
    kept.until(lambda: kept.processes[0].killed)


def test_a_process_that_does_not_use_certificates_yet_is_not_asked(kept: Kept) -> None:
    acquired = kept.acquire()
    kept.processes[0].sent()
    acquired.tls[0].ask()
    assert asked(kept.processes[0]) == 0


def test_nobody_is_killed_for_the_time_in_which_the_master_did_not_run(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.go_over()
    process = kept.held.serving[1]
    due: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(kept.poller, "call_in", lambda seconds, callback: due.append((seconds, callback)))
    process.ask(5.0)
    ((seconds, overdue),) = due
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3 * seconds)
    overdue()
    assert not kept.processes[0].killed
    monkeypatch.setattr(time, "monotonic", lambda: now + 4.5 * seconds)
    due[-1][1]()
    kept.processes[0].wait_killed()


def test_a_process_that_was_stopped_is_asked_whether_it_goes_on(kept: Kept) -> None:
    kept.go_over()
    os.kill(kept.processes[1].process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, kept.processes[1].process.pid, os.WSTOPPED | os.WNOWAIT)
    kept.keeper.children_changed()
    assert [asked(process) for process in kept.processes] == [0, 1]


def test_one_that_exits_right_after_others_were_reaped_keeps_nobody_from_being_asked(kept: Kept) -> None:
    kept.go_over()
    os.kill(kept.processes[0].process.pid, signal.SIGKILL)
    kept.processes[0].wait_killed()  # and its exit will be taken with the next signal
    os.kill(kept.processes[1].process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, kept.processes[1].process.pid, os.WSTOPPED | os.WNOWAIT)
    kept.keeper.children_changed()
    assert [asked(process) for process in kept.processes] == [0, 1]


def test_a_process_answers_once_about_certificates(kept: Kept) -> None:
    acquired = kept.acquire()
    number = kept.held.number
    for packet in (refused(b"expired"), refused(b"again"), wire.MaterialTaken(number).pack()):
        kept.processes[0].channel.send(packet)
    kept.work()
    assert (kept.reasons, kept.ready) == (["expired"], [])
    acquired.release()


def test_descriptors_from_a_process_are_not_taken(kept: Kept) -> None:
    kept.go_over()
    reading, writing = os.pipe()
    kept.processes[0].channel.send(wire.MaterialTaken(1).pack(), (writing,))
    os.close(writing)
    kept.work()
    assert os.read(reading, 1) == b""
    os.close(reading)
    kept.processes[0].wait_killed()


def test_a_reason_of_any_length_is_cut_to_one_that_can_be_sent(kept: Kept) -> None:
    acquired = kept.acquire()
    kept.processes[0].channel.send(refused(b"\xff" * 30_000))
    kept.work()
    (reason,) = kept.reasons
    assert 0 < len(reason) <= MAX_REASON
    acquired.release()


def test_certificates_that_it_was_not_sent_make_no_process_ready(kept: Kept) -> None:
    acquired = kept.acquire()
    for number in (0, 2, 0xFFFFFFFF):
        kept.processes[0].channel.send(wire.MaterialTaken(number).pack())
    kept.work()
    assert kept.ready == []
    acquired.release()


def test_a_process_that_closes_its_channel_and_lives_on_does_not_busy_the_master(kept: Kept) -> None:
    kept.go_over()
    kept.processes[0].channel.sock.close()
    kept.work()
    over: list[bool] = []
    kept.poller.call_in(0.1, lambda: over.append(True))
    rounds = 0
    while not over:
        kept.poller.run_once()
        rounds += 1
    assert rounds < 10
    kept.keeper.renew(memory(b"renewed"))
    kept.processes[0].wait_killed()  # it cannot be sent them


def test_a_process_that_reads_nothing_is_killed_before_too_much_waits(kept: Kept) -> None:
    kept.go_over()
    before = len(own_descriptors())
    most = number = 0
    while not kept.processes[0].killed:
        kept.keeper.renew(memory(b"%d" % number))
        number += 1
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
        assert number < 100 * MAX_UNREAD
        kept.processes[1].sent()
        kept.work()
    assert most - before <= MAX_UNREAD + 5
    assert not kept.processes[1].killed
    kept.end(kept.processes[0])
    assert len(own_descriptors()) <= before


@settings(max_examples=10, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20))
def test_whatever_a_process_sends_never_raises(packets: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kept = Kept(patch)
        try:
            kept.go_over()
            for packet in packets:
                kept.processes[0].channel.send(packet)
            kept.work()
            assert not kept.processes[1].killed
        finally:
            kept.close()
