"""Processes that do one thing for the master: their end or their time decides, never a child of theirs."""

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import certificates
from faults import hanging_open
from leaks import memory_traced, open_files, opened_since
from reachable import reachable
from ucspid.errors import ConfigError, ResourceError, UcspidError
from ucspid.ipc import progress
from ucspid.ipc.progress import SIZE, Progress
from ucspid.linux import prctl
from ucspid.master import job, reader
from ucspid.master.children import Children, reap_one
from ucspid.master.job import Job, JobOutcome
from ucspid.master.poller import Poller
from ucspid.plan import Plan
from ucspid.tls.material import NO_MATERIAL, read

_PR_SET_CHILD_SUBREAPER = 36
LONG = 60.0
"""Seconds that nothing here takes."""


class Bench:
    """A poller, and children that are reaped while it runs."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.children = Children()
        self.outcomes: list[JobOutcome] = []
        self.expected: set[int] = set()
        """The children that were still expected to end when the outcome was there."""

    def done(self, outcome: JobOutcome) -> None:
        self.outcomes.append(outcome)
        self.expected = set(self.children.expected)

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.poller.call_in(0.005, lambda: None)  # a child's end is not what the poller waits for
            self.poller.run_once()
            while (exit_ := reap_one()) is not None:
                self.children.exited(exit_)

    def run(self, script: str, timeout: float = LONG) -> Job:
        """Have a shell be the process; its descriptor 3 is the memory for its progress."""

        def start(output: int, errors: int, progress: int) -> int:
            files = [(os.POSIX_SPAWN_DUP2, number, place) for place, number in ((1, output), (2, errors))]
            copy = os.dup(progress)
            files.append((os.POSIX_SPAWN_DUP2, copy, 3))
            try:
                return os.posix_spawn(
                    "/bin/sh", ["sh", "-c", script], os.environ, file_actions=files, setsid=True
                )
            finally:
                os.close(copy)

        return Job(start, "a shell", self.children, self.poller, timeout, self.done)

    def outcome(self) -> JobOutcome:
        self.until(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome


@pytest.fixture
def _subreaper() -> Iterator[None]:
    """Have orphans below this process be its children, as they are the master's."""
    prctl.become_subreaper()
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def bench(_subreaper: None) -> Iterator[Bench]:
    bench = Bench()
    before = open_files()
    yield bench
    bench.until(lambda: not bench.children.expected)
    assert opened_since(before) == []
    bench.children.close()


def test_its_end_says_what_came_of_it(bench: Bench) -> None:
    bench.run("echo out; echo why >&2; exit 3")
    assert bench.outcome() == JobOutcome(3, b"out\n", "why")


def test_all_that_it_has_said_is_there_when_it_has_ended(bench: Bench) -> None:
    bench.run("head -c 3000000 /dev/zero")
    assert len(bench.outcome().output) == 3_000_000


def test_nothing_that_it_has_said_is_kept(bench: Bench) -> None:
    """A plan of a thousand services is a megabyte, and the master has made of it what it needs."""
    with memory_traced() as taken:
        ended = bench.run("head -c 1000000 /dev/zero")
        bench.outcome()
        bench.outcomes.clear()
        now, _peak = taken()
    assert now < 100_000
    assert ended.pid > 0


def test_a_child_that_keeps_its_outputs_open_holds_nothing_up_and_is_killed(bench: Bench) -> None:
    bench.run("sleep 1000 & echo $!; exit 3")
    outcome = bench.outcome()
    assert outcome.code == 3
    bench.until(lambda: gone(int(outcome.output)))


def test_when_its_time_is_over_it_is_killed_with_all_of_its_session(bench: Bench) -> None:
    process = bench.run("sleep 1000 & echo $!; wait", 0.2)
    outcome = bench.outcome()
    assert (outcome.code, outcome.hung_at) == (None, "")
    assert process.pid in bench.expected
    bench.until(lambda: gone(int(outcome.output)) and gone(process.pid))


def test_one_that_says_too_much_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "MAX_OUTPUT", 100_000)
    bench.run("cat /dev/zero")
    outcome = bench.outcome()
    assert outcome.code is not None
    assert outcome.code < 0
    assert len(outcome.output) < 100_000 + (1 << 20)


def test_one_that_is_cancelled_is_killed_without_a_word(bench: Bench) -> None:
    process = bench.run("sleep 1000")
    process.cancel()
    process.cancel()
    bench.until(lambda: gone(process.pid))
    assert bench.outcomes == []


