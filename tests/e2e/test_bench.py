import json
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench import load, measure, server
from bench.build import CannotBuildError, Programs, build
from bench.cases.common import by_role, idle_cpu, memory_of, part_for
from bench.contest import Measured, Result, Settings, alternate, of_those_measured, spread
from bench.daemon import UcspidPeer
from bench.floors import Floor, TwoProcesses, Uvloop
from bench.load import BadLoadError, Clients, Histogram
from bench.peers import OpenbsdInetd
from bench.report import from_json, markdown, wanted_markdown
from bench.server import CannotStartError, Workload
from bench.two_processes import EXITED, REPORT, STARTED
from bench.unpacking import unpack
from bench.wanted import wanted

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    try:
        return build(tmp_path_factory.mktemp("bench"))
    except CannotBuildError as problem:
        pytest.skip(str(problem))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        sock.settimeout(10)
        yield sock


def generate(programs: Programs, listener: socket.socket, clients: Clients) -> load.Running:
    return load.Running(programs.load, listener.getsockname()[1], clients)


def test_load_counts_latency_from_when_a_client_was_due(programs: Programs, listener: socket.socket) -> None:
    clients = 50
    with generate(programs, listener, Clients(clients, rate=1000.0)) as running:
        stalled = [listener.accept()[0] for _ in range(clients)]
        for sock in stalled:
            sock.sendall(b"x")
            sock.close()
        done = running.end().must_succeed()
    assert done.first.counts.total() == clients
    assert done.first.percentile(100) >= (clients - 1) / 1000
    assert done.seconds >= (clients - 1) / 1000


def test_load_keeps_a_fixed_number_of_clients_at_once(programs: Programs, listener: socket.socket) -> None:
    with generate(programs, listener, Clients(6, at_once=3)) as running:
        waiting = [listener.accept()[0] for _ in range(3)]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.settimeout(10)
        for _ in range(3):
            waiting.pop(0).close()
            waiting.append(listener.accept()[0])
        for sock in waiting:
            sock.close()
        done = running.end()
    assert (done.started, done.empty, done.answered, done.failed) == (6, 6, 0, 0)


def test_load_distinguishes_a_reset_from_an_end(programs: Programs, listener: socket.socket) -> None:
    with generate(programs, listener, Clients(2)) as running:
        first, _ = listener.accept()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()
        listener.accept()[0].close()
        done = running.end()
    assert (done.failed, done.empty) == (1, 1)
    assert done.error == "Connection reset by peer"
    with pytest.raises(BadLoadError, match="1 failed"):
        done.must_succeed()


def test_load_holds_until_it_is_asked_to_end(programs: Programs, listener: socket.socket) -> None:
    with generate(programs, listener, Clients(2, at_once=1, hold=True, mark=2)) as running:
        held = []
        for _ in range(2):
            held.append(listener.accept()[0])
            held[-1].sendall(b"x")
        running.wait_for_mark()
        threading.Thread(target=_close_after_client, args=(held,)).start()
        done = running.end().must_succeed()
    assert done.end.counts.total() == 2


def _close_after_client(held: list[socket.socket]) -> None:
    for sock in held:
        sock.settimeout(10)
        assert sock.recv(1) == b""
        sock.close()


def test_load_says_a_line_after_each_whole_reply(programs: Programs, listener: socket.socket) -> None:
    heard = []
    with generate(programs, listener, Clients(1, says=("EHLO x\r\n", "QUIT\r\n"))) as running:
        sock, _ = listener.accept()
        sock.settimeout(10)
        for reply in (b"220 hello\r\n", b"250-one\r\n250 two\r\n"):
            sock.sendall(reply)
            heard.append(sock.recv(100))
        sock.sendall(b"221 bye\r\n")
        sock.close()
        running.end().must_succeed()
    assert heard == [b"EHLO x\r\n", b"QUIT\r\n"]


def test_histogram_percentiles_are_of_all_values() -> None:
    histogram = Histogram([(1_000_000, 98), (5_000_000, 1), (9_000_000, 1)])
    assert histogram.percentile(50) == 0.001
    assert histogram.percentile(98) == 0.001
    assert histogram.percentile(99) == 0.005
    assert histogram.percentile(100) == 0.009
    assert math.isnan(Histogram().percentile(50))


