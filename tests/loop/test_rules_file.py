"""A rules file that is followed: what is read when, what is in force, and what a hung disk holds up."""

import asyncio
import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hung_disk import hung_disk
from rules_files import CLIENT, Case, following, problem, verdict
from ucspid.admission import rules_file
from ucspid.admission.rules_file import Followed
from ucspid.admission.rules_look import Seen, Sight, look
from ucspid.linux.inotify import Inotify
from ucspid.rules import lookup


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

    def look(self, path: str, seen: Seen | None, queue: Inotify | None) -> Sight:
        if path in self.paths:
            self._over.wait()
        return look(path, seen, queue)

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


@following
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


@following
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


def seen(path: Path, before: Seen | None = None) -> tuple[Seen, bytes | None]:
    sight = look(str(path), before, None)
    assert sight.seen is not None
    return sight.seen, sight.content


def test_a_version_that_has_settled_is_known_again_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text(":what\n")
    now, content = seen(path)
    assert (now.settled, content) == (False, b":what\n")  # it may change within the same tick of the clock
    assert seen(path, now) == (now, None)
    other = Seen(now.signature, digest=0, settled=True)
    assert seen(path, other) == (other, None)
    path.chmod(0o600)
    assert seen(path, other)[1] == b":what\n"


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    path.write_text(":allow\n")
    before, _ = seen(path)
    path.write_text(":deny #")
    now, content = seen(path, dataclasses.replace(before, signature=seen(path)[0].signature))
    assert (now.settled, content) == (False, b":deny #")


@following
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


@following
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


@following
async def test_a_file_is_looked_at_once_at_a_time(case: Case, hang: Hang) -> None:
    followed = case.follow(text=":deny\n")
    hang.paths.add(followed.file.path)
    threads = threading.active_count()
    for _ in range(10):
        await followed.refresh()
    assert threading.active_count() == threads + 1
    hang.end()
    await looked(followed)


@following
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


@following
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


@following
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


@following
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


@following
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
