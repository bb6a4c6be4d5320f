import json
import math
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench import load
from bench.build import CannotBuildError, Programs, build
from bench.contest import Measured, Result, alternate, spread
from bench.load import BadLoadError, Clients, Histogram
from bench.report import from_json, markdown

ROOT = Path(__file__).parent.parent


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


def test_load_tells_a_reset_from_an_end(programs: Programs, listener: socket.socket) -> None:
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


def test_load_holds_until_it_is_told_to_end(programs: Programs, listener: socket.socket) -> None:
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


def failing(_figures: Measured = {}) -> Measured:  # noqa: B006 - never changed
    raise BadLoadError("clients were lost")


def test_a_peer_that_loses_clients_is_out_and_said_to_be() -> None:
    failed: dict[str, str] = {}
    assert alternate({"A": lambda: {"x": 1.0}, "B": failing}, 1, failed) == {"A": [{"x": 1.0}]}
    assert failed == {"B": "clients were lost"}


def test_the_subject_must_not_lose_clients() -> None:
    failed: dict[str, str] = {}
    measures: dict[str, Callable[[], Measured]] = {"A": failing, "B": lambda: {"x": 1.0}}
    with pytest.raises(BadLoadError):
        alternate(measures, 1, failed)


def test_ratios_are_of_the_same_round() -> None:
    values = {"A": [{"x": 1.0}, {"x": 4.0}, {"x": 9.0}], "B": [{"x": 2.0}, {"x": 4.0}, {"x": 3.0}]}
    ratio = Result("case", "about", values, pairs=[("A", "B")]).ratios("A", "B")["x"]
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 3.0)


def test_a_spread_leaves_out_what_is_no_number() -> None:
    assert spread([math.nan, 2.0, 1.0]).median == 1.5
    assert math.isnan(spread([math.nan]).median)


def test_the_bench_runs_and_its_results_have_their_shape(programs: Programs, tmp_path: Path) -> None:
    assert programs.load
    output = tmp_path / "results.json"
    cases = ["generator", "trivial-1"]
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


def check_result(item: dict[str, Any]) -> None:
    for rounds in item["values"].values():
        assert len(rounds) == 1
        assert all(isinstance(value, float) for value in rounds[0].values())
    assert item["ratios"].keys() == {f"{name} / {to}" for name, to in item["pairs"]}
    for ratios in item["ratios"].values():
        assert all(value.keys() == {"median", "low", "high"} for value in ratios.values())
