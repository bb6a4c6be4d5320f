"""What the master carries through execve(2): the same again, also for code that knows other settings."""

import json
import os
import sys
from typing import Any

import pytest

from leaks import open_files, opened_since
from plans import plan, service
from ucspid import plain
from ucspid.errors import ResourceError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair, seqpacket
from ucspid.master import resume, upgrade, upgrade_state
from ucspid.master.children import Children
from ucspid.master.event_log import EventLog
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.held_tls import TlsHoldings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.poller import Poller
from ucspid.master.upgrade_state import (
    ChannelState,
    HeldTlsState,
    HoldingsState,
    LoopState,
    MasterState,
    ProfileState,
    TlsState,
)
from ucspid.plan import Ending, TlsProcesses

PLAN = plan(service("a"), service("b"))


def state(**changes: Any) -> MasterState:
    values: dict[str, Any] = {
        "state": upgrade_state.STATE, "wire": wire.VERSION, "version": "1", "config": "/file", "nofile": 1024,
        "next_launcher": 7, "next_profile": 8, "upgrade_tokens": [1], "reload_tokens": [2, 3],
        "loop": LoopState(
            pid=5, channel=ChannelState(descriptor=10, waiting=[("aGk=", [11])]),
            introduced=[("stderr", 4), ("launcher", 1)], generation=4, began=1.5,
        ),
        "holdings": HoldingsState(
            plan=PLAN, control=[("/control", 12)],
            listeners=[(PLAN.services[0].listen[0], "a", 0, 3, (1, 2), 13)],
            stderr=[(4, "a", None, 14, 15), (3, "a", 7, 17, None)],
            numbers={"a": 1, "b": 2}, longest=9.0,
            gone={"b": Ending(drain_timeout=30.0, kill_timeout=5.0, max_lifetime=None)},
            others={"null": 16}, profiles=[],
            tls=TlsState(
                settings=TlsProcesses(count=1, uid=1, gid=2, groups=(3,)), material=18, number=4, period=5,
                secret="00", draining=[], last=6,
                serving=[
                    HeldTlsState(
                        number=6, pid=7, loop_end=19, channel=ChannelState(descriptor=20, waiting=[]),
                        wanted=4, taken=3,
                    )
                ],
            ),
        ),
    } | changes  # fmt: skip
    return MasterState(**values)


def test_a_state_is_the_same_again() -> None:
    again = upgrade_state.from_memory(state().to_memory())
    assert again == state()
    assert again.to_json() == state().to_json()
    assert sorted(again.descriptors()) == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize(
    "changes", [{"state": upgrade_state.STATE + 1}, {"wire": wire.VERSION + 1}, {"state": None}, {"more": 1}]
)
def test_a_state_of_another_version_needs_a_restart(changes: dict[str, Any]) -> None:
    with pytest.raises(ResourceError, match="needs a restart"):
        upgrade_state.parse(json.dumps(json.loads(state().to_json()) | changes))


def test_settings_that_one_of_the_two_does_not_know_matter_not() -> None:
    data = json.loads(state().to_json())
    first, second = data["holdings"]["plan"]["services"]
    first["from_the_future"] = first["profile"]["from_the_future"] = 1
    del second["nodelay"], second["lookup"]["ident"], second["profile"]["nice"]
    assert upgrade_state.parse(json.dumps(data)) == state()


def test_a_plan_that_is_another_altogether_needs_a_restart() -> None:
    data = json.loads(state().to_json())
    data["holdings"]["plan"]["from_the_future"] = 1
    with pytest.raises(ResourceError, match="needs a restart"):
        upgrade_state.parse(json.dumps(data))


class Silent:
    def launcher_ready(self, *_: object, **__: object) -> None:
        raise AssertionError

    launcher_refused = program_changed = launcher_ready


def test_a_launcher_goes_on_with_the_packets_that_wait() -> None:
    key = PLAN.services[0].launcher_key
    poller = Poller()
    ours, theirs = pair()
    reading, writing = os.pipe()
    before = ProfileLaunchers(1, key, 1024, poller, EventLog(), Silent())
    launcher = HeldLauncher.open(3, poller, before)
    launcher.pid, launcher.ready = 77, True
    launcher.channel = Channel(ours, [(b"first", (writing,))])
    launcher.orphans, launcher.late = {5}, {6: b"late\0"}
    before.names, before.launchers = "a,b", {3: launcher}

    text = plain.to_json(before.to_state())
    for sock in (ours, launcher.loop_end, launcher.own_end):
        sock.detach()
    written = plain.read(ProfileState, json.loads(text))
    after = ProfileLaunchers.from_state(written, 1024, poller, EventLog(), Silent())

    assert (after.key, after.names, after.outdated, after.draining) == (key, "a,b", True, False)
    again = after.launchers[3]
    assert (again.pid, again.ready, again.orphans, again.late) == (77, True, {5}, {6: b"late\0"})
    poller.run_once()
    received = Channel(theirs).receive()
    assert received is not None
    assert received[0] == b"first"
    os.write(received[1][0], b"x")
    assert os.read(reading, 1) == b"x"
    again.pid = 0
    after.dismiss()
    theirs.close()
    for descriptor in (reading, *received[1]):
        os.close(descriptor)


def test_an_end_of_a_channel_is_taken_up_by_its_number() -> None:
    one, other = pair()
    with other, seqpacket(one.detach()) as again:
        Channel(again).send(b"x")
        assert other.recv(1) == b"x"


def test_a_descriptor_that_the_new_code_has_no_use_for_needs_a_restart() -> None:
    held = HoldingsState(**{**vars(state().holdings), "others": {"null": 16, "_other": 17}})
    with pytest.raises(ResourceError, match=r"needs a restart.*_other"):
        resume.understand(state(holdings=held).to_memory())
    assert resume.understand(state().to_memory()).holdings.others == {"null": 16}


def carried(descriptor: int) -> MasterState:
    """Return the state of a master that holds one descriptor."""
    held = HoldingsState(
        **{**vars(state().holdings), "control": [], "listeners": [], "stderr": [],
           "tls": TlsHoldings().to_state(),
           "others": {"null": descriptor, "counters": descriptor, "bans": descriptor,
           "log_key": descriptor}}
    )  # fmt: skip
    loop = LoopState(pid=0, channel=None, introduced=[], generation=1, began=0.0)
    return state(holdings=held, loop=loop)


def test_an_execve_that_fails_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    reading, writing = os.pipe()
    before = open_files()
    problem = upgrade.execute(carried(writing))
    assert str(problem) == "cannot execute /does/not/exist: No such file or directory"
    assert not os.get_inheritable(writing)
    assert opened_since(before) == []
    os.close(reading)
    os.close(writing)


def test_a_trial_that_cannot_be_started_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    poller, children = Poller(), Children()
    reading, writing = os.pipe()
    before = open_files()
    with pytest.raises(ResourceError, match=r"^cannot start a trial: No such file or directory$"):
        upgrade.start_trial(carried(writing), children, poller, lambda _problem: None)
    assert opened_since(before) == []
    children.close()
    os.close(reading)
    os.close(writing)