def test_histogram_is_written_with_bounds_of_two_digits() -> None:
    assert Histogram([(1_231_000, 2), (1_189_000, 1), (99_600, 4), (7, 1)]).pairs() == [
        (7, 1),
        (100_000, 4),
        (1_200_000, 3),
    ]


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def measure(name: str) -> Measured:
        order.append(name)
        return {"turn": float(len(order))}

    values = alternate({name: partial(measure, name) for name in "AB"}, 2)
    assert "".join(order) == "ABABAB"
    assert values == {"A": [{"turn": 3.0}, {"turn": 5.0}], "B": [{"turn": 4.0}, {"turn": 6.0}]}


FAILURES = [BadLoadError("clients were lost"), CannotStartError("no port"), ConnectionResetError("reset")]


def failing(problem: Exception) -> Measured:
    raise problem


@pytest.mark.parametrize("problem", FAILURES)
def test_a_peer_that_fails_is_out_and_said_to_be(problem: Exception) -> None:
    failed: dict[str, str] = {}
    measures: dict[str, Callable[[], Measured]] = {"A": lambda: {"x": 1.0}, "B": partial(failing, problem)}
    values = alternate(measures, 1, failed)
    assert (values, failed) == ({"A": [{"x": 1.0}]}, {"B": str(problem)})
    assert of_those_measured(values, [("A", "B"), ("A", "A")]) == [("A", "A")]


@pytest.mark.parametrize("name", ["A", "ucspid python"])
@pytest.mark.parametrize("problem", FAILURES)
def test_the_subject_must_not_fail(problem: Exception, name: str) -> None:
    measures: dict[str, Callable[[], Measured]] = {"A": lambda: {"x": 1.0}, "B": lambda: {"x": 1.0}}
    with pytest.raises(type(problem)):
        alternate(measures | {name: partial(failing, problem)}, 1, {})


def test_ratios_are_of_the_same_round() -> None:
    values = {"A": [{"x": 1.0}, {"x": 4.0}, {"x": 9.0}], "B": [{"x": 2.0}, {"x": 4.0}, {"x": 3.0}]}
    ratio = Result("case", "about", values, pairs=[("A", "B")]).ratios("A", "B")["x"]
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 3.0)


def test_a_spread_leaves_out_what_is_no_number() -> None:
    assert spread([math.nan, 2.0, 1.0]).median == 1.5
    assert math.isnan(spread([math.nan]).median)


@pytest.mark.parametrize("program", ["trivial", "bare"])
def test_two_python_processes_serve_every_client_with_either_program(
    programs: Programs, tmp_path: Path, program: str
) -> None:
    workload = Workload(program=(getattr(programs, program),), files=tmp_path)
    with TwoProcesses().start(workload) as running:
        assert len(running.pids()) == 1 + len(os.sched_getaffinity(0)) + 1
        load.run(programs.load, running.port, Clients(30, 10, timeout=20)).must_succeed()


