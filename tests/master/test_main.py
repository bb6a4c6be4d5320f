"""The master's main loop: whatever its children do and say, it goes on and logs it."""

import errno
import os
import signal
from collections.abc import Iterator

import pytest

from masters import MasterRig, mastering
from plans import plan, service
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.master import reader, roles, shutdown
from ucspid.master.children import Exit
from ucspid.master.control_clients import MAX_CLIENTS

NOTES = {
    wire.NOTE_READY, wire.NOTE_TAKEN, wire.NOTE_SETTLED, wire.NOTE_MORE, wire.NOTE_BROKEN,
    wire.NOTE_RELOAD, wire.NOTE_UPGRADE, wire.NOTE_VARIABLES, wire.NOTE_FORECAST, wire.NOTE_CONDITION,
    wire.NOTE_TLS_SILENT, wire.NOTE_LOGGED,
}  # fmt: skip


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[MasterRig]:
    with mastering(monkeypatch) as rig:
        yield rig


def test_it_starts_and_serves(rig: MasterRig) -> None:
    rig.begin()
    rig.read()
    assert rig.master.exit == EXIT_SYSTEM


def test_it_serves_when_the_loop_has_taken_the_plan(rig: MasterRig) -> None:
    rig.serve("a")
    assert rig.events() == ["started"]


