"""The loop's end of a launcher, against a launcher played by the test over a real socket pair."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import time
import weakref
from collections.abc import AsyncIterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import session_tag
from ucspid.ipc.channel import Channel, close_all, pair
from ucspid.ipc.session_table import CAPACITY
from ucspid.launcher.serve import IN_FLIGHT
from ucspid.pool import USUAL_LAUNCHERS, Pool
from ucspid.spawn import OVERDUE_AFTER, STUCK_AFTER, LauncherClient, Process

NUMBER = 3
SERVICE = 7
TAG = session_tag.pack(1.5, "192.0.2.1", 4000, "smtp")


def tokens(packets: list[bytes]) -> list[int]:
    """Return the tokens with which it was asked what runs."""
    asked = [packet for packet in packets if packet[0] == wire.ListSessions.KIND]
    return [wire.ListSessions.unpack(packet).token for packet in asked]


class Session(asyncio.SubprocessProtocol):
    """What a program's protocol was called with."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.failed: int | None = None
        self.exited = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.process is None
        self.process = cast("Process", transport)

    def start_failed(self, reason: int) -> None:
        assert self.failed is None
        self.failed = reason

    def process_exited(self) -> None:
        assert not self.exited
        self.exited = True


class Rig:
    """A LauncherClient, and the test as the process at its other end."""

    def __init__(self) -> None:
        ours, theirs = pair()
        self.peer = Channel(theirs)
        self.met: dict[int, Session] = {}
        self.all_met: list[Session] = []
        self.changes = 0
        self.ended: set[int] = set()
        self.launcher = LauncherClient(NUMBER, ours, self, self._changed)

    def counted_out(self, connection: int) -> bool:
        return connection in self.ended

    def found(self, service: int, connection: int, tag: bytes) -> Session:
        if service != SERVICE:
            raise WireError(f"service {service} is not called so")
        session_tag.unpack(tag)
        session = self.met[connection] = Session()
        self.all_met.append(session)
        return session

    def _changed(self) -> None:
        self.changes += 1

    def close(self) -> None:
        self.launcher.close()
        self.peer.sock.close()

    def usable(self) -> bool:
        return self.launcher.usable

    def stuck(self) -> bool:
        return self.launcher.stuck

    def start(self, connection: int) -> Session:
        session = Session()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            head = wire.Start.head(SERVICE, connection, TAG)
            assert self.launcher.start(connection, head, ours.fileno(), session)
        return session

    def given(self, others: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
        """Start a session on a client's socket and others; return which files came with the client's."""
        session = Session()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            connection = 1 + len(self.launcher.in_flight)
            head = wire.Start.head(SERVICE, connection, TAG)
            assert self.launcher.start(connection, head, ours.fileno(), session, others)
            packet, descriptors = self.peer.receive() or (b"", [])
            assert packet == head
            files = list(map(os.fstat, descriptors))
            close_all(descriptors)
            assert files[0].st_ino == os.fstat(ours.fileno()).st_ino
        return [(file.st_dev, file.st_ino) for file in files[1:]]

    def heard(self) -> list[bytes]:
        """Return what the launcher's process was sent; descriptors with it are closed."""
        packets = []
        while received := self.peer.receive():
            packets.append(received[0])
            for descriptor in received[1]:
                os.close(descriptor)
        return packets

    def say(self, *reports: bytes) -> bool:
        """Send a packet of reports, and have it received."""
        self.peer.send(b"".join(reports))
        return self.launcher.receive()

    def answer_list(self, *running: int) -> None:
        """Answer the last LIST."""
        token = max(
            wire.ListSessions.unpack(item).token for item in self.heard() if item[0] == wire.ListSessions.KIND
        )
        self.say(*(report(wire.RUNNING, number) for number in running), listed(token, process=99))

    def judged(self, seconds: float, held_up: float = 0.0) -> tuple[bool, bool]:
        """Return whether the launcher is stuck and overdue, some seconds from now."""
        self.launcher.judge(time.monotonic() + seconds, held_up)
        return self.launcher.stuck, self.launcher.overdue


def report(
    kind: int,
    connection: int,
    status: int = 0,
    process: int = 1,
    used: tuple[int, int, int] = (0, 0, 0),
    service: int = SERVICE,
) -> bytes:
    return wire.Report.head(kind, status, process, service, connection, *used, TAG)


def listed(token: int, process: int = 77, in_flight: int = IN_FLIGHT) -> bytes:
    return report(wire.LISTED, token, process=process, service=in_flight)


def hello(process: int = 77, version: int = wire.VERSION, in_flight: int = IN_FLIGHT) -> bytes:
    return report(wire.HELLO, 0, status=version, process=process, service=in_flight)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
async def synced(rig: Rig) -> Rig:
    rig.answer_list()
    assert rig.launcher.synced
    return rig


# One program's life


async def test_a_program_is_an_asyncio_subprocess(synced: Rig) -> None:
    session = synced.start(1)
    assert synced.launcher.in_flight[1].get_pid() == 0
    synced.say(report(wire.STARTED, 1, process=1234))
    process = session.process
    assert isinstance(process, asyncio.SubprocessTransport)
    assert (process.get_pid(), process.get_returncode(), process.is_closing()) == (1234, None, False)
    synced.say(report(wire.EXITED, 1, status=7 << 8, used=(1_500_000, 250_000, 4096)))
    assert session.exited
    assert (process.get_returncode(), process.is_closing()) == (7, True)
    assert process.usage is not None
    assert (process.usage.user, process.usage.system, process.usage.max_rss) == (1.5, 0.25, 4096)


async def test_the_sockets_for_tls_come_after_the_clients_and_stay_the_callers(synced: Rig) -> None:
    synced.heard()
    assert synced.given() == []
    with contextlib.ExitStack() as stack:
        control, plain = map(stack.enter_context, socket.socketpair())
        files = [os.fstat(sock.fileno()) for sock in (control, plain)]
        others = (control.fileno(), plain.fileno())
        assert synced.given(others) == [(file.st_dev, file.st_ino) for file in files]
        control.send(b"x")
        assert plain.recv(1) == b"x"


async def test_a_death_by_signal_is_negative_and_an_unseen_end_is_unknown(synced: Rig) -> None:
    sessions = [synced.start(number) for number in (1, 2)]
    synced.say(report(wire.STARTED, 1), report(wire.STARTED, 2))
    synced.say(report(wire.EXITED, 1, status=9), report(wire.EXITED, 2, status=wire.STATUS_UNKNOWN))
    assert [session.process and session.process.get_returncode() for session in sessions] == [-9, None]
    assert all(session.exited for session in sessions)


async def test_a_start_that_fails_says_why(synced: Rig) -> None:
    session = synced.start(1)
    synced.say(report(wire.FAILED, 1, status=errno.ENOENT))
    assert session.failed == errno.ENOENT
    assert not synced.launcher.in_flight


async def test_a_start_may_fail_after_it_was_reported(synced: Rig) -> None:
    """A launcher that does not wait for execve(2) may hear later that there is no program."""
    session = synced.start(1)
    synced.say(report(wire.STARTED, 1, process=1234), report(wire.FAILED, 1, status=errno.ENOEXEC))
    assert (session.failed, session.exited) == (errno.ENOEXEC, False)
    assert session.process is not None
    assert (session.process.is_closing(), session.process.get_returncode()) == (True, None)
    assert not synced.launcher.running
    synced.heard()
    session.process.close()
    assert synced.heard() == []
    synced.say(report(wire.FAILED, 1), report(wire.EXITED, 1))


async def test_beginning_and_end_may_come_together_and_be_held_back(synced: Rig) -> None:
    sessions = [synced.start(number) for number in range(1, IN_FLIGHT + 1)]
    reports = [report(kind, number) for number in (2, 1) for kind in (wire.STARTED, wire.EXITED)]
    synced.say(*reports)
    assert all(session.exited for session in sessions)
    assert synced.usable()


@pytest.mark.parametrize("kind", [wire.EXITED, wire.FAILED])
async def test_what_has_ended_is_freed_at_once(synced: Rig, kind: int) -> None:
    """There is no cycle for the garbage collector to find."""
    session = synced.start(1)
    synced.say(report(wire.STARTED, 1))
    assert session.process is not None
    gone = weakref.ref(session)
    gc.disable()
    try:
        synced.say(report(kind, 1))
        del session
        assert gone() is None
    finally:
        gc.enable()


async def test_signals_name_process_and_connection(synced: Rig) -> None:
    session = synced.start(1)
    synced.say(report(wire.STARTED, 1, process=1234))
    assert session.process is not None
    synced.heard()
    session.process.terminate()
    session.process.kill()
    session.process.close()
    expected = [(signal.SIGTERM, 1234, 1), (signal.SIGKILL, 1234, 1), (signal.SIGKILL, 1234, 1)]
    assert [
        (item.number, item.process, item.connection) for item in map(wire.Signal.unpack, synced.heard())
    ] == expected


async def test_what_has_ended_or_not_begun_is_not_signalled(synced: Rig) -> None:
    synced.start(2)
    session = synced.start(1)
    synced.launcher.in_flight[2].kill()
    synced.say(report(wire.STARTED, 1), report(wire.EXITED, 1))
    synced.heard()
    assert session.process is not None
    session.process.kill()
    session.process.close()
    assert synced.heard() == []


async def test_a_start_that_nobody_asked_for_is_made_up(synced: Rig) -> None:
    synced.start(1)
    for made_up in (2, 1 << 63, 0):
        with pytest.raises(WireError, match="no start was requested"):
            synced.say(report(wire.STARTED, made_up))
    synced.say(report(wire.STARTED, 1))
    with pytest.raises(WireError, match="twice"):
        synced.say(report(wire.STARTED, 1))
    assert not synced.met


async def test_news_is_reported_once_for_a_packet(synced: Rig) -> None:
    before = synced.changes
    for number in (1, 2, 3):
        synced.start(number)
    synced.say(*(report(wire.STARTED, number) for number in (1, 2, 3)))
    assert synced.changes == before + 1


# Starts in flight


async def test_no_more_starts_than_allowed_are_given(synced: Rig) -> None:
    for number in range(1, IN_FLIGHT + 1):
        assert synced.usable()
        synced.start(number)
    assert not synced.usable()
    synced.say(report(wire.STARTED, 1))
    assert synced.usable()


async def test_a_start_that_the_kernel_does_not_take_leaves_nothing_behind(synced: Rig) -> None:
    ours, theirs = socket.socketpair()
    session = Session()
    head = wire.Start.head(SERVICE, 1, TAG) + bytes(10_000)
    with ours, theirs:
        number = 1
        while synced.launcher.start(number, head, ours.fileno(), session):
            number += 1
    assert number not in synced.launcher.in_flight
    synced.heard()


@pytest.mark.parametrize("count", [1, 64, wire.MAX_IN_FLIGHT])
async def test_a_launcher_says_how_many_starts_it_takes(rig: Rig, count: int) -> None:
    (asked,) = rig.heard()
    rig.say(listed(wire.ListSessions.unpack(asked).token, in_flight=count))
    for number in range(1, count + 1):
        assert rig.usable()
        rig.start(number)
        rig.heard()
    assert not rig.usable()
    rig.say(hello(in_flight=count + 1)) if count < wire.MAX_IN_FLIGHT else rig.say(report(wire.STARTED, 1))
    assert rig.usable()


@pytest.mark.parametrize("count", [0, wire.MAX_IN_FLIGHT + 1, 2**32 - 1])
async def test_a_launcher_takes_no_other_number_of_starts(synced: Rig, count: int) -> None:
    with pytest.raises(WireError, match="starts at once"):
        synced.say(hello(in_flight=count))
    with pytest.raises(WireError, match="starts at once"):
        synced.say(listed(1, in_flight=count))


@pytest.mark.parametrize("process", [0, 1])
async def test_a_launcher_is_a_process_that_can_be_signalled_alone(synced: Rig, process: int) -> None:
    with pytest.raises(WireError, match=f"it is process {process} "):
        synced.say(hello(process=process))


async def test_a_launcher_that_does_not_answer_in_time_is_stuck_and_later_overdue(synced: Rig) -> None:
    began = time.monotonic()
    synced.start(1)
    assert synced.judged(STUCK_AFTER - 1) == (False, False)
    assert synced.judged(STUCK_AFTER) == (True, False)
    assert not synced.usable()
    assert synced.judged(OVERDUE_AFTER - 1) == (True, False)
    assert synced.judged(OVERDUE_AFTER) == (True, True)
    assert time.monotonic() - began < 1, "the times above are not those that they say"


async def test_its_answer_ends_that(synced: Rig) -> None:
    synced.start(1)
    synced.judged(OVERDUE_AFTER)
    synced.say(report(wire.STARTED, 1))
    assert synced.usable()
    assert synced.judged(2 * OVERDUE_AFTER) == (False, False)


async def test_one_look_is_enough(synced: Rig) -> None:
    """Nothing is sampled: the times of starts say it."""
    synced.start(1)
    assert synced.judged(OVERDUE_AFTER) == (True, True)


async def test_a_start_has_its_time_from_when_those_before_it_are_answered(synced: Rig) -> None:
    synced.start(1)
    synced.start(2)
    synced.launcher.judge(time.monotonic() - STUCK_AFTER)  # as if both had been sent as long ago
    synced.say(report(wire.STARTED, 1))
    assert synced.judged(STUCK_AFTER - 1) == (False, False)
    assert synced.judged(STUCK_AFTER) == (True, False)


async def test_answers_to_others_do_not_hide_a_start_that_has_none(rig: Rig) -> None:
    rig.say(hello(in_flight=64))
    rig.answer_list()
    sessions = [rig.start(number) for number in (1, 2, 3)]
    rig.say(report(wire.STARTED, 3), report(wire.STARTED, 2))
    assert [session.process is not None for session in sessions] == [False, True, True]
    assert rig.judged(STUCK_AFTER) == (True, False)


async def test_time_at_which_the_loop_did_not_run_is_not_the_launchers(synced: Rig) -> None:
    """A loop that was stopped may only not have read the answers yet."""
    synced.start(1)
    assert synced.judged(60, held_up=60) == (False, False)
    assert synced.judged(60 + STUCK_AFTER - 1) == (False, False)
    assert synced.judged(60 + STUCK_AFTER) == (True, False)


async def test_when_there_is_something_to_judge_is_known(synced: Rig) -> None:
    def judged_next() -> tuple[bool, bool]:
        when = synced.launcher.judged_next
        assert when is not None
        synced.launcher.judge(when)
        return synced.launcher.stuck, synced.launcher.overdue

    assert synced.launcher.judged_next is None
    synced.start(1)
    assert [judged_next(), judged_next()] == [(True, False), (True, True)]
    assert synced.launcher.judged_next is None


async def test_another_process_in_its_place_has_its_own_time(synced: Rig) -> None:
    synced.start(1)
    synced.judged(OVERDUE_AFTER)
    synced.say(hello())
    assert (synced.launcher.stuck, synced.launcher.overdue) == (False, False)
    assert synced.judged(STUCK_AFTER - 1) == (False, False)
    assert synced.judged(OVERDUE_AFTER) == (True, True)


# A new loop: what runs is found


async def test_nothing_is_started_before_all_that_runs_is_known(rig: Rig) -> None:
    assert not rig.usable()
    rig.answer_list(5, 6)
    assert rig.usable()
    assert sorted(rig.met) == [5, 6]
    assert sorted(rig.launcher.running) == [5, 6]


async def test_sessions_that_no_earlier_loop_knew_of_are_found(rig: Rig) -> None:
    rig.say(report(wire.STARTED, 5, process=55))
    rig.answer_list(5)
    assert rig.met[5].process is not None
    assert rig.met[5].process.get_pid() == 55


async def test_an_end_that_no_loop_knew_of_is_found(rig: Rig) -> None:
    rig.say(report(wire.EXITED, 5, status=3 << 8))
    assert rig.met[5].exited
    assert rig.met[5].process is not None
    assert rig.met[5].process.get_returncode() == 3
    rig.answer_list()
    assert not rig.launcher.running


async def test_a_failure_that_no_loop_knew_of_is_found(rig: Rig) -> None:
    rig.say(report(wire.FAILED, 5, status=errno.ENOENT))
    assert rig.met[5].failed == errno.ENOENT


@pytest.mark.parametrize("kind", [wire.EXITED, wire.FAILED])
async def test_an_end_that_was_counted_out_before_a_death_is_not_met(rig: Rig, kind: int) -> None:
    rig.ended.add(5)
    rig.say(report(kind, 5))
    rig.answer_list()
    assert rig.met == {}
    assert rig.launcher.running == {}


async def called(rig: Rig, *reports: bytes) -> list[str]:
    """Have the roll called, answered with these reports and then LISTED; return what differs."""
    answer = rig.launcher.call_roll()
    (token,) = (
        wire.ListSessions.unpack(item).token for item in rig.heard() if item[0] == wire.ListSessions.KIND
    )
    rig.say(*reports, listed(token))
    return sorted(await answer)


async def test_a_roll_call_compares_and_changes_nothing(synced: Rig) -> None:
    for connection in (1, 2, 3, 4):
        synced.start(connection)
    synced.say(*(report(wire.STARTED, connection, process=connection) for connection in (1, 2, 3)))
    synced.heard()
    right = [report(wire.RUNNING, connection, process=connection) for connection in (1, 2, 3)]
    started = report(wire.STARTED, 4, process=4)
    assert await called(synced, started, *right, report(wire.RUNNING, 4, process=4)) == []
    unanswered = synced.start(5)
    synced.heard()
    wrong = [
        report(wire.RUNNING, 2, process=7),
        report(wire.RUNNING, 3, process=3),
        report(wire.RUNNING, 9, process=9),
    ]
    assert await called(synced, *wrong) == [
        "connection 1: process 1 in the loop, None at its launcher",
        "connection 2: process 2 in the loop, 7 at its launcher",
        "connection 4: process 4 in the loop, None at its launcher",
        "connection 5: its launcher has not answered the start",
        "connection 9: process None in the loop, 9 at its launcher",
    ]
    assert sorted(synced.launcher.running) == [1, 2, 3, 4]
    assert unanswered.failed is None
    assert synced.met == {}


async def test_half_an_answer_of_a_launcher_that_died_counts_for_nothing(synced: Rig) -> None:
    answer = synced.launcher.call_roll()
    synced.say(report(wire.RUNNING, 9, process=9))
    synced.say(hello(process=99))
    asked = [wire.ListSessions.unpack(item).token for item in synced.heard()]
    synced.say(*(listed(token) for token in sorted(asked, reverse=True)))
    assert await answer == []


async def test_nobody_waits_for_the_answer_of_a_launcher_that_has_exited(synced: Rig) -> None:
    answer = synced.launcher.call_roll()
    synced.launcher.lost()
    assert await answer == []


async def test_a_launcher_that_lists_more_than_it_can_run_is_refused(synced: Rig) -> None:
    answer = synced.launcher.call_roll()
    for start in range(0, CAPACITY, 512):
        synced.say(*(report(wire.RUNNING, 1 + start + number) for number in range(512)))
    with pytest.raises(WireError, match="more than"):
        synced.say(report(wire.RUNNING, CAPACITY + 1))
    answer.cancel()


async def test_an_end_reported_again_is_not_counted_again(synced: Rig) -> None:
    session = synced.start(1)
    synced.say(
        report(wire.STARTED, 1), report(wire.EXITED, 1), report(wire.EXITED, 1), report(wire.FAILED, 1)
    )
    assert session.exited
    assert not synced.met


# A new launcher in the place of a dead one


async def test_a_new_launcher_is_asked_and_what_it_does_not_list_has_ended(synced: Rig) -> None:
    running, gone = synced.start(1), synced.start(2)
    synced.say(report(wire.STARTED, 1), report(wire.STARTED, 2))
    synced.heard()
    synced.say(hello(process=77))
    assert synced.launcher.pid == 77
    synced.answer_list(1)
    assert (running.exited, gone.exited) == (False, True)
    assert gone.process is not None
    assert gone.process.get_returncode() is None


async def test_starts_that_died_with_a_launcher_fail_and_others_do_not(synced: Rig) -> None:
    lost, started = synced.start(1), synced.start(2)
    synced.heard()
    synced.say(hello())
    later = synced.start(3)
    synced.say(report(wire.STARTED, 2))
    synced.answer_list(2)
    assert lost.failed == errno.EOWNERDEAD
    assert (started.failed, later.failed) == (None, None)
    assert list(synced.launcher.in_flight) == [3]


async def test_the_answer_to_an_earlier_list_settles_only_what_was_asked_then(synced: Rig) -> None:
    first = synced.start(1)
    synced.say(hello())
    second = synced.start(2)
    synced.say(hello())
    asked = tokens(synced.heard())
    synced.say(listed(asked[0]))
    assert (first.failed, second.failed) == (errno.EOWNERDEAD, None)
    synced.say(listed(asked[1]))
    assert second.failed == errno.EOWNERDEAD


async def test_a_question_that_died_with_a_launcher_is_answered_with_the_next(synced: Rig) -> None:
    lost = synced.start(1)
    answer = synced.launcher.call_roll()
    synced.heard()
    synced.say(hello())
    synced.answer_list()
    assert await answer == []
    assert lost.failed == errno.EOWNERDEAD


async def test_a_program_whose_start_could_not_be_reported_is_no_lost_start_to_an_audit(synced: Rig) -> None:
    """It is listed by the successor of the launcher that died, while an audit waits for its answer, too."""
    started = synced.start(1)
    answer = synced.launcher.call_roll()
    synced.heard()
    synced.say(hello())
    synced.answer_list(1)
    assert await answer == []
    assert started.failed is None
    assert list(synced.launcher.running) == [1]


async def test_a_launcher_that_does_not_answer_is_asked_once(synced: Rig) -> None:
    synced.heard()
    answers = [synced.launcher.call_roll() for _ in range(100)]
    answers[0].cancel()
    assert [packet[0] for packet in synced.heard()] == [wire.ListSessions.KIND]
    synced.launcher.lost()
    assert [await answer for answer in answers[1:]] == 99 * [[]]


async def test_the_answer_to_an_earlier_loop_settles_nothing(rig: Rig) -> None:
    (asked,) = rig.heard()
    rig.launcher = LauncherClient(NUMBER, rig.launcher._channel.sock, rig, rig._changed)
    rig.say(listed(wire.ListSessions.unpack(asked).token))
    assert not rig.usable()
    rig.say(report(wire.STARTED, 1))
    assert list(rig.met) == [1]
    rig.answer_list(1)
    assert rig.usable()


async def test_a_launcher_that_drains_has_its_successor_drain(synced: Rig) -> None:
    synced.launcher.drain()
    synced.launcher.drain()
    assert synced.heard() == [wire.Drain().pack()]
    assert not synced.usable()
    synced.say(hello())
    assert [packet[0] for packet in synced.heard()] == [wire.ListSessions.KIND, wire.Drain.KIND]


async def test_without_a_successor_everything_ends(synced: Rig) -> None:
    running, starting = synced.start(1), synced.start(2)
    synced.say(report(wire.STARTED, 1))
    synced.launcher.lost()
    assert running.exited
    assert starting.failed == errno.EOWNERDEAD
    assert not synced.launcher.running
    assert not synced.launcher.in_flight


async def test_the_end_of_the_channel_is_reported(synced: Rig) -> None:
    synced.peer.sock.close()
    assert not synced.launcher.receive()


# A peer that is no launcher


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        report(wire.STARTED, 1) + b"x",
        report(wire.Start.KIND, 1),
        report(0xFF, 1),
        hello(version=wire.VERSION + 1),
        report(wire.STARTED, 1) + report(wire.STARTED, 1),
        report(wire.STARTED, 1) + report(wire.EXITED, 1, status=0x7F),
    ],
)
async def test_what_no_launcher_sends_is_refused(synced: Rig, packet: bytes) -> None:
    synced.start(1)
    with pytest.raises(WireError):
        synced.say(packet)


