"""A change of a rules file is known at once, wherever on its path it is made."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from leaks import no_descriptors
from rules_files import Case, following, fresh, hanging, problem, verdict
from ucspid.admission import rules_file, rules_look, rules_watch
from ucspid.admission.rules_file import FollowedRules
from ucspid.linux import inotify
from ucspid.linux.inotify import Inotify, InotifyEvent
from ucspid.rules.bounds import load
from ucspid.rules.tcprules import install

DENY = ":deny\n"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture(autouse=True)
def never_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing looked at because time has passed."""
    monkeypatch.setattr(rules_file, "INTERVAL", 1000.0)
    monkeypatch.setattr(rules_file, "WRITING", 1000.0)


async def is_in_force(followed: FollowedRules, expected: str = "deny") -> None:
    """Assert that a change is known now, and in force after a look."""
    assert not fresh(followed)
    await followed.refresh()
    assert fresh(followed)
    assert (verdict(followed), problem(followed)) == (expected, None)


def write(path: Path, text: str = DENY) -> None:
    path.write_text(text)


def rename_over(folder: Path) -> None:
    write(folder / "new")
    (folder / "new").rename(folder / "rules")


def compile_over(folder: Path) -> None:
    install(DENY.encode(), str(folder / "rules"))


def write_in_place(folder: Path) -> None:
    write(folder / "rules")


