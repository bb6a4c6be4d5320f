"""Preloaded programs as the master has them: imported again at each reload, and when a file has changed."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from masters import Child, MasterRig, mastering
from plans import plan, service
from ucspid import plain
from ucspid.codec import Packed
from ucspid.errors import EXIT_USAGE
from ucspid.ipc import messages as wire
from ucspid.master import renewals
from ucspid.master.poller import Poller
from ucspid.master.renewals import Renewals
from ucspid.plan import LauncherKey, Preloaded
from ucspid.profile import Profile

SCRIPT = Preloaded(script="a.py", modules=("email",), watch=True)
A = service("a", argv=("a.py", "x"), preloaded=SCRIPT)
OTHER = service("other")
TRACE = "a.py: cannot be imported:\nTraceback (most recent call last):\nValueError: no"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[MasterRig]:
    monkeypatch.setattr(renewals, "QUIET", 0.0)
    with mastering(monkeypatch) as rig:
        yield rig


@pytest.fixture
def serving(rig: MasterRig) -> MasterRig:
    rig.begin()
    rig.read(plan(A, OTHER))
    rig.take()
    rig.events()
    return rig


def say(rig: MasterRig, launcher: Child, message: Packed) -> None:
    launcher.say(message.pack())
    rig.work()


def kinds(launcher: Child) -> list[int]:
    """Return the kinds of the messages that a launcher has been sent since the last time."""
    assert launcher.channel is not None
    found = []
    while (received := launcher.channel.receive()) and received[0]:
        found.append(received[0][0])
    return found


def test_a_launcher_is_sent_what_to_import_between_program_and_privileges(
    rig: MasterRig,
) -> None:
    rig.begin()
    rig.read(plan(A))
    (launcher,) = rig.launchers
    assert launcher.channel is not None
    sent = [received[0] for _ in range(3) if (received := launcher.channel.receive())]
    program = wire.SetProgram.unpack(sent[0])
    assert (program.executable, program.arguments) == ("/bin/cat", (b"a.py", b"x"))
    assert wire.Preload.unpack(sent[1]) == wire.Preload(True, False, "a.py", None, (b"email",))
    assert sent[2][0] == wire.TakePrivileges.KIND


def test_services_with_preloaded_programs_share_no_launcher(rig: MasterRig) -> None:
    rig.begin()
    again = service("again", argv=A.argv, preloaded=SCRIPT)
    rig.read(plan(A, again, OTHER, service("shares")))
    assert len(rig.launchers) == 3


def test_one_that_cannot_be_imported_at_the_start_is_a_mistake_of_the_configuration(
    rig: MasterRig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.begin()
    rig.read(plan(A))
    say(rig, rig.launchers[0], wire.CannotLoad(TRACE))
    assert rig.master.exit == EXIT_USAGE
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "ucspid: a: a.py: cannot be imported:"
    assert lines[-1] == "ucspid: ValueError: no"


def test_a_reload_imports_all_again_and_lets_the_old_launchers_leave(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, OTHER))
    assert len(serving.launchers) == 3  # one more: that of other stays
    serving.take()
    assert serving.answered() == {1: {"changes": ["a: the program was imported again"]}}
    old = [profile for profile in serving.master.parts.held.all_profiles() if profile.draining]
    assert [profile.names for profile in old] == ["a"]


def test_an_old_launcher_that_dies_has_a_successor_for_its_sessions_with_nothing_to_import(
    serving: MasterRig,
) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, OTHER))
    serving.take()
    serving.loop.note(wire.NOTE_SETTLED, serving.generation)
    serving.work()
    before = len(serving.launchers)
    serving.end(serving.launchers[0], signal.SIGKILL)
    serving.until(lambda: len(serving.launchers) > before)
    assert kinds(serving.launchers[-1]) == [wire.TakePrivileges.KIND]


def test_a_reload_with_one_that_cannot_be_imported_says_why_and_changes_nothing(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, OTHER))
    say(serving, serving.launchers[-1], wire.CannotLoad(TRACE))
    assert serving.events() == ["reload_failed"]
    assert serving.answered() == {1: f"a: {TRACE}"}
    serving.launchers[-1].wait_killed()
    assert not serving.launchers[0].killed
    assert [profile.draining for profile in serving.master.parts.held.all_profiles()] == [False, False]


def test_an_interpreter_that_ends_before_all_is_imported_fails_a_reload_at_once(serving: MasterRig) -> None:
    serving.loop.note(wire.NOTE_RELOAD, token=1)
    serving.work()
    serving.read(plan(A, OTHER))
    serving.end(serving.launchers[-1], signal.SIGSEGV)
    (answer,) = serving.answered().values()
    assert answer == "a: the interpreter ended before the program was imported: signal SIGSEGV"
    assert len(serving.launchers) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"env": (("X", "1"),)},
        {"argv": ("a.py",)},
        {"executable": "/bin/echo"},
        {"stderr": "null"},
        {"preloaded": Preloaded(script="b.py")},
        {"profile": Profile(umask=0)},
    ],
)
def test_whatever_a_launcher_is_made_for_makes_its_key(settings: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"argv": A.argv, "preloaded": SCRIPT}
    changed = service("a", **(usual | settings))
    assert changed.launcher_key != A.launcher_key
    assert plain.read(LauncherKey, json.loads(plain.to_json(changed.launcher_key))) == changed.launcher_key


def test_other_settings_leave_the_key_as_it_is() -> None:
    changed = service("a", argv=A.argv, preloaded=SCRIPT, max_connections=3, rule_env=("X",))
    assert changed.launcher_key == A.launcher_key


# A file has changed


def test_a_changed_program_is_imported_by_a_new_launcher_without_reading_the_file(serving: MasterRig) -> None:
    say(serving, serving.launchers[0], wire.Changed())
    serving.until(lambda: len(serving.launchers) == 3)
    assert len(serving.readers) == 1
    serving.take()
    assert serving.events() == ["programs_renewed"]
    first, *others = serving.master.parts.held.all_profiles()
    assert (first.names, [profile.draining for profile in others]) == ("other", [False, True])


def test_a_changed_program_that_cannot_be_imported_leaves_the_old_one(
    serving: MasterRig,
) -> None:
    say(serving, serving.launchers[0], wire.Changed())
    serving.until(lambda: len(serving.launchers) == 3)
    say(serving, serving.launchers[2], wire.CannotLoad(TRACE))
    assert serving.events() == ["programs_not_renewed"]
    say(serving, serving.launchers[0], wire.Changed())  # which may have mended it
    serving.until(lambda: len(serving.launchers) == 4)
    serving.take()
    assert serving.events() == ["programs_renewed"]


def test_a_reload_takes_up_changes_that_come_before_its_end(serving: MasterRig) -> None:
    serving.master.signalled(signal.SIGHUP)
    say(serving, serving.launchers[0], wire.Changed())
    assert len(serving.launchers) == 2
    serving.read(plan(A, OTHER))
    serving.take()
    assert serving.events() == ["reloaded"]
    assert len(serving.launchers) == 3
    say(serving, serving.launchers[2], wire.Changed())
    serving.until(lambda: len(serving.launchers) == 4)


def test_however_often_changes_are_reported_one_import_follows(
    serving: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "QUIET", 0.05)
    for _ in range(50):
        serving.launchers[0].say(wire.Changed().pack())
    serving.until(lambda: len(serving.launchers) == 3)
    serving.take()
    assert (serving.events(), len(serving.launchers)) == (["programs_renewed"], 3)


def test_changes_without_end_are_imported_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "QUIET", 0.02)
    monkeypatch.setattr(renewals, "MAX_WAIT", 0.1)
    poller = Poller()
    renewed: list[int] = []
    waiting = Renewals(poller, renewed.append)
    while not renewed:
        waiting.want(7)
        poller.call_in(0.01, lambda: None)
        poller.run_once()
    assert renewed == [7]


@pytest.mark.parametrize("preloaded", [None, Preloaded(script="a.py")])
def test_nobody_else_can_have_programs_imported(rig: MasterRig, preloaded: Preloaded | None) -> None:
    """A launcher may be somebody else's by now, and say whatever it likes."""
    rig.begin()
    rig.read(plan(service("a", preloaded=preloaded)))
    rig.take()
    say(rig, rig.launchers[0], wire.Changed())
    rig.work()
    assert len(rig.launchers) == 1