async def test_descriptors_from_a_launcher_are_refused(synced: Rig) -> None:
    reading, writing = os.pipe()
    synced.peer.send(report(wire.STARTED, 1), (writing,))
    os.close(writing)
    with pytest.raises(WireError):
        synced.launcher.receive()
    assert os.read(reading, 1) == b""
    os.close(reading)


reports = st.builds(
    wire.Report.head,
    st.sampled_from([*range(16, 22), 0, 255]),
    st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 300) | st.just(wire.VERSION),
    st.integers(0, 9),
    st.just(SERVICE) | st.integers(0, 2000),
    st.integers(1, 4),
    *3 * [st.integers(0, 2**64 - 1)],
    st.just(TAG) | st.binary(min_size=64, max_size=64),
)


@given(st.lists(reports, max_size=20) | st.lists(st.binary(min_size=1), max_size=5))
async def test_any_reports_are_taken_or_refused(packets: list[bytes]) -> None:
    rig = Rig()
    sessions = [rig.start(number) for number in (1, 2)]
    try:
        for packet in packets:
            with contextlib.suppress(WireError):
                assert rig.say(packet)
        for session in [*sessions, *rig.all_met]:
            assert session.failed is None or not session.exited
            if session.process is not None:
                session.process.get_returncode()
    finally:
        rig.close()