def test_reading_where_nothing_is_to_be_read_does_not_block(bench: Bench) -> None:
    """Whatever the poller says of a descriptor may be said of the one that had its number before."""
    process = bench.run("sleep 1000")
    for end in process._ends:
        assert not process._read(end)
    process.cancel()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_progress_is_the_last_word_as_far_as_it_fits() -> None:
    memory = os.memfd_create("progress")
    mine = Progress()
    mine.at("nobody hears this")
    assert progress.read(memory) == ""
    mine.descriptor = memory
    for text in ("/a/long/path", "\udcff", "/b"):
        mine.at(text)
    assert progress.read(memory) == "/b"
    mine.at("x" * 2 * SIZE)
    assert progress.read(memory) == "x" * (SIZE - 2)
    for junk in (b"", b"\xff", b"\xff\xff\xff"):
        os.pwrite(memory, junk, 0)
        assert isinstance(progress.read(memory), str)
    os.close(memory)


CONFIG = "services:\n  a:\n    listen: 127.0.0.1:0\n    program: [cat]\n"


class Reading(Bench):
    """A bench where files are read."""

    def __init__(self) -> None:
        super().__init__()
        self.material = NO_MATERIAL

    def read(self, file: Path) -> Plan | UcspidError:
        results: list[tuple[Plan, int] | UcspidError] = []
        reader.ConfigReading(str(file), self.children, self.poller, results.append)
        self.until(lambda: results)
        (result,) = results
        if isinstance(result, UcspidError):
            return result
        plan, material = result
        self.material = read(material)
        os.close(material)
        return plan


@pytest.fixture
def reading(_subreaper: None) -> Iterator[Reading]:
    reading = Reading()
    yield reading
    reading.until(lambda: not reading.children.expected)
    reading.children.close()


def test_a_file_is_read(reading: Reading, tmp_path: Path) -> None:
    file = tmp_path / "ucspid.yaml"
    file.write_text(CONFIG)
    plan = reading.read(file)
    assert isinstance(plan, Plan)
    assert [service.name for service in plan.services] == ["a"]
    file.write_text("nonsense: 1\n")
    assert isinstance(reading.read(file), ConfigError)


def test_certificates_come_with_the_plan(reading: Reading, tmp_path: Path) -> None:
    file = tmp_path / "ucspid.yaml"
    file.write_text(CONFIG)
    assert isinstance(reading.read(file), Plan)
    assert reading.material == NO_MATERIAL
    certificate = certificates.shared() / "mail.example.org.pem"
    file.write_text(f"{CONFIG}    tls: {{mode: implicit, certificates: {certificate}}}\n")
    plan = reading.read(file)
    assert isinstance(plan, Plan)
    tls = plan.services[0].tls
    assert tls is not None
    assert [context.context for context in reading.material.contexts] == [tls.context]
    assert [chain.names for chain in reading.material.chains] == [("mail.example.org",)]


def test_a_reading_that_fails_or_is_cancelled_holds_nothing(reading: Reading, tmp_path: Path) -> None:
    before = open_files()
    assert isinstance(reading.read(tmp_path / "missing"), ConfigError)
    results: list[object] = []
    begun = reader.ConfigReading(str(tmp_path / "missing"), reading.children, reading.poller, results.append)
    begun.cancel()
    begun.cancel()
    reading.until(lambda: not reading.children.expected)
    assert (opened_since(before), results) == ([], [])


@pytest.mark.slow
def test_a_file_that_hangs_is_named_and_another_is_read_after_it(
    reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TIMEOUT", 1.5)
    fifo = tmp_path / "ucspid.yaml"
    os.mkfifo(fifo)
    problem = reading.read(fifo)
    assert isinstance(problem, ResourceError)
    assert str(problem) == f"the configuration could not be read within 1.5 s: it hangs at {fifo}"
    fifo.unlink()
    fifo.write_text(CONFIG)
    monkeypatch.setattr(reader, "TIMEOUT", LONG)
    assert isinstance(reading.read(fifo), Plan)


@pytest.mark.slow
def test_a_file_of_rules_that_hangs_in_a_child_of_the_reader_is_named_and_the_child_killed(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TIMEOUT", 1.5)
    with reachable() as folder:
        rules, file = folder / "rules", folder / "ucspid.yaml"
        rules.write_text(":allow\n")
        file.write_text(f"{CONFIG}    rules: {rules}\n")
        before = children()
        with hanging_open(rules):
            problem = reading.read(file)
            assert isinstance(problem, ResourceError)
            assert str(problem) == f"the configuration could not be read within 1.5 s: it hangs at {rules}"
            reading.until(lambda: not reading.children.expected)
            reading.until(lambda: children() <= before)
        monkeypatch.setattr(reader, "TIMEOUT", LONG)
        assert isinstance(reading.read(file), Plan)


def children() -> set[str]:
    """Return this process's children, among which those of earlier tests may be, as multiprocessing's are."""
    return {*Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
