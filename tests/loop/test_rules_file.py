"""A rules file that is followed: what is read when, what is in force, and what a hung disk holds up."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hung_disk import hung_disk
from rules_files import Case, Hang, following, fresh, hanging, problem, variables, verdict
from ucspid.admission import rules_file
from ucspid.admission.rules_file import FollowedRules
from ucspid.admission.rules_look import Seen, look
from ucspid.records import replace
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


@pytest.fixture(autouse=True)
def never_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing happen because time has passed, as on a busy machine."""
    for name in ("INTERVAL", "WRITING", "NAMES_TIMEOUT", "ASK_AGAIN", "HUNG_AFTER"):
        monkeypatch.setattr(rules_file, name, 1000.0)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    with hanging(monkeypatch) as hang:
        yield hang


async def wait_for_hung(*followed: FollowedRules) -> None:
    """Look at files that hang until that is noticed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules_file, "HUNG_AFTER", 0.05)
        await asyncio.gather(*(item.refresh() for item in followed))


async def looked(*followed: FollowedRules) -> None:
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
    now, content = seen(path, replace(before, signature=seen(path)[0].signature))
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
    await wait_for_hung(*hung)
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
    for _ in range(10):
        await wait_for_hung(followed)
    assert hang.begun == [followed.file.path]
    hang.end()
    await looked(followed)


@following
async def test_what_hung_is_taken_when_it_is_there_at_last(case: Case, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    followed = case.follow("disk/rules", ":allow\n")
    await followed.refresh()
    with hung_disk(disk):
        await wait_for_hung(followed)
        assert problem(followed) == "it could not be read within 0.05 s"
    await looked(followed)
    case.write(":deny\n", "disk/rules")
    await followed.refresh()
    assert (verdict(followed), problem(followed)) == ("deny", None)


def test_a_hung_look_does_not_hold_up_the_end_of_the_event_loop(case: Case, hang: Hang) -> None:
    async def work() -> None:
        followed = case.follow(text=":deny\n")
        hang.paths.add(followed.file.path)
        await wait_for_hung(followed)
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
async def test_what_could_not_be_parsed_for_want_of_a_thread_is_parsed_later(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = await case.loaded()
    start = threading.Thread.start
    threads: list[threading.Thread] = []

    def one_only(thread: threading.Thread) -> None:
        threads.append(thread)
        if len(threads) > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    case.write(":deny\n")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", one_only)
        await followed.refresh()
    assert (verdict(followed), case.log.reasons) == ("allow", ["can't start new thread"])
    await followed.refresh()
    assert (verdict(followed), problem(followed)) == ("deny", None)


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


# Variables that are not allowed yet

NEW = '192.0.2.7:allow,NEW="x"\n192.0.2.8:deny\n192.0.2.9:allow,OLD="y"\n'
OLD_ONLY = frozenset([b"OLD"])
BOTH = frozenset([b"OLD", b"NEW"])


def verdicts(followed: FollowedRules) -> list[str]:
    """Return what the rules say to the clients of NEW."""
    assert followed.rules is not None
    rules = [followed.rules.match(f"192.0.2.{number}") for number in (7, 8, 9)]
    return [rule.refusal if rule.verdict == "deny" else "allow" for rule in rules]


async def changed_to_new(case: Case) -> tuple[FollowedRules, asyncio.Task[None]]:
    """Return what follows a file that sets a new variable now, and a client that waits for it."""
    asked = asyncio.Event()
    case.on_ask = lambda _followed: asked.set()
    followed = case.follow(text=":allow\n")
    followed.allow(OLD_ONLY)
    await followed.refresh()
    case.write(NEW)
    client = asyncio.create_task(followed.refresh())
    await asked.wait()
    return followed, client


@following
async def test_clients_wait_until_new_variables_are_allowed(case: Case) -> None:
    followed, client = await changed_to_new(case)
    assert not fresh(followed)
    followed.allow(BOTH)
    await client
    assert fresh(followed)
    assert verdicts(followed) == ["allow", "denied", "allow"]
    assert variables(followed) == {b"NEW": b"x"}
    assert (case.asked, case.log.names) == (1, ["rules_loaded"] * 2)


@following
async def test_a_plan_that_does_not_know_of_new_variables_does_not_end_the_wait(case: Case) -> None:
    followed, client = await changed_to_new(case)
    followed.allow(frozenset())
    await asyncio.wait({client}, timeout=0)
    assert not client.done()
    followed.allow(BOTH)
    followed.answer("")
    await client
    assert verdicts(followed) == ["allow", "denied", "allow"]


@following
async def test_variables_that_cannot_be_allowed_keep_out_whom_they_were_for_and_nobody_else(
    case: Case,
) -> None:
    followed, client = await changed_to_new(case)
    followed.answer("no process to be had")
    await client
    assert verdicts(followed) == ["no_rules", "denied", "allow"]
    early = None if followed.rules is None else followed.rules.decide_early("192.0.2.7")
    assert early is not None
    assert (early.verdict, early.env, early.refusal) == ("deny", (), "no_rules")
    assert case.log.reasons == ["it sets variables that are not allowed yet (no process to be had): NEW"]
    assert followed.problem == case.log.reasons[0]
    followed.allow(BOTH)  # a reload
    await looked(followed)
    assert (verdicts(followed), problem(followed)) == (["allow", "denied", "allow"], None)


@following
async def test_of_many_variables_some_are_shown(case: Case) -> None:
    case.on_ask = lambda followed: followed.answer("too many")
    await case.loaded(text=":allow" + "".join(f',V{number:03}="x"' for number in range(100)) + "\n")
    (reason,) = case.log.reasons
    assert reason.endswith("(too many): V000 V001 V002 V003 V004 V005 V006 V007 V008 V009 and 90 more")


@following
async def test_variables_are_asked_for_again_after_a_while(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, client = await changed_to_new(case)
    followed.answer("no process to be had")
    await client
    assert fresh(followed)
    monkeypatch.setattr(rules_file, "ASK_AGAIN", 0.0)
    case.on_ask = lambda followed: followed.answer("again none")
    case.write(NEW + "# another\n")
    await followed.refresh()
    assert not fresh(followed)
    case.on_ask = lambda followed: followed.allow(BOTH)
    await followed.refresh()
    assert (verdicts(followed), case.asked) == (["allow", "denied", "allow"], 3)


@following
async def test_clients_wait_for_an_answer_for_a_bounded_time(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_file, "NAMES_TIMEOUT", 0.05)
    followed, client = await changed_to_new(case)
    await client
    assert verdicts(followed) == ["no_rules", "denied", "allow"]
    assert "no answer within 0.05 s" in str(followed.problem)
    followed.allow(BOTH)
    followed.answer("")
    await looked(followed)
    assert verdicts(followed) == ["allow", "denied", "allow"]


@following
async def test_a_plan_that_allows_fewer_variables_has_them_asked_for(case: Case) -> None:
    followed = case.follow(text=NEW)
    followed.allow(BOTH)
    await followed.refresh()
    assert case.asked == 0
    case.on_ask = lambda followed: followed.allow(BOTH)
    followed.allow(OLD_ONLY)
    await looked(followed)
    assert (verdicts(followed), case.asked) == (["allow", "denied", "allow"], 1)


@following
async def test_a_broken_file_stays_a_problem_whatever_is_allowed(case: Case) -> None:
    followed = await case.loaded()
    case.write(":what\n")
    await followed.refresh()
    followed.allow(BOTH)
    await looked(followed)
    assert problem(followed) is not None
    assert case.log.names == ["rules_loaded", "rules_load_failed"]


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


@following
async def test_a_file_that_cannot_be_used_refuses_every_client_where_that_is_wanted(case: Case) -> None:
    followed = case.follow(unusable="refuse")
    await followed.refresh()
    assert (followed.rules, followed.number) == (None, errno.ENOENT)
    case.write(":allow\n")
    await followed.refresh()
    assert verdict(followed) == "allow"
    case.write(":what\n")
    await followed.refresh()
    assert (followed.rules, followed.number) == (None, errno.EPROTO)
    case.write(":deny\n")
    await followed.refresh()
    assert verdict(followed) == "deny"
    assert [item.get("unusable") for item in case.log.events] == ["refuse", None, "refuse", None]


@following
async def test_a_file_that_is_not_there_lets_all_in_where_that_is_wanted(case: Case) -> None:
    followed = case.follow(unusable="allow_missing")
    await followed.refresh()
    assert verdict(followed) == "allow"
    case.write(":what\n")
    await followed.refresh()
    assert (followed.rules, followed.number) == (None, errno.EPROTO)
    (case.folder / "rules").unlink()
    await followed.refresh()
    assert verdict(followed) == "allow"