@pytest.mark.slow
def test_no_wait_status_of_a_launcher_ends_the_master(
    rig: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of the launcher's user may kill it by any signal: kill -40 $PPID."""
    rig.serve()
    rig.loop.orders()
    ((profile, launcher),) = rig.master.reaper.launchers()
    monkeypatch.setattr(profile, "_restart", lambda _launcher: None)
    pid = launcher.pid
    for status in EVERY_END:
        launcher.pid = pid
        rig.master.reaper.take([Exit(pid, status, 0, 0, 0)])
        assert "internal_error" not in rig.events()
    assert rig.master.exit is None


EVERY_END = [*range(0x100), *range(0, 0x10000, 0x100), 0xFFFF]
"""Every signal with and without a core, what is no end, and every exit status."""


@pytest.mark.slow
def test_no_wait_status_of_the_loop_ends_the_master(rig: MasterRig) -> None:
    rig.serve()
    for status in EVERY_END:
        rig.loop.orders()
        rig.end(rig.loop, status)
        assert rig.master.exit is None
        rig.work()
        assert rig.events() == ["process_died"]
        rig.take()


@pytest.mark.slow
@pytest.mark.parametrize(
    "said", [(b"", b""), (b"{}", b""), (b"[]\n[]", b""), (b"{", b"why"), (b"\xff", b"\xff")]
)
def test_no_end_and_no_words_of_a_reader_end_the_master(rig: MasterRig, said: tuple[bytes, bytes]) -> None:
    rig.serve()
    rig.loop.orders()
    for status in EVERY_END[:: 1 if said == (b"", b"") else 16]:
        rig.master.signalled(signal.SIGHUP)
        rig.readers[-1].write(*said)
        rig.end(rig.readers[-1], status)
        assert rig.events() == ["reload_failed"]
        assert rig.master.exit is None
    rig.master.signalled(signal.SIGHUP)
    rig.read(rig.master.parts.held.plan)
    rig.take()
    assert rig.events() == ["reloaded"]


@pytest.mark.slow
def test_no_end_of_a_trial_ends_the_master(rig: MasterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.serve()
    rig.loop.orders()

    def execve(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "execve", execve)
    for status in EVERY_END:
        rig.master.signalled(signal.SIGUSR2)
        rig.end(rig.trials[-1], status)
        assert rig.events() == ["upgrade_failed"]
        assert rig.master.exit is None


EXACT = pytest.param(wire.Note.SIZE, marks=pytest.mark.slow)


@pytest.mark.parametrize("length", [*range(1, 16), EXACT, *range(17, 20), 24, 100, wire.MAX_PACKET])
def test_a_note_of_any_kind_and_length_is_taken_or_has_the_loop_killed(rig: MasterRig, length: int) -> None:
    rig.serve()
    exact = length == wire.Note.SIZE
    for kind in range(0x100) if exact else (0, *NOTES, 0xFF):
        loop = rig.loop
        loop.orders()
        loop.say(bytes([kind]).ljust(length, b"\0"))
        rig.work()
        assert rig.master.exit is None
        assert "internal_error" not in rig.events()
        if not (exact and kind in NOTES - {wire.NOTE_READY}):
            loop.wait_killed()
            rig.end(loop, signal.SIGKILL)


@pytest.mark.parametrize("kind", [wire.NOTE_RELOAD, wire.NOTE_UPGRADE, wire.NOTE_FORECAST])
def test_more_clients_than_the_loop_can_have_get_it_killed_and_not_the_master(
    rig: MasterRig, kind: int
) -> None:
    rig.serve()
    rig.master.signalled(signal.SIGHUP)  # its reader works on meanwhile
    for token in range(1, MAX_CLIENTS + 3):
        rig.loop.note(kind, 0, token)
        rig.work()
    rig.loop.wait_killed()
    rig.master.signalled(signal.SIGHUP)
    rig.end(rig.loop, signal.SIGKILL)
    rig.master.signalled(signal.SIGHUP)
    assert rig.events() == ["started", "loop_broken", "process_died"]  # that loop had logged nothing
    assert rig.master.exit is None


def test_what_nobody_waits_for_is_no_client(rig: MasterRig) -> None:
    """Many files of rules may set new variables at once."""
    rig.serve()
    rig.loop.orders()
    for _ in range(2 * MAX_CLIENTS):
        rig.loop.note(wire.NOTE_RELOAD)
    rig.work()
    assert not rig.loop.killed
    assert rig.events() == []


@pytest.mark.slow
def test_a_loop_that_does_not_read_its_answers_is_killed(rig: MasterRig) -> None:
    rig.serve()
    for _ in range(1000):
        for token in range(1, MAX_CLIENTS):
            rig.loop.note(wire.NOTE_RELOAD, 0, token)
        rig.work()
        rig.read(status=EXIT_USAGE << 8, errors=b"wrong\n" * 1000)
        if rig.loop.killed:
            return
    pytest.fail("it has not been killed")


def test_a_loop_that_cannot_be_sent_something_is_replaced(
    rig: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has no descriptors for a new launcher's channel, say."""
    rig.serve()
    rig.loop.orders()
    send = Channel.send

    def fail(channel: Channel, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        if packet.startswith(b'{"do":"add_launcher"'):
            raise OSError(errno.EMFILE, "Too many open files")
        send(channel, packet, descriptors)

    with monkeypatch.context() as patch:
        patch.setattr(Channel, "send", fail)
        rig.loop.note(wire.NOTE_MORE, rig.master.parts.held.all_profiles()[0].number)
        rig.work()
        rig.launchers[-1].say(wire.Ready(wire.VERSION).pack())
        rig.work()
    rig.loop.wait_killed()
    rig.end(rig.loop, signal.SIGKILL)
    assert rig.events() == ["loop_broken", "process_died"]
    assert rig.master.exit is None


def test_a_reader_that_hangs_fails_its_reload_and_the_next_reload_works(
    rig: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.serve()
    rig.loop.orders()
    with monkeypatch.context() as patch:
        patch.setattr(reader, "TIMEOUT", 0.0)
        rig.master.signalled(signal.SIGHUP)
    rig.work()
    hung = rig.readers[-1]
    hung.wait_killed()
    assert rig.events() == ["reload_failed"]
    rig.master.signalled(signal.SIGHUP)
    rig.read(rig.master.parts.held.plan)
    rig.take()
    assert rig.events() == ["reloaded"]
    rig.end(hung, signal.SIGKILL)
    assert rig.events() == []


def serve_to_exit(rig: MasterRig) -> None:
    """Have a plan served whose daemon exits before its sessions."""
    rig.begin()
    rig.read(plan(service("a"), stop="exit"))
    rig.take()
    rig.loop.orders()


def test_it_exits_when_the_loop_no_longer_listens_where_sessions_are_to_go_on(rig: MasterRig) -> None:
    serve_to_exit(rig)
    rig.master.signalled(signal.SIGTERM)
    rig.master.signalled(signal.SIGTERM)
    rig.work()
    (order,) = rig.loop.orders()
    assert order == {"do": "stop", "at_once": False, "alone": True}
    assert rig.master.exit is None
    rig.loop.note(wire.NOTE_ALONE)
    rig.work()
    assert rig.master.exit == 0


def test_it_kills_a_loop_that_goes_on_listening_then(rig: MasterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "ALONE_TIMEOUT", 0.0)
    serve_to_exit(rig)
    rig.master.signalled(signal.SIGTERM)
    rig.work()
    rig.loop.wait_killed()
    assert rig.master.exit == 0


def test_it_exits_without_a_loop_too(rig: MasterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_to_exit(rig)
    monkeypatch.setattr(roles, "start_loop", refuse)
    rig.end(rig.loop, signal.SIGKILL)
    rig.master.signalled(signal.SIGTERM)
    rig.work()
    assert rig.master.exit == 0


def refuse(_channel: int) -> int:
    raise OSError(errno.EAGAIN, "no process")


def test_no_loop_ends_the_master_unasked(rig: MasterRig) -> None:
    serve_to_exit(rig)
    rig.loop.note(wire.NOTE_ALONE)
    rig.work()
    rig.loop.wait_killed()
    assert rig.master.exit is None


def test_a_forecast_says_what_a_reload_would_change_and_changes_nothing(rig: MasterRig) -> None:
    rig.serve("a")
    rig.loop.note(wire.NOTE_FORECAST, 0, 7)
    rig.work()
    rig.loop.note(wire.NOTE_FORECAST, 0, 8)  # the file may have changed since the first look began
    rig.work()
    looks = len(rig.readers)
    rig.read(plan(service("a"), service("b")))
    answered = rig.answered()
    assert answered.keys() == {7}
    assert [line.partition(":")[0] for line in answered[7]["changes"]] == ["b"]
    assert answered[7]["another_loop"] is False
    assert len(rig.readers) == looks + 1
    rig.read(status=EXIT_USAGE << 8, errors=b"f:1: wrong")
    assert rig.answered()[8] == "f:1: wrong"
    assert rig.generation == 1
    assert [item.name for item in rig.master.parts.held.plan.services] == ["a"]
    assert rig.events() == []


def test_a_forecast_is_cancelled_by_a_stop(rig: MasterRig) -> None:
    rig.serve("a")
    rig.loop.note(wire.NOTE_FORECAST, 0, 7)
    rig.work()
    rig.master.signalled(signal.SIGTERM)
    rig.readers[-1].wait_killed()
    rig.work()
    assert rig.answered()[7] == "the daemon stops"


def test_an_event_that_dies_with_the_loop_is_logged_by_the_next(rig: MasterRig) -> None:
    rig.serve()
    assert rig.events() == ["started"]
    for event in ("logged", "lost"):
        rig.master.parts.log.error(event)
    rig.loop.note(wire.NOTE_LOGGED)  # nobody has read this when it dies
    before = len(rig.loops)
    rig.end(rig.loop, signal.SIGKILL)
    rig.until(lambda: len(rig.loops) > before)
    rig.work()
    assert rig.events() == ["lost", "process_died"]
