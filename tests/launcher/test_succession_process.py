"""The protocol between loop and launcher with real processes: the launcher is killed anywhere, and succeeded.

What test_succession.py of the loop does within one process, here with programs, signals and a kernel.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from launchers import choose, compiled
from process_succession import CALLS, PRELOADED, ProcessWorld, subreaper
from tiers import examples
from ucspid.plan import LauncherKind

EXAMPLES = int(os.environ.get("UCSPID_FUZZ_EXAMPLES", "60"))

SOME = st.integers(0, 9)
WHEN = st.sampled_from(["before", "after"])
PLACES = st.builds("{}:{}:{}".format, st.sampled_from(CALLS), st.integers(0, 6), WHEN)
STEPS = st.one_of(
    st.tuples(st.just("connect"), st.integers(1, 5)),
    st.tuples(st.just("hang_up"), SOME),
    st.tuples(st.just("send_signal"), SOME, st.sampled_from([9, 15])),
    st.tuples(st.just("start_launcher"), PLACES),
    st.tuples(st.just("set_missing"), st.booleans()),
    st.tuples(st.sampled_from(["turn", "stop_loop", "start_loop", "kill_launcher", "settle"])),
)
"""Calls of a world's methods, which do nothing where they make no sense."""


@pytest.fixture(params=["native", "python"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LauncherKind]:
    with subreaper():
        yield choose(request.param, monkeypatch)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[str]:
    """Return a program that is imported once."""
    path = tmp_path / "program.py"
    path.write_text(PRELOADED)
    with subreaper():
        yield str(path)


@given(small=st.booleans(), steps=st.lists(STEPS, min_size=10, max_size=40))
@settings(
    max_examples=examples(EXAMPLES),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.slow
def test_whoever_dies_wherever_loop_table_and_kernel_agree(
    kind: LauncherKind, small: bool, steps: list[tuple[str, *tuple[Any, ...]]]
) -> None:
    go_through(ProcessWorld(kind, compiled("deaths.c"), small_buffers=small), steps)


@given(small=st.booleans(), steps=st.lists(STEPS, min_size=10, max_size=40))
@settings(
    max_examples=examples(max(1, EXAMPLES // 6)),  # each process imports the program
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.slow
def test_launchers_of_preloaded_programs_that_die_anywhere_agree_too(
    script: str, small: bool, steps: list[tuple[str, *tuple[Any, ...]]]
) -> None:
    go_through(ProcessWorld("python", compiled("deaths.c"), script, small_buffers=small), steps)


def go_through(world: ProcessWorld, steps: list[tuple[str, *tuple[Any, ...]]]) -> None:
    """Do the steps, and see that all comes to an end."""
    try:
        for name, *arguments in steps:
            getattr(world, name)(*arguments)
        world.settle()
    finally:
        world.close()
