"""The last failure of each kind, and what of it one loop believes another."""

from typing import Any

import pytest

from ucspid.policy.last_failures import KINDS, MAX_CONNECTION, MAX_TEXT, LastFailure, LastFailures

CRASH = LastFailure("signal SIGSEGV", "192.0.2.7:40312", 0x1A2B, 10.0)
EXIT = LastFailure("exit status 111", "[2001:db8::7]:40312", MAX_CONNECTION, 20.0)
DROPPED = LastFailure("Too many open files", "192.0.2.7:1", 0, 30.0)


def failures() -> LastFailures:
    last = LastFailures()
    last.note("signal", CRASH._replace(at=1.0))
    last.note("nonzero", EXIT)
    last.note("signal", CRASH)
    last.note("failed", DROPPED)
    return last


def test_the_last_of_each_kind_is_kept_and_the_latest_comes_first() -> None:
    assert failures().items() == [("failed", DROPPED), ("nonzero", EXIT), ("signal", CRASH)]


def test_another_loop_goes_on_with_them() -> None:
    after = LastFailures()
    after.from_state(failures().to_state(), 30.0)
    assert after.items() == failures().items()


@pytest.mark.parametrize(
    "state",
    [
        None, {}, [[]], [["signal"]], [[*["signal", *CRASH], 1]], [["crash", *CRASH]], [[["signal"], *CRASH]],
        [["signal", *CRASH._replace(what="\x1b[2J")]],
        [["signal", *CRASH._replace(what="x" * (MAX_TEXT + 1))]],
        [["signal", *CRASH._replace(remote="a\nb")]], [["signal", 1, *CRASH[1:]]],
        [["signal", *CRASH._replace(connection=-1)]], [["signal", *CRASH._replace(connection=1 << 64)]],
        [["signal", *CRASH._replace(at=30.1)]], [["signal", *CRASH._replace(at=float("nan"))]],
        [["signal", *CRASH]] * (len(KINDS) + 1),
    ],
)  # fmt: skip
def test_what_no_loop_can_have_handed_over_is_refused_and_changes_nothing(state: Any) -> None:
    last = failures()
    with pytest.raises(ValueError, match=r"."):
        last.from_state(state, 30.0)
    assert last.items() == failures().items()


@pytest.mark.parametrize("path", ["/" + "x" * 4096, "/\x1b[2J\n", "/\udcff"])
def test_another_loop_goes_on_with_any_path(path: str) -> None:
    last, after = LastFailures(), LastFailures()
    last.note("failed", CRASH._replace(what=f"No such file or directory: {path}"))
    after.from_state(last.to_state(), 30.0)
    assert after.items() == last.items()
