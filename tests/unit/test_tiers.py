"""The tiers of the tests: every test is in one, and what they promise is kept."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiers
from tiers import TIERS, Stopwatch, Turns

TESTS = Path(__file__).parents[1]
HELPERS = {"golden", "programs", "soak", "support"}
"""Folders that hold no tests."""


def test_every_test_is_in_a_tier() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert folders == set(TIERS)
    assert {path.name for path in TESTS.iterdir() if path.is_dir()} - {"__pycache__"} == folders | HELPERS


def test_the_tiers_are_described() -> None:
    page = (TESTS.parent / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) s \|$", page, re.MULTILINE)
    assert [(name, float(seconds)) for name, seconds in rows] == [
        (name, tier.test) for name, tier in TIERS.items()
    ]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Turns, Turns]]:
    """The turns of two processes of pytest."""
    turns = Turns(tmp_path), Turns(tmp_path)
    yield turns
    for each in turns:
        each.close()


class Other:
    """A thread that takes a turn."""

    def __init__(self, turns: Turns, *, alone: bool) -> None:
        self.began = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(turns, alone))
        self._thread.start()

    def _run(self, turns: Turns, alone: bool) -> None:
        with turns.turn(alone=alone):
            self.began.set()
            assert self._over.wait(10.0)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def test_tests_run_at_once(two: tuple[Turns, Turns]) -> None:
    with two[0].turn(alone=False):
        other = Other(two[1], alone=False)
        assert other.began.wait(10.0)
        other.end()


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_test_that_has_to_be_alone_is(two: tuple[Turns, Turns], first: bool, second: bool) -> None:
    with two[0].turn(alone=first):
        other = Other(two[1], alone=second)
        assert not other.began.wait(0.05)
    assert other.began.wait(10.0)
    other.end()


def test_where_the_kernel_does_not_say_who_waits_budgets_are_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "PRESSURE", Path("/no/such/file"))
    watch = Stopwatch()
    began = time.monotonic()
    threading.Event().wait(0.02)
    assert 0.0 < watch.seconds() < time.monotonic() - began


SAMPLES = """\
import threading
import pytest

def test_short():
    pass

def test_long():
    threading.Event().wait(0.5)

@pytest.mark.slow
def test_slow():
    threading.Event().wait(0.5)

@pytest.fixture
def cleans_up_for_long():
    yield
    threading.Event().wait(0.5)

def test_other(cleans_up_for_long):
    pass
"""

# The kernel's count would make this fail where others keep the machine busy.
BUDGETS = """\
import tiers
from pathlib import Path
tiers.PRESSURE, tiers.UNKNOWN_LOAD = Path("/no/such/file"), 1.0
tiers.TIERS["unit"] = tiers.Tier(0.4, {total})
"""


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "total"), [("0", 10.0), ("2", 0.01)])
def test_what_takes_longer_than_it_may_fails(tmp_path: Path, processes: str, total: float) -> None:
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "test_samples.py").write_text(SAMPLES)
    (tmp_path / "budgets.py").write_text(BUDGETS.format(total=total))
    (tmp_path / "conftest.py").write_text("import budgets\n" + (TESTS / "conftest.py").read_text())
    command = [sys.executable, "-m", "pytest", "--budgets", f"-n{processes}", "-p", "no:cacheprovider"]
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{TESTS / 'support'}"}
    env.pop("CI", None)  # pytest's lines are longer there
    ended = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "-c", os.devnull, str(tmp_path)],
        env=env, stdout=subprocess.PIPE, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    lines = ended.stdout.splitlines()
    assert {line.split("::")[1].split(":")[0] for line in lines if "and may take" in line} == {
        "test_long", "test_other",
    }  # fmt: skip
    assert any(line.startswith("unit: ") and ("TOO LONG" in line) == (total < 1.0) for line in lines)
    assert "4 passed, 2 errors" in lines[-1]
