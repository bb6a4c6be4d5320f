"""Metrics, health and the status page of a running daemon."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import TIMEOUT, Daemon, exchange, running, wait_gone
from folders import public_folder
from free_ports import free_port
from peers import require
from ucspid.errors import ResourceError

ROOT = Path(__file__).parents[2]
NOBODY = 65534
ENDINGS = {"counter": "total", "histogram": "bucket sum count", "gauge": ""}
"""Of the names of samples."""
WORDS = re.compile(r"\bucspid_[a-z_]+")


class Page(http.client.HTTPConnection):
    """A connection to the status page on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(os.fspath(self._path))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    services: dict[str, Any] = {
        "echo": {"program": ["cat"], "listen": "127.0.0.1:0"},
        "shut": {"program": ["cat"], "listen": "127.0.0.1:0", "default_action": "deny", "rules": []},
    }
    services["shut"]["rules"] = [{"from": "192.0.2.1", "allow": None}]
    with public_folder() as folder:
        config = {"services": services, "web": {"listen": f"unix:{folder}/page"}}
        with running(folder, config) as daemon:
            yield daemon


def ask(
    daemon: Daemon, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """Return status, text and headers of an answer; the process may be on its way back."""
    while True:
        page = Page(daemon.folder / "page")
        try:
            page.request(method, path, headers=headers)
            response = page.getresponse()
            return response.status, response.read().decode(), response.headers
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            """It ended with the event loop; the master holds the listener, and starts another."""
        finally:
            page.close()


def samples(daemon: Daemon) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the metrics by their names and the values of their labels, service first; no buckets."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    while (answer := ask(daemon, "/metrics"))[0] == 503:
        """The next event loop is on its way."""
    for family in text_string_to_metric_families(answer[1]):
        for sample in family.samples:
            if "le" not in sample.labels:
                labels = tuple(sample.labels[name] for name in sorted(sample.labels, reverse=True))
                found.setdefault(sample.name, {})[labels] = sample.value
    return found


def process(daemon: Daemon) -> int:
    """Return the process; it may be on its way back."""
    while not (pids := daemon.children("ucspid: web")):
        """The master starts another."""
    return pids[0]


def test_metrics_say_what_the_daemon_has_done(daemon: Daemon) -> None:
    with daemon.connect("echo") as sock:
        remote = "{}:{}".format(*sock.getsockname())
        assert exchange(sock, b"x") == b"x"
    daemon.wait_event("connection_served", remote=remote)
    assert daemon.talk("shut") == b""
    services = {service["name"]: service for service in daemon.status()["services"]}
    accepted = {(name,): service["accepted"] for name, service in services.items()}
    while (now := samples(daemon))["ucspid_connections_accepted_total"] != accepted:
        """An answer may be a second old."""
    echo, shut = services["echo"], services["shut"]
    assert now["ucspid_sessions_ended_total"]["echo", "ok"] == echo["ended"]["ok"] > 0
    assert now["ucspid_connections_refused_total"]["shut", "denied"] == shut["refused"]["denied"] > 0
    for name, what in (("start", "start"), ("session_duration", "duration"), ("queue_wait", "queue_wait")):
        timing = echo["timings"][what]
        assert now[f"ucspid_{name}_seconds_count"]["echo",] == sum(timing["counts"]) > 0
        assert now[f"ucspid_{name}_seconds_sum"]["echo",] == pytest.approx(timing["sum"])
    assert now["ucspid_connections_limit"]["echo",] == 40
    assert now["ucspid_service_able"] == {("echo",): 1, ("shut",): 1}
    assert now["ucspid_program_cpu_seconds_total"]["echo",] == pytest.approx(echo["timings"]["cpu"])
    assert now["ucspid_config_generation"][()] == daemon.status()["generation"]


def test_a_process_that_died_is_counted_by_the_next_event_loop(daemon: Daemon) -> None:
    (loop,) = daemon.processes("loop")
    os.kill(loop["pid"], signal.SIGKILL)
    daemon.wait_event("process_died", role="loop", pid=loop["pid"])
    while not (deaths := samples(daemon)["ucspid_process_deaths_total"])["loop",]:
        """The next event loop is on its way."""
    assert deaths.keys() == {("loop",), ("launcher",), ("tls",), ("web",)}
    assert deaths["launcher",] == deaths["tls",] == 0


def test_metrics_are_there_as_openmetrics_too(daemon: Daemon) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    status, text, headers = ask(daemon, "/metrics", Accept=accept)
    assert (status, text.endswith("# EOF\n")) == (200, True)
    assert headers["Content-Type"].startswith("application/openmetrics-text")


@pytest.mark.parametrize("file", ["prometheus-alerts.yaml", "grafana-dashboard.json"])
def test_what_is_contributed_uses_metrics_that_exist(daemon: Daemon, file: str) -> None:
    names = {
        name
        for family in text_string_to_metric_families(ask(daemon, "/metrics")[1])
        for name in (family.name, *(f"{family.name}_{end}" for end in ENDINGS[family.type].split()))
    }
    used = set(WORDS.findall((ROOT / "contrib" / file).read_text()))
    assert used
    assert used - names == set()


def test_promtool_finds_nothing_wrong(daemon: Daemon, tmp_path: Path) -> None:
    promtool = require("promtool")
    alerts = str(ROOT / "contrib/prometheus-alerts.yaml")
    panels = json.loads((ROOT / "contrib/grafana-dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(asked)]
    (tmp_path / "panels.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    for arguments, text in (
        (["rules", alerts], None),
        (["rules", str(tmp_path / "panels.yaml")], None),
        (["metrics"], ask(daemon, "/metrics")[1]),
    ):
        command = [promtool, "check", *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_process_may_look_and_nothing_else(daemon: Daemon) -> None:
    ask(daemon, "/healthz")  # it is confined before it answers
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{process(daemon)}/status").read_text().splitlines()
    )
    assert int(status["PPid"]) == daemon.pid
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert (
        status["Seccomp"]
        == Path(f"/proc/{daemon.processes('loop')[0]['pid']}/status").read_text().split("Seccomp:\t")[1][0]
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(daemon: Daemon, method: str) -> None:
    for path in ("/", "/metrics", "/service/echo"):
        assert ask(daemon, path, method)[0] == 405


def test_health(daemon: Daemon) -> None:
    assert ask(daemon, "/healthz")[:2] == (200, "ok\n")
    assert ask(daemon, "/readyz")[:2] == (200, "ready\n")


def test_the_page_shows_services_sessions_and_clients(daemon: Daemon) -> None:
    with daemon.connect("echo", "127.0.0.9") as sock:
        assert exchange_open(sock) == b"x"
        status, text, headers = ask(daemon, "/")
        assert status == 200
        assert '<a href="/service/echo">echo</a>' in text
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "127.0.0.9" in ask(daemon, "/service/echo")[1]
        assert "{}:{}".format(*sock.getsockname()) in ask(daemon, "/client/127.0.0.9")[1]
    for path in ("/service/imap", "/service/%3Cscript%3E", "/other", "/live?at=/other", "/client/x/y"):
        assert ask(daemon, path)[0] == 404
    assert ask(daemon, "/client/nobody")[0] == 503


def exchange_open(sock: socket.socket) -> bytes:
    sock.sendall(b"x")
    return sock.recv(1)


def test_an_open_page_is_live(daemon: Daemon) -> None:
    page = Page(daemon.folder / "page")
    page.request("GET", "/live?at=/")
    response = page.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    with daemon.connect("shut") as sock:
        remote = "{}:{}".format(*sock.getsockname())
        assert sock.recv(1) == b""
    while remote not in (line := response.readline().decode()):
        assert line.startswith("data: ") or line == "\n"
    assert "connection_refused" in line
    page.close()


def test_it_comes_back_when_it_dies_or_the_event_loop_does(daemon: Daemon) -> None:
    pid = process(daemon)
    os.kill(pid, signal.SIGKILL)
    daemon.wait_event("process_died", role="web", pid=pid)
    assert ask(daemon, "/healthz")[0] == 200
    (loop,) = daemon.processes("loop")
    os.kill(loop["pid"], signal.SIGKILL)
    daemon.wait_event("process_died", role="loop", pid=loop["pid"])
    while ask(daemon, "/healthz")[0] != 200:
        """What asks the event loop that is gone is not there for long."""
    assert samples(daemon)["ucspid_connections_accepted_total"].keys() == {("echo",), ("shut",)}


def test_an_upgrade_keeps_the_listener(daemon: Daemon) -> None:
    inode = os.stat(daemon.folder / "page").st_ino
    pid = process(daemon)
    os.kill(daemon.pid, signal.SIGUSR2)
    daemon.wait_event("upgraded")
    while ask(daemon, "/healthz")[0] != 200 or daemon.children("ucspid: web") in ([pid], []):
        """The old process ends with the old event loop."""
    assert os.stat(daemon.folder / "page").st_ino == inode


def test_a_reload_ends_it_and_moves_it(daemon: Daemon) -> None:
    port = free_port()
    assert daemon.reload({"web": {"listen": f"127.0.0.1:{port}"}}) == [
        f"web: unix:{daemon.folder}/page -> 127.0.0.1:{port}"
    ]
    assert not (daemon.folder / "page").exists()
    for host, status in (("localhost", 200), (f"127.0.0.1:{port}", 200), ("evil.example", 421)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        connection.request("GET", "/healthz", headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()
    pid = process(daemon)
    daemon.reload({"web": None})
    wait_gone(pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), TIMEOUT)
    why = "status page: Address already in use"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ResourceError, match=why):
        daemon.reload({"web": {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}})
    daemon.reload({"web": {"listen": f"unix:{daemon.folder}/page"}})
    assert ask(daemon, "/healthz")[0] == 200
