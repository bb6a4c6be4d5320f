import os
import resource
from pathlib import Path
from typing import Any

import pytest

from leaks import open_files, opened_since
from processes import children
from reachable import reachable
from ucspid.config import probe
from ucspid.config.probe import ProbeRefusal, Search
from ucspid.profile import Profile

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root is refused nothing here")


def profile(**settings: Any) -> Profile:
    nothing: dict[str, Any] = dict.fromkeys(("uid", "gid", "groups", "umask", "cwd", "root", "nice"))
    return Profile(**{**nothing, "rlimits": (), "no_new_privs": False, **settings})


def as_nobody(**settings: Any) -> Profile:
    return profile(uid=NOBODY, gid=NOBODY, groups=(), cwd="/", **settings)


def search(*candidates: str) -> Search:
    return Search(candidates)


def find(profile: Profile, searches: list[list[str]]) -> list[probe.FoundFile]:
    """Return what is found with a profile of which nothing is refused."""
    found, refused = probe.find(profile, [search(*each) for each in searches])
    assert refused == []
    return found


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_first_candidate_that_can_be_executed_is_found(tmp_path: Path, program: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    searches = [[str(tmp_path / "missing"), str(tmp_path), str(plain), str(program), "/bin/sh"], ["/bin/sh"]]
    assert find(profile(), searches) == [(str(program), ""), ("/bin/sh", "")]


def test_why_no_candidate_fits(tmp_path: Path, program: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    (tmp_path / "fifo").touch()
    missing, below = str(tmp_path / "missing"), str(program / "below")
    reasons = [
        ([missing], f"{missing}: no such file"),
        ([missing, missing + "2"], "missing: not found in PATH"),
        ([missing, str(plain)], f"{plain}: not executable"),
        ([str(tmp_path)], f"{tmp_path}: a directory"),
        ([below], f"{below}: a part of the path is not a directory"),
        (["/dev/null"], "/dev/null: not a regular file"),
    ]
    assert find(profile(), [search for search, _ in reasons]) == [(None, why) for _, why in reasons]


def test_relative_paths_start_from_the_working_directory(program: Path) -> None:
    assert find(profile(cwd=str(program.parent)), [["./program"]]) == [("./program", "")]


def test_a_working_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    found, refused = probe.find(profile(cwd=missing), [search("/bin/sh"), search("./x"), search("/no/such")])
    assert refused == [ProbeRefusal("chdir", f"{missing}: No such file or directory")]
    assert found == [("/bin/sh", ""), (None, ""), (None, "/no/such: no such file")]


def state() -> tuple[Path, tuple[int, int]]:
    """Return what looking might change: directory, limit."""
    return Path.cwd(), resource.getrlimit(resource.RLIMIT_NOFILE)


def test_looking_leaves_the_reader_as_it_was(tmp_path: Path) -> None:
    before, files, others = state(), open_files(), children(os.getpid())
    find(profile(cwd=str(tmp_path), rlimits=(("nofile", 64),)), [["/bin/sh"]])
    assert (state(), opened_since(files)) == (before, [])
    assert set(children(os.getpid())) <= set(others)  # those that earlier tests have left may end meanwhile


def test_limits_too_small_for_the_reader_do_not_stop_the_search() -> None:
    limits = (("as", 64 << 20), ("data", 64 << 20), ("fsize", 0), ("nofile", 64), ("nproc", 1))
    assert find(profile(rlimits=limits), [["/bin/sh"]] * 1000) == [("/bin/sh", "")] * 1000


def test_a_limit_that_the_system_refuses_is_named() -> None:
    limits = (("core", 0), ("nofile", 1 << 62))
    found, refused = probe.find(profile(rlimits=limits), [search("/bin/sh"), search("/no/such")])
    assert [refusal.key for refusal in refused] == ["rlimits.nofile"]
    assert found == [("/bin/sh", ""), (None, "/no/such: no such file")]


@as_root
def test_a_program_is_looked_for_with_the_rights_of_its_user() -> None:
    with reachable() as folder:
        for name, mode in (("open", 0o755), ("own", 0o700), ("group", 0o750)):
            (folder / name).write_text("")
            (folder / name).chmod(mode)
        os.chown(folder / "group", 0, 12345)
        paths = [[str(folder / name)] for name in ("open", "own", "group")]
        refused = [(None, f"{path}: not executable") for (path,) in paths]
        assert find(as_nobody(), paths) == [(paths[0][0], ""), *refused[1:]]
        member = profile(uid=NOBODY, gid=NOBODY, groups=(12345,))
        assert find(member, paths) == [(paths[0][0], ""), refused[1], (paths[2][0], "")]


@as_root
def test_a_directory_that_the_user_cannot_search_hides_the_program(tmp_path: Path) -> None:
    path = tmp_path / "closed" / "program"
    path.parent.mkdir(mode=0o700)
    path.write_text("")
    path.chmod(0o755)
    assert find(as_nobody(), [[str(path)]]) == [(None, f"{path}: permission denied")]


@as_root
def test_under_chroot_paths_are_those_inside(tmp_path: Path, program: Path) -> None:
    assert find(profile(root=str(tmp_path)), [["/program"], ["/bin/sh"]]) == [
        ("/program", ""),
        (None, "/bin/sh: no such file"),
    ]
    found, refused = probe.find(profile(root=str(program)), [search("/program")])
    assert [refusal.key for refusal in refused] == ["chroot"]
    assert found == [(None, "")]


@not_as_root
@pytest.mark.parametrize(
    ("settings", "key"),
    [({"nice": -20}, "nice"), ({"root": "/"}, "chroot"), ({"uid": 0}, "user"), ({"gid": 0}, "group")],
)
def test_what_only_root_may_take_is_refused(settings: dict[str, Any], key: str) -> None:
    _found, refused = probe.find(profile(**settings), [search("/bin/sh")])
    assert [refusal.key for refusal in refused] == [key]