# All launchers of a profile


def pool_of(*rigs: Rig, kind: str = "python") -> tuple[Pool, list[str]]:
    asked: list[str] = []
    pool = Pool(lambda: asked.append("more"))
    pool.open = True
    for number, rig in enumerate(rigs):
        rig.launcher.number = number
        pool.add(rig.launcher, kind)
    return pool, asked


@pytest.fixture
async def two() -> AsyncIterator[tuple[Rig, Rig]]:
    rigs = Rig(), Rig()
    for rig in rigs:
        rig.answer_list()
    yield rigs
    for rig in rigs:
        rig.close()


async def test_the_launcher_with_the_fewest_starts_before_it_is_chosen(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(*two)
    two[0].start(1)
    assert pool.choose() is two[1].launcher
    two[1].start(2)
    two[1].start(3)
    assert pool.choose() is two[0].launcher
    assert asked == []


async def test_more_are_asked_for_once_when_starts_queue_up(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(*two)
    for number in range(2 * IN_FLIGHT):
        two[number % 2].start(number + 1)
    for _ in range(3):
        assert pool.choose() is None
    assert asked == []
    for _ in range(3):
        pool.ask_for_more()
    assert asked == ["more"]
    pool.add(two[0].launcher, "python")
    pool.ask_for_more()
    assert asked == ["more", "more"]


async def test_none_is_asked_for_while_one_can_take_a_start(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(*two)
    for number in range(IN_FLIGHT):
        two[0].start(number + 1)
    pool.ask_for_more()
    assert asked == []


async def test_none_is_asked_for_beyond_the_usual(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(*two)
    for rig in two:
        rig.launcher.drain()
    for number in range(USUAL_LAUNCHERS["python"]):
        pool.launchers[number] = two[0].launcher
    pool.ask_for_more()
    assert asked == []


async def test_one_native_launcher_is_enough_unless_it_is_stuck(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(two[0], kind="native")
    for number in range(IN_FLIGHT):
        two[0].start(number + 1)
    pool.ask_for_more()
    assert (pool.choose(), asked) == (None, [])
    assert pool.judge(time.monotonic() + STUCK_AFTER) == [two[0].launcher]
    assert asked == ["more"]


async def test_none_is_chosen_that_is_stuck_drains_or_is_full(two: tuple[Rig, Rig]) -> None:
    pool, _asked = pool_of(*two)
    two[0].launcher.drain()
    for number in range(1, IN_FLIGHT + 1):
        two[1].start(number)
    assert pool.choose() is None


async def test_none_is_chosen_before_the_pool_is_open(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(*two)
    pool.open = False
    assert pool.choose() is None
    pool.ask_for_more()
    assert asked == []


async def test_launchers_that_get_stuck_are_reported_once_and_another_requested(two: tuple[Rig, Rig]) -> None:
    pool, asked = pool_of(*two)
    two[1].start(1)
    now = time.monotonic()
    assert pool.judge(now) == []
    assert pool.judge(now + STUCK_AFTER) == [two[1].launcher]
    assert pool.judge(now + STUCK_AFTER) == []
    assert asked == ["more"]
    assert pool.choose() is two[0].launcher