def write_through_another_name(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    os.link(folder / "rules", folder / "elsewhere" / "other")
    write(folder / "elsewhere" / "other")


def become_a_link(folder: Path) -> None:
    write(folder / "target")
    (folder / "link").symlink_to("target")
    (folder / "link").rename(folder / "rules")


def remove_and_write_again(folder: Path) -> None:
    (folder / "rules").unlink()
    write(folder / "rules")


@pytest.mark.parametrize(
    "change",
    [
        rename_over,
        compile_over,
        write_in_place,
        write_through_another_name,
        become_a_link,
        remove_and_write_again,
    ],
)
@following
async def test_a_change_of_the_file_is_known_at_once(case: Case, change: Callable[[Path], None]) -> None:
    followed = await case.loaded()
    for _ in range(3):
        write(case.folder / "before", ":allow\n")
        (case.folder / "before").rename(case.folder / "rules")
        await is_in_force(followed, "allow")
        change(case.folder)
        await is_in_force(followed)
        shutil.rmtree(case.folder / "elsewhere", ignore_errors=True)


@following
async def test_a_link_that_points_elsewhere_is_a_change_wherever_on_the_path_it_is(case: Case) -> None:
    for version, text in (("v1", ":allow\n"), ("v2", DENY)):
        (case.folder / version).mkdir()
        write(case.folder / version / "rules", text)
    (case.folder / "deep").mkdir()
    (case.folder / "deep" / "current").symlink_to("../v1")
    (case.folder / "conf").symlink_to(case.folder / "deep" / "current")
    followed = case.follow("conf/../v1/../conf/./rules")
    await followed.refresh()
    assert verdict(followed) == "allow"
    (case.folder / "deep" / "next").symlink_to("../v2")
    (case.folder / "deep" / "next").rename(case.folder / "deep" / "current")
    await is_in_force(followed)
    write(case.folder / "v1" / "rules", DENY)
    write(case.folder / "v2" / "new", ":allow\n")
    (case.folder / "v2" / "new").rename(case.folder / "v2" / "rules")
    await is_in_force(followed, "allow")


@following
async def test_another_directory_in_the_place_of_one_is_a_change(case: Case) -> None:
    for name, text in (("now", ":allow\n"), ("next", DENY)):
        (case.folder / name).mkdir()
        write(case.folder / name / "rules", text)
    followed = case.follow("now/rules")
    await followed.refresh()
    (case.folder / "now").rename(case.folder / "before")
    (case.folder / "next").rename(case.folder / "now")
    await is_in_force(followed)


@following
async def test_a_directory_that_appears_later_is_seen_to_appear(case: Case) -> None:
    followed = case.follow("one/two/rules")
    await followed.refresh()
    assert problem(followed) == "No such file or directory"
    (case.folder / "one").mkdir()
    (case.folder / "one" / "two").mkdir()
    write(case.folder / "one" / "two" / "rules")
    await is_in_force(followed)


@following
async def test_a_file_that_is_gone_leaves_the_rules_as_they_were(case: Case) -> None:
    followed = await case.loaded(text=DENY)
    (case.folder / "rules").unlink()
    assert not fresh(followed)
    await followed.refresh()
    assert (verdict(followed), problem(followed)) == ("deny", "No such file or directory")
    rename_over(case.folder)
    await is_in_force(followed)


@following
async def test_a_link_that_leads_nowhere_or_round_in_a_circle_is_a_problem_until_it_is_mended(
    case: Case,
) -> None:
    link = case.folder / "rules"
    link.symlink_to("rules")
    followed = case.follow()
    await followed.refresh()
    assert problem(followed) == "Too many levels of symbolic links"
    link.unlink()
    link.symlink_to("nowhere/rules")
    assert not fresh(followed)
    await followed.refresh()
    assert problem(followed) == "No such file or directory"
    link.unlink()
    rename_over(case.folder)
    await is_in_force(followed)


@following
async def test_what_happens_to_other_files_of_the_directory_is_no_change(case: Case) -> None:
    followed = await case.loaded()
    for _ in range(3):
        write(case.folder / "other")
        (case.folder / "other").rename(case.folder / "another")
    assert fresh(followed)
    assert case.log.names == ["rules_loaded"]


@following
async def test_a_file_that_is_being_written_is_left_alone_until_it_is_closed(case: Case) -> None:
    followed = await case.loaded()
    with (case.folder / "rules").open("w") as file:
        file.write("192.0.2.:al")
        file.flush()
        assert fresh(followed)
        file.write("low\n:deny\n")
    assert not fresh(followed)
    await followed.refresh()
    assert followed.rules is not None
    assert [followed.rules.match(ip).verdict for ip in ("192.0.2.7", "127.0.0.1")] == ["allow", "deny"]
    assert case.log.names == ["rules_loaded"] * 2


@following
async def test_a_file_that_is_written_and_kept_open_is_loaded_after_a_moment(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules_file, "WRITING", 0.01)
    followed = await case.loaded()
    with (case.folder / "rules").open("w") as file:
        file.write(DENY)
        file.flush()
        async with asyncio.timeout(10):
            while verdict(followed) == "allow":
                await until_looked(followed)


async def until_looked(followed: FollowedRules) -> None:
    """Wait until the loop has looked by itself."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, done.set_result, None)
    await done
    if followed._looking is not None:
        await asyncio.wait({followed._looking})


@following
async def test_a_change_while_nobody_connects_is_loaded_too(case: Case) -> None:
    followed = await case.loaded()
    case.write(":what\n")
    async with asyncio.timeout(10):
        while problem(followed) is None:
            await until_looked(followed)


@following
async def test_a_change_during_a_look_is_in_force_after_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = await case.loaded()
    changed, go_on = threading.Event(), threading.Event()

    def load_and_change(path: str) -> tuple[os.stat_result, bytes]:
        found = load(path)
        if found[1] == b":allow #\n":
            case.write(DENY)
            changed.set()
            go_on.wait(10)
        return found

    monkeypatch.setattr(rules_look, "load", load_and_change)
    case.write(":allow #\n")
    assert not fresh(followed)
    first = asyncio.create_task(followed.refresh())
    assert await asyncio.to_thread(changed.wait, 10)
    second = asyncio.create_task(followed.refresh())  # of a client that came after the change
    await asyncio.wait({second}, timeout=0)
    go_on.set()
    await second
    assert verdict(followed) == "deny"
    await first


@following
async def test_a_look_is_not_too_early_for_what_changed_before_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = await case.loaded()
    monkeypatch.setattr(rules_watch, "PAUSE", 1000.0)  # nobody but a look reads what has changed
    write(case.folder / "other")
    await until_looked(followed)
    case.write(DENY)
    await followed.refresh()
    assert fresh(followed)
    assert verdict(followed) == "deny"


def max_queued() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@pytest.mark.slow
@following
async def test_more_events_than_the_kernel_keeps_are_a_change(case: Case) -> None:
    followed = await case.loaded()
    names = [str(case.folder / name) for name in ("a", "b")]
    for number in range(max_queued() // 2 + 1):
        os.mkdir(names[number % 2])
        os.rmdir(names[number % 2])
    rename_over(case.folder)
    await is_in_force(followed)


@following
async def test_watches_are_given_back(case: Case) -> None:
    followed = await case.loaded()
    other = await case.loaded("other")

    def watches() -> int:
        (descriptor,) = case.readers.watcher.descriptors
        return Path(f"/proc/self/fdinfo/{descriptor}").read_text().count("inotify wd:")

    before = watches()
    for number in range(10):
        os.link(
            case.folder / "rules", case.folder / f"kept{number}"
        )  # so that its watch does not go by itself
        rename_over(case.folder)
        await is_in_force(followed)
    assert watches() == before
    followed.forget()
    assert watches() == before - 1
    write(case.folder / "other")
    await is_in_force(other)


@pytest.mark.parametrize("begun", [True, False])
@following
async def test_a_file_that_is_forgotten_during_a_look_is_watched_until_the_look_ends(
    case: Case, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    with hanging(monkeypatch) as hang:
        followed = await case.loaded()
        hang.paths.add(followed.file.path)
        followed.look()
        looking = asyncio.all_tasks() - {asyncio.current_task()}
        if begun:
            await asyncio.wait(looking, timeout=0.01)
        followed.forget()
        await asyncio.wait(looking, timeout=0.01)
        assert case.readers.watcher.descriptors != set()  # the look may be about to use it
    # Nobody waits for the look: Case.close() finds that nothing is open after it.


@following
async def test_another_directory_on_the_way_may_be_as_busy_as_it_likes(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case.folder / "way").mkdir()
    (case.folder / "way" / "last").mkdir()
    followed = await case.loaded("way/last/rules")
    monkeypatch.setattr(Inotify, "read", lambda _queue: pytest.fail("it was woken up"))
    for folder in (case.folder, case.folder / "way"):
        write(folder / "other")
        (folder / "other").rename(folder / "another")
        (folder / "another").unlink()
        (folder / "below").mkdir()
        (folder / "below").rmdir()
    await until_looked(followed)
    assert fresh(followed)


@following
async def test_a_directory_on_the_way_that_moves_or_goes_is_a_change(case: Case) -> None:
    deep = case.folder / "one" / "two" / "three"
    for moved in ("one", "one/two", "one/two/three"):
        deep.mkdir(parents=True)
        followed = await case.loaded("one/two/three/rules")
        (case.folder / moved).rename(case.folder / "away")
        assert not fresh(followed)
        await followed.refresh()
        assert problem(followed) == "No such file or directory"
        (case.folder / "away").rename(case.folder / moved)
        await is_in_force(followed, "allow")
        shutil.rmtree(case.folder / "one")
        assert not fresh(followed)
        await followed.refresh()
        deep.mkdir(parents=True)
        write(deep / "rules")
        await is_in_force(followed)
        shutil.rmtree(case.folder / "one")


@following
async def test_a_busy_directory_wakes_the_loop_up_once_in_a_while_only(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake_ups = []
    queue_read = Inotify.read

    def read(queue: Inotify) -> list[InotifyEvent]:
        wake_ups.append(queue)
        return queue_read(queue)

    monkeypatch.setattr(Inotify, "read", read)
    followed = await case.loaded()
    for _ in range(5):
        write(case.folder / "other")
        await until_looked(followed)
    assert len(wake_ups) == 1


# Where the kernel cannot say what changes


@pytest.fixture
def by_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what lets an interval go by."""

    def begin() -> None:
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 1001.0)
        monkeypatch.setattr(rules_file, "time", later)

    return begin


