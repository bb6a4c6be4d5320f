"""A rules file that is followed: what is read when, what is in force, and what a hung disk holds up."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hung_disk import hung_disk
from ucspid.admission import rules_file
from ucspid.admission.rules_file import Followed, Workers
from ucspid.admission.rules_look import Seen, look
from ucspid.plan import RulesFile
from ucspid.rules import lookup
from uvloops import in_uvloop

CLIENT = "192.0.2.7"


class Log:
    """The events that were logged, by name."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.logger = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger("debug")
        )

    def _keep(self, _logger: Any, _level: str, fields: Any) -> Any:
        self.events.append(fields)
        raise structlog.DropEvent

    @property
    def names(self) -> list[str]:
        return [item["event"] for item in self.events]

    @property
    def reasons(self) -> list[str]:
        return [item["reason"] for item in self.events if item["event"] == "rules_load_failed"]


class Case:
    """Files in a folder, and what follows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log()
        self.workers = Workers()
        self.asked = 0

    def follow(self, name: str = "rules", text: str | None = None) -> Followed:
        path = self.folder / name
        if text is not None:
            path.write_text(text)
        file = RulesFile(path=str(path), kind="cdb" if name.endswith(".cdb") else "text")
        return Followed(file, self.log.logger, self.workers, self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def write(self, text: str, name: str = "rules") -> None:
        """Put another file in place of the one there, as editors do."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.rename(self.folder / name)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what was parsed."""
    seen: list[bytes] = []

    def parse(content: bytes, path: str) -> lookup.RuleTable:
        seen.append(content)
        return lookup.table_from_text(content, path)

    monkeypatch.setitem(lookup.PARSERS, "text", parse)
    return seen


