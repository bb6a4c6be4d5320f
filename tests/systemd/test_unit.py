"""The daemon as a service of systemd: started, reloaded, stopped, restarted, killed, watched over."""

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from container import TOP, Container

pytestmark = pytest.mark.timeout(200)

UNIT = (TOP / "src/ucspid/cli/ucspid.service").read_text()
CONFIG = "/etc/ucspid/ucspid.yaml"
ECHO = {"listen": "127.0.0.1:7007", "program": ["cat"], "drain_timeout": "2s", "kill_timeout": "1s"}

CLIENT = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
for line in sys.stdin:
    try:
        sock.sendall(line.encode())
        answer = sock.makefile().readline()
    except ConnectionError:
        answer = ""
    print(answer.strip() or "end", flush=True)
"""
"""Sends the lines that it is given, and says what comes back."""

LOAD = """
import socket, sys, threading
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
served = 0
while not done.is_set():
    with socket.create_connection(("127.0.0.1", 7007), 60) as sock:
        sock.sendall(b"x")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(10) == b"x", "a client got nothing"
    served += 1
    if served == 10:
        print("under way", flush=True)
print(served)
"""
"""Connects again and again until its standard input ends; fails if one client is not served."""


class Service:
    """The unit in a container."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def configure(self, services: Mapping[str, Any], **top: Any) -> None:
        """Have the file be this."""
        config = {"user": "nobody", "control": "/run/ucspid/control", "services": services, **top}
        self.container.write(CONFIG, yaml.safe_dump(config))

    def systemctl(self, verb: str, *more: str) -> str:
        return self.container.run("systemctl", verb, "ucspid", *more)

    def show(self, name: str) -> str:
        return self.container.run("systemctl", "show", "ucspid", "--property", name, "--value").strip()

    def wait(self, name: str, value: str) -> str:
        """Wait until a property matches a pattern; return what it is then."""
        command = ["systemctl", "show", "ucspid", "--property", name, "--value"]
        seen = ""

        def matches() -> bool:
            nonlocal seen
            seen = self.container.run(*command).strip()
            return re.search(value, seen) is not None

        self.container.until(f"{name} is {value}", matches)
        return seen

    def pid(self, title: str) -> int:
        """Return a process of the service by its title, as far as the kernel keeps it; 0 if there is none."""
        search = f"grep -lx '{f'ucspid: {title}'[:15]}.*' /proc/[0-9]*/comm"
        found = self.container.attempt("sh", "-c", search).stdout.split()
        return int(found[0].split("/")[2]) if found else 0

    def wait_for_pid(self, title: str) -> int:
        """Return a process by its title, which it takes a moment after its start."""
        self.container.until(title, lambda: self.pid(title) != 0)
        return self.pid(title)

    def send(self, pid: int, signal: str) -> None:
        self.container.run("sh", "-c", f"kill -{signal} {pid}")

    def journal(self, event: str) -> None:
        """Wait until the journal has an event."""
        command = ["journalctl", "-u", "ucspid", "--grep", event, "--quiet"]
        self.container.wait(event, *command, until=event)

    @contextlib.contextmanager
    def session(self, port: int = 7007) -> Iterator["Session"]:
        with self.container.running("python3", "-c", CLIENT, str(port)) as process:
            yield Session(process)

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Have clients come all the time; each of them must be served."""
        with self.container.running("python3", "-c", LOAD) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "under way\n"
            yield
            _out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err


class Session:
    """A client that stays."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def says(self, line: str) -> str:
        """Send a line, and return the one that comes back; "end" if the session has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture
def service(container: Container) -> Iterator[Service]:
    service = Service(container)
    container.write("/etc/systemd/system/ucspid.service", UNIT)
    container.run("systemctl", "daemon-reload")
    service.configure({"echo": ECHO})
    try:
        yield service
    finally:
        container.attempt("systemctl", "kill", "--signal=SIGKILL", "ucspid")
        container.attempt("systemctl", "stop", "ucspid")
        container.attempt(
            "sh", "-c", "rm -rf /etc/systemd/system/ucspid.service.d /etc/systemd/system/ucspid.*"
        )
        container.run("systemctl", "daemon-reload")
        container.attempt("systemctl", "reset-failed", "ucspid")


@pytest.fixture
def started(service: Service) -> Service:
    service.systemctl("start")
    return service


def drop_in(service: Service, text: str) -> None:
    service.container.write("/etc/systemd/system/ucspid.service.d/test.conf", text)
    service.container.run("systemctl", "daemon-reload")


def test_the_unit_is_right(service: Service) -> None:
    path = "/etc/systemd/system/ucspid.service"
    done = service.container.attempt("systemd-analyze", "verify", "--man=no", path)
    assert [line for line in done.stderr.splitlines() if "ucspid" in line] == []
    assert done.returncode == 0


def test_how_exposed_it_is(service: Service) -> None:
    said = service.container.run("systemd-analyze", "security", "ucspid", "--no-pager")
    found = re.search(r"exposure level for ucspid.service: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= 4.3, said.splitlines()[-1]


TIGHTER = """[Service]
NoNewPrivileges=yes
ProtectHome=yes
PrivateTmp=yes
ProtectSystem=strict
MemoryDenyWriteExecute=yes
RestrictSUIDSGID=yes
ProtectProc=invisible
SystemCallFilter=
SystemCallFilter=@system-service chroot
SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
RestrictAddressFamilies=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
CapabilityBoundingSet=
CapabilityBoundingSet=CAP_CHOWN CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT
CapabilityBoundingSet=CAP_SYS_RESOURCE
"""
"""What docs/systemd.md says that may be set, all at once."""


def test_the_daemon_itself_needs_no_more_than_the_document_says(service: Service) -> None:
    drop_in(service, TIGHTER)
    service.configure({"echo": {**ECHO, "user": "daemon", "chroot": "/", "nice": 5}})
    service.systemctl("start")
    with service.session() as session:
        assert session.says("x") == "x"
        service.systemctl("reload")
        assert "1 service" in service.show("StatusText")


def test_a_service_may_have_what_needs_root(service: Service) -> None:
    own = {"user": "daemon", "chroot": "/", "nice": -5, "rlimits": {"core": "infinity"}}
    service.configure({"echo": {**ECHO, **own}})
    service.systemctl("start")
    with service.session() as session:
        assert session.says("x") == "x"


def test_privileges_of_setuid_programs_are_not_taken_away(started: Service) -> None:
    for title in ("master", "launcher"):
        status = started.container.run("cat", f"/proc/{started.pid(title)}/status")
        assert "\nNoNewPrivs:\t0\n" in status


def test_the_state_says_how_it_is(started: Service) -> None:
    drop_in(started, "[Service]\nWatchdogSec=16s\n")
    started.configure({"echo": ECHO, "full": {**ECHO, "listen": "127.0.0.1:7008", "max_connections": 1}})
    started.systemctl("restart")
    with started.session(7008) as session:
        assert session.says("x") == "x"
        with started.session(7008):
            started.wait("StatusText", r"^2 services, 1 connection; in trouble: full \(full\)$")
    started.wait("StatusText", r"^2 services, 0 connections$")


def test_a_refused_reload_fails_and_says_why(started: Service) -> None:
    started.container.write(CONFIG, "services: 7\n")
    done = started.container.attempt("systemctl", "reload", "ucspid")
    assert done.returncode != 0
    assert "reload failed: " in started.wait("StatusText", "reload failed")
    assert started.show("ActiveState") == "active"
    with started.session() as session:
        assert session.says("still here") == "still here"
    started.configure({"echo": ECHO})
    started.systemctl("reload")
    assert started.wait("StatusText", "^1 service")


def test_a_reload_by_signal_is_waited_for(started: Service) -> None:
    """Type=notify-reload: systemd sends SIGHUP, and waits for RELOADING=1, MONOTONIC_USEC= and READY=1."""
    version = int(started.container.run("systemctl", "--version").split()[1])
    if version < 253:
        pytest.skip("Type=notify-reload came with systemd 253")
    drop_in(started, "[Service]\nType=notify-reload\nExecReload=\n")
    started.systemctl("restart")
    started.configure({"echo": ECHO, "more": {**ECHO, "listen": "127.0.0.1:7008"}})
    started.systemctl("reload")
    with started.session(7008) as session:
        assert session.says("x") == "x"
    assert started.show("ActiveState") == "active"


def test_an_event_loop_that_is_stopped_is_replaced(started: Service) -> None:
    drop_in(started, "[Service]\nWatchdogSec=16s\n")
    started.systemctl("restart")
    master, loop = started.pid("master"), started.pid("loop")
    with started.session() as session:
        assert session.says("before") == "before"
        started.send(loop, "STOP")
        started.container.until("another loop", lambda: started.pid("loop") not in (0, loop))
        started.journal("it has not turned")
        assert session.says("after") == "after"
        started.wait("StatusText", r"^1 service, 1 connection$")
    assert started.pid("master") == master
    assert started.show("NRestarts") == "0"


def test_a_master_that_is_stopped_is_replaced_and_its_sessions_go_on(started: Service) -> None:
    drop_in(started, "[Service]\nWatchdogSec=16s\n")
    started.systemctl("restart")
    master = started.pid("master")
    with started.session() as session:
        assert session.says("before") == "before"
        started.send(master, "STOP")
        started.wait("NRestarts", "^1$")
        started.wait("ActiveState", "^active$")
        assert session.says("after") == "after"
        with started.session() as another:
            assert another.says("x") == "x"


def test_nobody_is_refused_while_it_is_killed_and_started_again(started: Service) -> None:
    with started.load():
        for number in range(3):
            started.send(int(started.show("MainPID")), "KILL")
            started.wait("NRestarts", f"^{number + 1}$")
            started.wait("ActiveState", "^active$")


def test_nobody_is_refused_by_a_restart(started: Service) -> None:
    with started.session() as session, started.load():
        assert session.says("stays") == "stays"
        started.systemctl("restart")
        assert session.says("is ended") == "end"


def test_sessions_of_a_killed_master_are_ended_by_a_stop(started: Service) -> None:
    with started.session() as session:
        assert session.says("before") == "before"
        started.send(int(started.show("MainPID")), "KILL")
        started.wait("NRestarts", "^1$")
        started.wait("ActiveState", "^active$")
        started.journal("earlier_processes")
        assert session.says("after") == "after"
        started.systemctl("stop")
        assert session.says("at the end") == "end"
    assert started.pid("") == 0
    assert started.show("Result") == "success"


def test_a_stop_may_take_longer_than_the_manager_would_wait(started: Service) -> None:
    drop_in(started, "[Service]\nTimeoutStopSec=2s\n")
    started.configure({"echo": {**ECHO, "drain_timeout": "6s"}})
    started.systemctl("restart")
    with started.session() as session:
        assert session.says("x") == "x"
        started.container.run("systemctl", "stop", "--no-block", "ucspid")
        started.wait("StatusText", "^stopping, 1 connection$")
        started.wait("ActiveState", "^inactive$")
    assert started.show("Result") == "success"


def test_what_is_not_there_yet_is_tried_until_it_is(service: Service) -> None:
    drop_in(service, "[Service]\nRestartSec=100ms\n")
    service.configure({"echo": {**ECHO, "listen": "192.0.2.7:7007"}})
    service.container.run("systemctl", "start", "--no-block", "ucspid")
    service.wait("NRestarts", "^([7-9]|[0-9]{2,})$")
    service.container.run("ip", "address", "add", "192.0.2.7/32", "dev", "lo")
    service.wait("ActiveState", "^active$")
    service.container.run("ip", "address", "del", "192.0.2.7/32", "dev", "lo")


def test_a_file_that_is_wrong_is_not_tried_again(service: Service) -> None:
    service.container.write(CONFIG, "services: 7\n")
    service.container.attempt("systemctl", "start", "ucspid")
    service.wait("ActiveState", "^failed$")
    assert service.show("ExecMainStatus") == "100"
    assert service.show("NRestarts") == "0"


SHOW = ("journalctl", "-u", "ucspid", "--quiet")


def test_events_are_entries_of_the_journal(started: Service) -> None:
    container = started.container
    with started.session() as session:
        assert session.says("x") == "x"
        relay = started.wait_for_pid("journal")
    container.write(CONFIG, "services: 7\n")
    container.attempt("systemctl", "reload", "ucspid")
    mine = (*SHOW, f"_PID={relay}", "--output=cat")
    container.wait("an error", *mine, "--priority=err", until="reload_failed")
    assert "connection_served" not in container.run(*mine, "--priority=warning")
    assert "connection_served service=echo" in container.run(*mine, "UCSPID_SERVICE=echo")
    fields = container.run(*SHOW, f"_PID={relay}", "--output=json", "UCSPID_EVENT=connection_served")
    assert re.search(r'"UCSPID_CONN" ?: ?"[0-9a-f]+"', fields)


def test_without_its_relay_the_loop_writes_lines(started: Service) -> None:
    relay = started.wait_for_pid("journal")
    status = started.container.run("cat", f"/proc/{relay}/status")
    assert "\nSeccomp:\t2\n" in status
    assert "\nUid:\t0\t" not in status
    started.send(relay, "KILL")
    started.container.until("the end of the relay", lambda: started.pid("journal") == 0)
    with started.session() as session:
        assert session.says("x") == "x"
    mine = (*SHOW, "--output=cat", "--priority=info", "_TRANSPORT=stdout")
    started.container.wait("a line", *mine, until="connection_served service=echo")


def test_a_start_that_fails_is_an_error_in_the_journal(service: Service) -> None:
    service.container.write(CONFIG, "services: 7\n")
    service.container.attempt("systemctl", "start", "ucspid")
    show = (*SHOW, "--output=cat", "--priority=err")
    service.container.wait("the mistake", *show, until="ucspid.yaml")
    assert "<3>" not in service.container.run(*show)


def test_a_socket_unit_gives_a_service_its_port_by_name(service: Service) -> None:
    socket = "[Socket]\nListenStream=127.0.0.1:7009\nFileDescriptorName=named\nService=ucspid.service\n"
    service.container.write("/etc/systemd/system/ucspid.socket", socket)
    service.container.run("systemctl", "daemon-reload")
    service.configure({"echo": ECHO, "named": {**ECHO, "listen": "127.0.0.1:0"}})
    service.container.run("systemctl", "start", "ucspid.socket")
    try:
        with service.session(7009) as session:
            assert session.says("x") == "x"
        assert service.show("ActiveState") == "active"
    finally:
        service.container.run("systemctl", "stop", "ucspid.socket")