@following
async def test_without_inotify_the_file_is_looked_at_in_intervals(
    case: Case, monkeypatch: pytest.MonkeyPatch, by_time: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rules_watch, "Inotify", no_queue)
        followed = await case.loaded()
        assert [item["watched"] for item in case.log.events] == [False]
        rename_over(case.folder)
        assert fresh(followed)
        by_time()
        assert not fresh(followed)
        await followed.refresh()
        assert verdict(followed) == "deny"


def no_queue() -> Inotify:
    raise OSError(24, "Too many open files")


@following
async def test_a_file_system_that_others_change_is_looked_at_in_intervals(
    case: Case, monkeypatch: pytest.MonkeyPatch, by_time: Callable[[], None]
) -> None:
    folder = str(case.folder)
    monkeypatch.setattr(inotify, "is_local", lambda path: not path.startswith(folder))
    followed = await case.loaded()
    assert [item["watched"] for item in case.log.events] == [False]
    by_time()
    assert not fresh(followed)


@following
async def test_what_could_not_be_read_is_looked_at_again_in_intervals(
    case: Case, by_time: Callable[[], None]
) -> None:
    followed = await case.loaded()
    write(case.folder / "deny")
    with no_descriptors():
        rename_over_without_descriptors(case.folder)
        assert not fresh(followed)
        await followed.refresh()
    assert problem(followed) == "Too many open files"
    assert fresh(followed)
    by_time()
    await followed.refresh()
    assert (verdict(followed), problem(followed)) == ("deny", None)


def rename_over_without_descriptors(folder: Path) -> None:
    os.rename(folder / "rules", folder / "old")
    os.symlink("deny", folder / "rules")


def test_file_systems_that_others_change_are_known(tmp_path: Path) -> None:
    assert inotify.is_local("/dev/shm")
    assert not inotify.is_local("/proc")
    with pytest.raises(FileNotFoundError):
        inotify.is_local(str(tmp_path / "missing"))
