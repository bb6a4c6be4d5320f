"""The UCSPI contract: what a program gets from the daemon, however the daemon was started."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import contract
import peers
import ucspid
from daemon import Daemon, receive_all, running
from folders import NOBODY, public_folder
from ucspid.config.environment import DEFAULT_PATH

LIMITS = Path("/proc/self/limits").read_text()
"""Of these tests, and hence those that a daemon is started with."""

NOFILE_LINE = "Max open files            {:<20} {:<20} files     \n"


def under(*command: str, **conditions: Any) -> list[str]:
    """Return what starts a command, or else the daemon, under conditions: see programs/under.py."""
    script = str(contract.PROGRAMS / "under.py")
    daemon = (sys.executable, "-m", "ucspid")
    return [sys.executable, script, json.dumps(conditions), *(command or daemon)]


def hard_limit() -> int:
    return int(next(line.split()[4] for line in LIMITS.splitlines() if line.startswith("Max open files")))


def limits_with(soft: int, hard: int) -> str:
    lines = LIMITS.splitlines(keepends=True)
    return "".join(
        NOFILE_LINE.format(soft, hard) if line.startswith("Max open files") else line for line in lines
    )


# What the tests of this module share: a daemon that was started as a shell starts it


@pytest.fixture(scope="module")
def daemon(each_launcher: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    env = {
        **os.environ,
        "PROTO": "UNIX",
        "TCPREMOTEHOST": "left.by.another.server",
        "TCPREMOTEINFO": "left",
        "NOT_INHERITED": "x",
        "INHERITED": os.fsdecode(b"\xff=\xe9 \n"),
        "OVERRIDDEN": "by the file",
    }
    own = {"EMPTY": "", "QUOTED": " a \"b\" 'c' $d = \té ", "OVERRIDDEN": "yes", "TCPREMOTEIP": "192.0.2.1"}
    inherit = ["INHERITED", "OVERRIDDEN", "NOT_THERE"]
    services = {
        **contract.services(),
        "dual": {"listen": 0, "program": contract.REPORT},
        "any4": {"listen": "0.0.0.0:0", "program": contract.REPORT},
        "env": {"listen": "127.0.0.1:0", "program": contract.REPORT, "env": own, "inherit_env": inherit},
        "held": {"listen": "127.0.0.1:0", "program": ["cat"], "max_connections": 60},
    }
    if socket.has_dualstack_ipv6():
        services["six"] = {"listen": "[::1]:0", "program": contract.REPORT}
    with running(
        tmp_path_factory.mktemp("contract"), {"launcher": each_launcher, "services": services}, env=env
    ) as started:
        yield started


def test_a_program_gets_what_the_contract_says_and_nothing_else(daemon: Daemon) -> None:
    contract.check(daemon, limits=LIMITS)


def test_no_program_gets_the_sockets_of_the_others(daemon: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(daemon.connect("held")) for _ in range(50)]
        for sock in held:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        contract.check(daemon, limits=LIMITS)
        for sock in held:
            sock.shutdown(socket.SHUT_WR)
            assert receive_all(sock) == b""


@pytest.mark.parametrize("service", ["dual", "any4"])
def test_on_a_wildcard_an_ipv4_client_gets_plain_ipv4_addresses(daemon: Daemon, service: str) -> None:
    port = daemon.address(service)[1]
    with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as sock:
        expected = contract.variables(sock) | {f"PATH={DEFAULT_PATH}".encode()}
        assert contract.entries(contract.report(sock)) == expected
    assert b"TCPREMOTEIP=127.0.0.2" in expected


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
@pytest.mark.parametrize("service", ["dual", "six"])
def test_an_ipv6_client_gets_proto_tcp_and_ipv6_addresses(daemon: Daemon, service: str) -> None:
    with socket.create_connection(("::1", daemon.address(service)[1])) as sock:
        expected = contract.variables(sock) | {f"PATH={DEFAULT_PATH}".encode()}
        assert contract.entries(contract.report(sock)) == expected
    assert {b"PROTO=TCP", b"TCPREMOTEIP=::1", b"TCPLOCALIP=::1"} <= expected


def test_the_environment_is_what_the_file_gives_byte_for_byte(daemon: Daemon) -> None:
    with daemon.connect("env") as sock:
        expected = contract.variables(sock) | {
            f"PATH={DEFAULT_PATH}".encode(),
            b"EMPTY=",
            "QUOTED= a \"b\" 'c' $d = \té ".encode(),
            b"OVERRIDDEN=yes",
            b"INHERITED=\xff=\xe9 \n",
        }
        assert contract.entries(contract.report(sock)) == expected


def test_a_program_knows_its_connection_by_the_number_that_the_log_has(daemon: Daemon) -> None:
    with daemon.connect("log") as sock:
        environ = contract.report(sock)["environ"].split("\0")
    (number,) = (entry.partition("=")[2] for entry in environ if entry.startswith("UCSPID_CONN_ID="))
    assert daemon.wait_event("connection_served", conn=number)["service"] == "log"


# Ways of starting


@pytest.mark.parametrize(
    ("conditions", "settings"),
    [
        pytest.param({"open": [*range(3, 7), *range(60, 70), 250]}, {}, id="descriptors_left_open"),
        pytest.param({"open": [10, 900], "nofile": 256}, {}, id="descriptors_above_the_limit"),
        pytest.param(
            {
                "ignore": ["SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGCHLD", "SIGTERM", "SIGUSR1"],
                "block": ["SIGHUP", "SIGTERM", "SIGPIPE", "SIGCHLD", "SIGUSR2", "SIGRTMIN"],
            },
            {},
            id="signals_ignored_and_blocked",
        ),
        pytest.param({}, {"umask": 0o077, "cwd": "/proc"}, id="umask_and_directory"),
    ],
)
def test_what_the_daemon_inherits_does_not_reach_programs(
    tmp_path: Path, conditions: dict[str, Any], settings: dict[str, Any]
) -> None:
    limits = limits_with(256, hard_limit()) if "nofile" in conditions else LIMITS
    with running(
        tmp_path, {"services": contract.services()}, command=under(**conditions), **settings
    ) as daemon:
        contract.check(daemon, limits=limits)


def test_a_daemon_without_standard_descriptors_serves(tmp_path: Path) -> None:
    services = contract.services()
    del services["inherit"]
    with running(tmp_path, {"services": services}, command=under(close=[0, 1, 2])) as daemon:
        for kind in services.keys() & contract.STDERR.keys():
            with daemon.connect(kind) as sock:
                contract.check_descriptors(contract.report(sock), stderr=contract.STDERR[kind])


def test_a_launcher_that_takes_over_gives_the_same(tmp_path: Path) -> None:
    with running(tmp_path, {"services": contract.services()}) as daemon:
        (launcher,) = daemon.processes("launcher")
        os.kill(launcher["pid"], signal.SIGKILL)
        daemon.wait_event("process_died", role="launcher", signal="SIGKILL")
        contract.check(daemon, limits=LIMITS)
        (successor,) = daemon.processes("launcher")
        assert successor["pid"] != launcher["pid"]


def test_an_event_loop_that_takes_over_gives_the_same(tmp_path: Path) -> None:
    with running(tmp_path, {"services": contract.services()}) as daemon:
        (loop,) = daemon.processes("loop")
        os.kill(loop["pid"], signal.SIGKILL)
        daemon.wait_event("process_died", role="loop", signal="SIGKILL")
        contract.check(daemon, limits=LIMITS)


# As an ordinary user


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def reachable_python(public: Path) -> str:
    """Return a Python for the daemon of an ordinary user: this, or the system's with the same packages."""
    if runs_for_nobody(sys.executable):
        return sys.executable
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    environment = public / "venv"
    if Path(system).exists():
        subprocess.run([system, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
        paths = {str(Path(ucspid.__path__[0]).parent), *map(sysconfig.get_path, ("purelib", "platlib"))}
        (packages,) = environment.glob("lib/python*/site-packages")
        (packages / "here.pth").write_text("\n".join(paths))
        if runs_for_nobody(str(environment / "bin" / "python")):
            return str(environment / "bin" / "python")
    pytest.skip(f"{sys.executable} and the packages beside it cannot be reached by an ordinary user")


def runs_for_nobody(python: str) -> bool:
    command = [python, "-I", "-c", "import ucspid.loop"]
    try:
        run = subprocess.run(
            command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False, timeout=60
        )
    except PermissionError:
        return False
    return run.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests of this module run it as an ordinary user")
def test_an_ordinary_users_daemon_gives_the_same(public: Path, reachable_python: str) -> None:
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
    command = [reachable_python, "-m", "ucspid"]
    with running(public, {"services": contract.services()}, command=command, **identity) as daemon:
        contract.check(daemon, limits=LIMITS)
        with daemon.connect("status") as sock:
            fields = contract.status(sock)
        assert {fields["Uid"], fields["Gid"]} == {"\t".join([str(NOBODY)] * 4)}
        assert fields["Groups"] == ""


# Limits of descriptors


def test_many_services_leave_programs_the_soft_limit_that_the_daemon_was_started_with(tmp_path: Path) -> None:
    shown = {"listen": "127.0.0.1:0", "program": ["cat", "/proc/self/limits"]}
    own = {"first": shown, "limited": {**shown, "rlimits": {"nofile": 128}}}
    config = {"services": {**own, **{f"s{number}": shown for number in range(300)}}}
    soft, hard = 256, hard_limit()
    with running(tmp_path, config, command=under(nofile=soft)) as daemon:
        assert daemon.talk("first").decode() == limits_with(soft, hard)
        assert daemon.talk("s299").decode() == limits_with(soft, hard)
        assert daemon.talk("limited").decode() == limits_with(128, 128)
        (launcher,) = (item["pid"] for item in daemon.processes("launcher") if "s299" in item["services"])
        for pid in (daemon.pid, daemon.processes("loop")[0]["pid"], launcher):
            assert Path(f"/proc/{pid}/limits").read_text() == limits_with(hard, hard)
        os.kill(launcher, signal.SIGKILL)
        assert daemon.talk("s298").decode() == limits_with(soft, hard)


def test_a_limit_of_descriptors_that_a_launcher_cannot_live_with_is_a_mistake_in_the_file(
    tmp_path: Path,
) -> None:
    service = {"listen": "127.0.0.1:0", "program": ["cat"], "rlimits": {"nofile": 64}}
    daemon = Daemon(tmp_path, {"services": {f"s{number}": service for number in range(33)}})
    assert daemon.start(ready=False).wait() == 100
    assert [line for line in daemon.stderr if "rlimits.nofile: must be at least 65" in line]


# Beside tcpserver


@contextlib.contextmanager
def tcpserver(program: list[str]) -> Iterator[int]:
    """Run a program under Debian's tcpserver, which hands on signals as it got them, and return its port."""
    command = under(peers.require("tcpserver"), "-1HRl0", "127.0.0.1", "0", *program)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": DEFAULT_PATH}) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def test_a_program_sees_of_its_connection_what_it_sees_under_tcpserver(daemon: Daemon) -> None:
    with tcpserver(contract.REPORT) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        seen_there, theirs = contract.variables(sock), contract.report(sock)
    with daemon.connect("log") as sock:
        seen_here, ours = contract.variables(sock), contract.report(sock)
    assert seen_there <= set(theirs["environ"].encode().split(b"\0"))
    assert seen_here <= contract.entries(ours)
    for reported in (theirs, ours):
        assert sorted(reported["descriptors"]) == ["0", "1", "2"]
        assert reported["descriptors"]["0"] == reported["descriptors"]["1"]
    assert [reported["descriptors"]["0"]["blocking"] for reported in (theirs, ours)] == [True, True]
    assert theirs["limits"] == ours["limits"]


def test_a_program_has_the_signals_that_it_has_under_tcpserver(daemon: Daemon) -> None:
    with tcpserver(contract.STATUS) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        theirs = contract.status(sock)
    with daemon.connect("status") as sock:
        ours = contract.status(sock)
    assert contract.signals(theirs) == contract.signals(ours)