def test_a_launcher_of_the_two_python_processes_reports_start_and_end_and_ends_with_the_loop() -> None:
    code = (
        "import socket, sys; from bench.two_processes import Launcher; "
        "Launcher(socket.socket(fileno=int(sys.argv[1])), ['/bin/false']).run()"
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, socket.socket() as client:
        ours.settimeout(20)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        socket.send_fds(ours, [b"x"], [client.fileno()])
        said = b""
        while len(said) < 2 * REPORT.size:
            said += ours.recv(100)
        (started, exited) = REPORT.iter_unpack(said)
    assert started == (STARTED, exited[1], 0)
    assert (exited[0], os.waitstatus_to_exitcode(exited[2])) == (EXITED, 1)
    assert process.wait(20) == 0


@pytest.mark.alone
def test_memory_is_reported_by_role_and_an_idle_daemon_uses_next_to_nothing(
    tmp_path: Path,
) -> None:
    with UcspidPeer().start(Workload(program=("/bin/true",), files=tmp_path)) as daemon:
        memory = memory_of([daemon])
        idle = idle_cpu(daemon, 0.1)
    assert list(memory) == ["", "master", "loop", "launcher"]
    assert memory[""] == sum(memory[role] for role in ("master", "loop", "launcher"))
    assert min(memory["master"], memory["loop"]) > 1e6
    assert memory["launcher"] > 1e5  # one in C is no more
    assert 0 <= idle["idle CPU ms/s"] < 500


def test_a_server_far_slower_than_the_others_gets_a_part_of_the_connections(
    programs: Programs, tmp_path: Path
) -> None:
    workload = Workload(program=(programs.bare,), files=tmp_path)
    with Uvloop().start(workload) as slow, Floor(programs.floor).start(workload) as fast:
        assert part_for(slow, Clients(1000, 20)).count == 250
        assert part_for(slow, Clients(30, 20)).count == 20
        assert part_for(fast, Clients(1000, 20)).count == 1000


def test_memory_of_servers_without_roles_is_one_figure(programs: Programs, tmp_path: Path) -> None:
    workload = Workload(program=(), files=tmp_path)
    with (
        Floor(programs.floor, "close").start(workload) as one,
        Floor(programs.floor, "close").start(workload) as other,
    ):
        memory = memory_of([one, other])
        assert list(memory) == [""]
        assert memory[""] > memory_of([one])[""] > 0
    assert by_role("PSS MB", {"": 3e6, "loop": 2e6}, 1e6) == {"PSS MB": 3.0, "PSS MB loop": 2.0}


def test_what_a_server_leaves_behind_may_end_before_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as left:

        def and_then_it_ends(pid: int) -> str:
            began = start_time(pid)
            left.communicate()
            return began

        start_time = measure.start_time
        monkeypatch.setattr(measure, "start_time", and_then_it_ends)
        server.kill_left(left.pid, start_time(left.pid))
    assert left.returncode == 0


def test_a_port_for_a_server_is_none_that_a_client_gets() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(server.free_port() < max(20_000, lowest) for _ in range(10))


def test_letting_a_server_be_ends_when_it_does(programs: Programs, tmp_path: Path) -> None:
    with Floor(programs.floor, "close").start(Workload(program=(), files=tmp_path)) as floor:
        began = time.monotonic()
        floor.stay(0.02)
        assert time.monotonic() - began >= 0.02
        floor.process.kill()
        floor.stay(3600)


def test_running_time_is_counted_more_finely_than_in_ticks() -> None:
    before, began = measure.running_time_of([os.getpid()]), time.process_time()
    while time.process_time() - began < 0.002:
        """Use a fifth of a tick."""
    assert measure.running_time_of([os.getpid()]) - before >= 0.001
    assert math.isnan(measure.running_time_of([2**22]))


def test_processes_that_have_ended_have_no_memory_and_no_children() -> None:
    assert measure.pss_of([os.getpid()]) > 1e6
    with subprocess.Popen(["/bin/true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert measure.pss_of([ended.pid]) == 0
        assert measure.descendants(ended.pid) == [ended.pid]
    assert measure.pss_of([ended.pid]) == 0
    assert measure.descendants(ended.pid) == [ended.pid]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="there is no dpkg-deb")
def test_a_package_is_unpacked_and_not_installed(tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN/control").write_text(
        "Package: bench-test\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: a test\n"
    )
    (content / "usr/sbin").mkdir(parents=True)
    (content / "usr/sbin/inetd").write_text("#!/bin/sh\n")
    place = tmp_path / "place"
    place.mkdir()
    command = ["dpkg-deb", "-b", str(content), str(place / "bench-test.deb")]
    subprocess.run(command, capture_output=True, check=True, timeout=20)
    assert unpack(place, "usr/sbin/inetd").path == str(place / "usr/sbin/inetd")
    assert unpack(place, "usr/sbin/xinetd").absent == "the package has no usr/sbin/xinetd"


def test_what_cannot_be_unpacked_is_absent_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.deb").write_text("no package")
    absent = unpack(tmp_path, "usr/sbin/inetd").absent
    assert absent is not None
    assert absent.startswith("it is not installed, and ")


def test_a_short_run_downloads_nothing(programs: Programs, tmp_path: Path) -> None:
    absent = OpenbsdInetd(Settings(programs, tmp_path, 1, short=True)).absent()
    assert absent is None or "--short" in absent
    assert not list(tmp_path.iterdir())


def found(figure: str, *results: Result) -> dict[str, Any]:
    return next(row for row in wanted(results) if row["figure"] == figure)


def trivial(ours: float, theirs: float) -> Result:
    figures = {"first byte p50 ms": 0.0, "first byte p99 ms": 0.0, "CPU µs": 0.0}
    values = {"ucspid": [figures | {"connections/s": ours, "own µs": 0.0}], "C accept+vfork+exec": [figures]}
    return Result("trivial-20", "", values | {"tcpserver": [figures | {"connections/s": theirs}]})


def test_a_target_is_reached_or_missed_by_the_median_of_ratios() -> None:
    figure = "connections/s against tcpserver, 20 clients"
    row = found(figure, trivial(1.06, 1.0))
    assert row["wanted"] == "1.05 or more"
    assert row["found"] == {"median": 1.06, "low": 1.06, "high": 1.06}
    assert row["reached"] is True
    assert found(figure, trivial(1.04, 1.0))["reached"] is False


def test_a_target_of_which_nothing_is_known_is_neither_reached_nor_missed() -> None:
    figure = "connections/s against tcpserver, 20 clients"
    absent = trivial(1.0, 1.0)
    del absent.values["tcpserver"]
    for results in ([], [absent], [trivial(1.0, 0.0)]):
        row = found(figure, *results)
        assert (row["found"], row["reached"]) == (None, None)
        assert f"| {figure} | not measured | 1.05 or more |  |" in wanted_markdown([row], short=False)


def test_where_there_must_be_none_every_round_counts() -> None:
    rounds = [{"longest wait ms": 1.0, "failed": failed} for failed in (0.0, 0.0, 1.0)]
    row = found("event loop killed: failed clients", Result("loop-kill", "", {"interrupted": rounds}))
    assert (row["wanted"], row["found"]["median"], row["reached"]) == ("0", 0.0, False)


def test_memory_above_that_of_three_services_is_of_the_same_round() -> None:
    values = {
        f"ucspid, {count}": [{"PSS MB": megabytes, "start ms": 1.0} for megabytes in rounds]
        for count, rounds in ((1, (30.0, 31.0)), (3, (30.0, 40.0)), (1000, (44.0, 56.0)))
    }
    row = found("1,000 services: PSS above that of 3, MB", Result("services", "", values))
    assert row["found"] == {"median": 15.0, "low": 14.0, "high": 16.0}


def test_an_unknown_figure_is_no_missing_measurement() -> None:
    with pytest.raises(KeyError):
        wanted([Result("loop-kill", "", {"interrupted": [{"lost": 0.0}]})])


def test_the_bench_runs_and_its_results_have_their_shape(programs: Programs, tmp_path: Path) -> None:
    assert programs.load
    output = tmp_path / "results.json"
    cases = ["generator", "bare-20"]
    command = [sys.executable, "-m", "bench", "--short", "--output", str(output)]
    for case in cases:
        command += ["--case", case]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert [item["case"] for item in report["results"]] == cases
    assert report["machine"]["cores"] >= 1
    for item in report["results"]:
        check_result(item)
        assert markdown(from_json(item)) in done.stdout
    assert wanted_markdown(report["wanted"], short=True) in done.stdout
    assert all(row["found"] is None for row in report["wanted"])


def check_result(item: dict[str, Any]) -> None:
    for rounds in item["values"].values():
        assert len(rounds) == 1
        assert all(isinstance(value, float) for value in rounds[0].values())
    assert item["ratios"].keys() == {f"{name} / {to}" for name, to in item["pairs"]}
    for ratios in item["ratios"].values():
        assert all(value.keys() == {"median", "low", "high"} for value in ratios.values())
