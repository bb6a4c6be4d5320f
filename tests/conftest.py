"""The tiers: markers by folder, turns of tests that must be alone, and budgets of time.

Tests may run in several processes at once (pytest -n). One that is marked `alone` measures time or
counts something of the whole machine: while it runs, the others wait.
"""

import gc
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Generator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import kill_guard
from ignored_signals import give_default
from tiers import SLOW, TIERS, Stopwatch, Turns

HERE = Path(__file__).parent
TURNS = pytest.StashKey[Turns]()
STOPWATCH = pytest.StashKey[Stopwatch]()
FOLDER = pytest.StashKey[str]()

hypothesis.settings.register_profile(
    "full", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)  # the host may be busy
hypothesis.settings.register_profile("budgets", hypothesis.settings.get_profile("full"), max_examples=15)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--budgets",
        action="store_true",
        help="fail tests and tiers that take longer than they may, and try fewer examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    give_default()
    kill_guard.install()
    for name, tier in TIERS.items():
        config.addinivalue_line("markers", f"{name}: a test in tests/{name}, of {tier.test} seconds at most")
    config.addinivalue_line("markers", "fast: a test that needs no daemon")
    config.addinivalue_line("markers", f"slow: a test of {SLOW} seconds at most among fast ones")
    config.addinivalue_line("markers", "alone: a test that runs while no other does")
    config.addinivalue_line("markers", "waits: a test that waits for seconds, and runs before all others")
    hypothesis.settings.load_profile("budgets" if config.getoption("--budgets") else "full")
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[TURNS] = Turns(Path(worker["turns"]))
    elif config.getoption("--budgets"):
        config.pluginmanager.register(Budgets())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Have a process that runs tests take turns with the others."""
    config = node.config
    if FOLDER not in config.stash:
        config.stash[FOLDER] = tempfile.mkdtemp(prefix="ucspid-turns-")
        config.add_cleanup(partial(shutil.rmtree, config.stash[FOLDER]))
    node.workerinput["turns"] = config.stash[FOLDER]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have tests that only wait run first: at the end, nothing else would use the CPUs meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish() -> None:
    """Have collections of garbage look only at what tests make, not at all that was imported."""
    gc.collect()
    gc.freeze()


def tier_of(path: Path) -> str:
    return path.relative_to(HERE).parts[0]


def pytest_itemcollected(item: pytest.Item) -> None:
    name = tier_of(item.path)
    item.add_marker(name)
    if TIERS[name].fast:
        item.add_marker("fast")
    if TIERS[name].waits:
        item.add_marker("waits")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    turns = item.config.stash.get(TURNS, None)
    alone = item.get_closest_marker("alone") is not None
    with turns.turn(alone=alone) if turns is not None else nullcontext():
        item.stash[STOPWATCH] = Stopwatch()
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when != "teardown" or not item.config.getoption("--budgets"):
        return report
    tier = tier_of(item.path)
    slow = item.get_closest_marker("slow") is not None
    budget = max(SLOW, TIERS[tier].test) if slow else TIERS[tier].test
    seconds = item.stash[STOPWATCH].seconds()
    vars(report).update(tier=tier, seconds=0.0 if slow else seconds)
    if seconds > budget and report.passed:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid}: took {seconds:.2f} s, and may take {budget} (see tests/support/tiers.py)"
        )
    return report


class Budgets:
    """Sums up what the tests of each tier took; the process that reports to the user does so."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def _over(self) -> list[str]:
        return [name for name, seconds in self._seconds.items() if seconds > TIERS[name].total]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._seconds[vars(report)["tier"]] += vars(report)["seconds"]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._over():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("budgets")
        for name in [name for name in TIERS if name in self._seconds]:
            over = ": TOO LONG" if name in self._over() else ""
            terminalreporter.write_line(
                f"{name}: {self._seconds[name]:.1f} s, may take {TIERS[name].total} s{over}"
            )
