"""The pipes for programs' standard error: whose they are, and when they are closed."""

import os
import stat
from collections.abc import Iterator

import pytest

from leaks import open_files, opened_since
from plans import plan, service
from ucspid.master.acquired import Acquired
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.log_pipes import LogPipe
from ucspid.master.poller import Poller
from ucspid.master.programs import HeldProgram
from ucspid.master.settling import Settling
from ucspid.plan import LauncherKey, LauncherKind, Service
from ucspid.profile import Profile

NOBODY = 65534


class Silent:
    """Hears nothing of launchers."""

    def launcher_ready(self, *_: object, **__: object) -> None:
        raise AssertionError

    launcher_refused = program_changed = launcher_ready


class Rig:
    """A master's holdings; its profiles have no launchers."""

    def __init__(self) -> None:
        self.held, self.poller = Holdings(), Poller()
        self.settling = Settling(self.held, self.poller)

    def start(
        self, key: LauncherKey, programs: list[HeldProgram], names: str, _kind: LauncherKind
    ) -> ProfileLaunchers:
        launchers = ProfileLaunchers(1, key, 1024, self.poller, EventLog(), Silent())
        launchers.set_programs(programs, names)
        return launchers

    def reload(self, *services: Service) -> None:
        acquired = Acquired()
        self.held.acquire(plan(*services), acquired, self.start)
        self.settling.go_over(plan(*services), acquired)

    def pipes(self) -> list[tuple[str, bool]]:
        return sorted((pipe.service, pipe.writing is not None) for pipe in self.held.pipes)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for pipe in rig.held.pipes:
        pipe.close()
    rig.held.close()


def silent(name: str) -> Service:
    return service(name, listen=())


def test_a_pipe_is_closed_when_its_service_is_gone_and_the_last_program_has_ended(rig: Rig) -> None:
    rig.reload(silent("a"))
    (pipe,) = rig.held.pipes
    assert pipe.writing is not None
    program = os.dup(pipe.writing)
    rig.reload(silent("b"))
    assert rig.pipes() == [("a", True), ("b", True)]  # connections on their way may need it
    rig.settling.settled()
    assert rig.pipes() == [("a", False), ("b", True)]
    os.write(program, b"nobody reads here what the loop reads")
    os.close(program)
    rig.poller.run_once()
    assert rig.pipes() == [("b", True)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe.reading)


def test_renaming_a_service_over_and_over_costs_no_descriptors(rig: Rig) -> None:
    rig.reload(silent("0"))
    rig.settling.settled()
    before = open_files()
    for number in range(1, 31):
        rig.reload(silent(str(number)))
        rig.settling.settled()
        rig.poller.run_once()
    assert len(opened_since(before)) == 2  # the ends of the last one's pipe


def test_a_service_that_comes_back_before_it_is_forgotten_keeps_its_pipe(rig: Rig) -> None:
    rig.reload(silent("a"), silent("b"))
    before = [*rig.held.pipes]
    rig.reload(silent("b"))
    rig.reload(silent("a"), silent("b"))
    rig.settling.settled()
    assert [*rig.held.pipes] == before


def test_another_image_of_the_master_closes_pipes_that_end(rig: Rig) -> None:
    pipe = LogPipe.open(silent("a"))
    assert pipe.writing is not None
    program = os.dup(pipe.writing)
    pipe.end()
    rig.held.pipes.ended = [LogPipe(*pipe.to_state())]
    rig.settling = Settling(rig.held, rig.poller)
    os.close(program)
    rig.poller.run_once()
    assert rig.pipes() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' programs")
def test_a_pipe_is_its_services_user_s_and_another_user_has_another(rig: Rig) -> None:
    rig.reload(silent("a"), service("b", listen=(), profile=Profile(uid=NOBODY)))
    owners = {pipe.service: os.fstat(pipe.reading) for pipe in rig.held.pipes}
    assert (owners["a"].st_uid, owners["b"].st_uid) == (0, NOBODY)
    assert stat.S_IMODE(owners["b"].st_mode) == 0o622
    rig.reload(service("b", listen=(), profile=Profile(uid=NOBODY - 1)))
    rig.settling.settled()
    assert rig.pipes() == [("a", False), ("b", False), ("b", True)]