class Hang:
    """Files that hang until the end, as in open(2) on a dead NFS server."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self._over = threading.Event()

    def look(self, path: str, seen: Seen | None) -> tuple[Seen, bytes | None]:
        if path in self.paths:
            self._over.wait()
        return look(path, seen)

    def end(self) -> None:
        self._over.set()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    hang = Hang()
    monkeypatch.setattr(rules_file, "look", hang.look)
    monkeypatch.setattr(rules_file, "HUNG_AFTER", 0.05)
    yield hang
    hang.end()


async def looked(*followed: Followed) -> None:
    """Wait until all looks under way are over."""
    looks = [item._looking for item in followed if item._looking is not None]
    if looks:
        await asyncio.wait(looks)


def problem(followed: Followed) -> str | None:
    return followed.problem


def overwrite(path: str, content: bytes) -> None:
    """Write over the beginning of a file, in place."""
    with open(path, "r+b") as file:
        file.write(content)


def verdict(followed: Followed) -> str:
    assert followed.rules is not None
    return followed.rules.match(CLIENT).verdict


@in_uvloop
async def test_a_change_is_in_force_after_a_look_and_a_file_that_stays_is_not_parsed_again(
    case: Case, parsed: list[bytes]
) -> None:
    followed = case.follow(text=":allow\n")
    assert not followed.fresh
    await followed.refresh()
    assert (verdict(followed), followed.fresh) == ("allow", True)
    await followed.refresh()
    case.write(":deny\n")
    await followed.refresh()
    await followed.refresh()
    assert verdict(followed) == "deny"
    assert parsed == [b":allow\n", b":deny\n"]
    assert case.log.names == ["rules_loaded"] * 2


@in_uvloop
async def test_a_broken_file_is_parsed_once_and_leaves_the_rules_as_they_were(
    case: Case, parsed: list[bytes]
) -> None:
    followed = case.follow(text=":deny\n")
    await followed.refresh()
    case.write(":allow\n:what\n")
    for _ in range(5):
        await followed.refresh()
    assert len(parsed) == 2
    assert verdict(followed) == "deny"
    assert followed.problem is not None
    assert f"{followed.file.path}:2" in followed.problem
    assert case.log.reasons == [followed.problem]
    case.write(":allow\n")
    await followed.refresh()
    assert (verdict(followed), problem(followed)) == ("allow", None)
    assert case.log.names == ["rules_loaded", "rules_load_failed", "rules_loaded"]


@in_uvloop
async def test_a_broken_file_is_not_even_read_again_once_it_has_settled(
    case: Case, parsed: list[bytes]
) -> None:
    followed = case.follow(text=":what\n")
    os.utime(followed.file.path, (1, 1))
    await followed.refresh()
    seen, _ = look(followed.file.path, None)
    settled = Seen(seen.signature, seen.digest, settled=True)
    os.chmod(followed.file.path, 0o644)  # another time of change
    assert look(followed.file.path, settled)[1] is None
    again, _ = look(followed.file.path, settled)
    assert look(followed.file.path, Seen(again.signature, 0, settled=True)) == (
        Seen(again.signature, 0, settled=True),
        None,
    )
    assert parsed == [b":what\n"]


@in_uvloop
async def test_a_change_within_one_tick_of_the_clock_is_seen(case: Case) -> None:
    followed = case.follow(text=":allow\n")
    await followed.refresh()
    status = os.stat(followed.file.path)
    overwrite(followed.file.path, b":deny #")
    os.utime(followed.file.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    seen, content = look(followed.file.path, followed._seen)
    assert (seen.settled, content) == (False, b":deny #")


@in_uvloop
async def test_a_file_that_is_gone_is_said_once_and_comes_back_without_being_parsed(
    case: Case, parsed: list[bytes]
) -> None:
    followed = case.follow(text=":deny\n")
    await followed.refresh()
    os.rename(followed.file.path, case.folder / "away")
    for _ in range(3):
        await followed.refresh()
    assert problem(followed) == "No such file or directory"
    assert verdict(followed) == "deny"
    os.rename(case.folder / "away", followed.file.path)
    await followed.refresh()
    assert problem(followed) is None
    assert case.log.names == ["rules_loaded", "rules_load_failed", "rules_loaded"]
    assert len(parsed) == 1


@in_uvloop
async def test_a_file_that_hangs_holds_up_its_own_services_for_a_bounded_time_only(
    case: Case, hang: Hang
) -> None:
    hung = [case.follow(f"hung{number}", ":deny\n") for number in range(rules_file.MAX_LOOKS - 1)]
    healthy = case.follow("healthy", ":deny\n")
    await asyncio.gather(*(followed.refresh() for followed in (*hung, healthy)))
    for followed in hung:
        hang.paths.add(followed.file.path)
    await asyncio.gather(*(followed.refresh() for followed in hung))
    for followed in hung:
        assert followed.fresh  # nobody waits any more
        assert verdict(followed) == "deny"
        assert followed.problem == "it could not be read within 0.05 s"
    case.write(":allow\n", "healthy")
    await healthy.refresh()
    assert verdict(healthy) == "allow"
    assert case.log.reasons == ["it could not be read within 0.05 s"] * len(hung)
    hang.end()
    await looked(*hung)
    assert [followed.problem for followed in hung] == [None] * len(hung)


@in_uvloop
async def test_a_file_is_looked_at_once_at_a_time(case: Case, hang: Hang) -> None:
    followed = case.follow(text=":deny\n")
    hang.paths.add(followed.file.path)
    threads = threading.active_count()
    for _ in range(10):
        await followed.refresh()
    assert threading.active_count() == threads + 1
    hang.end()
    await looked(followed)


@in_uvloop
async def test_what_hung_is_taken_when_it_is_there_at_last(case: Case, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    followed = case.follow("disk/rules", ":allow\n")
    await followed.refresh()
    with pytest.MonkeyPatch.context() as patch, hung_disk(disk):
        patch.setattr(rules_file, "HUNG_AFTER", 0.05)
        await followed.refresh()
        assert problem(followed) == "it could not be read within 0.05 s"
    await looked(followed)
    case.write(":deny\n", "disk/rules")
    await followed.refresh()
    assert (verdict(followed), problem(followed)) == ("deny", None)


def test_a_hung_look_does_not_hold_up_the_end_of_the_event_loop(case: Case, hang: Hang) -> None:
    async def work() -> None:
        followed = case.follow(text=":deny\n")
        hang.paths.add(followed.file.path)
        await followed.refresh()
        assert not followed.rules

    asyncio.run(asyncio.wait_for(work(), 10))
    assert case.log.reasons == ["it could not be read within 0.05 s"]


@in_uvloop
async def test_no_thread_to_be_had_is_a_reason_and_no_end(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = case.follow(text=":deny\n")

    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        await followed.refresh()
    assert case.log.reasons == ["can't start new thread"]
    await followed.refresh()
    assert verdict(followed) == "deny"


@in_uvloop
async def test_a_bug_in_a_look_leaves_nobody_hanging(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = case.follow(text=":deny\n")
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    with monkeypatch.context() as patch:
        patch.setitem(lookup.PARSERS, "text", lambda _content, _path: 1 / 0)
        await followed.refresh()
    loop.set_exception_handler(handler)
    assert [type(item) for item in reported] == [ZeroDivisionError]
    assert case.log.reasons == ["internal error"]


@in_uvloop
async def test_variables_that_are_not_allowed_are_asked_for_once_and_hold_when_they_are(case: Case) -> None:
    followed = case.follow(text=":allow\n")
    await followed.refresh()
    case.write(':allow,NEW="x"\n')
    for _ in range(3):
        await followed.refresh()
    assert case.asked == 1
    assert followed.rules is not None
    assert followed.rules.match(CLIENT).env == ()
    followed.allow(frozenset([b"NEW"]))
    assert followed.rules.match(CLIENT).env == ((b"NEW", b"x"),)


@in_uvloop
async def test_a_client_that_does_not_wait_any_more_stops_no_look(case: Case) -> None:
    followed = case.follow(text=":deny\n")
    waiting = asyncio.create_task(followed.refresh())
    other = asyncio.create_task(followed.refresh())
    await asyncio.wait({waiting}, timeout=0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await other
    assert verdict(followed) == "deny"
