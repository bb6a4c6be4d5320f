import argparse
import errno
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ucspid
from controlled import listening, serving
from ucspid.cli import report
from ucspid.cli.arguments import DEFAULT_CONFIG
from ucspid.cli.main import main, parser
from ucspid.cli.socket_path import control_path
from ucspid.errors import ConfigError, ResourceError

UNIT = Path(__file__).parents[2] / "src/ucspid/cli/ucspid.service"

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "uptime": 273901.2,
    "generation": 4,
    "config": "/etc/ucspid/ucspid.yaml",
    "processes": [
        {"role": "master", "pid": 811, "user": "root", "running": 0, "draining": False},
        {"role": "loop", "pid": 812, "user": "ucspid", "running": 0, "draining": False},
        {
            "role": "launcher",
            "kind": "native",
            "pid": 813,
            "services": ["smtp", "qmtp"],
            "user": "qmaild",
            "running": 28,
            "draining": False,
        },
        {
            "role": "launcher",
            "kind": "python",
            "pid": 1402213,
            "services": ["pop3"],
            "user": "root",
            "running": 9,
            "draining": True,
        },
    ],
    "services": [
        {
            "name": "smtp",
            "state": "listening",
            "live": 28,
            "max_connections": 200,
            "planned_max_connections": None,
            "waiting": 0,
            "accepted": 1203451,
            "served": 1190000,
            "ended": {"ok": 1189000, "nonzero": 990, "signal": 10},
            "refused": {"rate": 1400, "max_per_ip": 12000},
            "failed": {"ENOENT": 23},
            "last_failures": [
                {
                    "kind": "signal",
                    "what": "signal SIGSEGV",
                    "remote": "192.0.2.7:40312",
                    "conn": "1a2b3c",
                    "time": "2026-01-31T12:00:00Z",
                    "ago": 41.5,
                },
                {
                    "kind": "failed",
                    "what": "Too many open files",
                    "remote": "[2001:db8::7]:40312",
                    "conn": "",
                    "time": "2026-01-31T11:00:00Z",
                    "ago": 3641.5,
                },
            ],
        },
        {
            "name": "pop3",
            "state": "full",
            "live": 9,
            "max_connections": 9,
            "planned_max_connections": 40,
            "waiting": 12,
            "accepted": 9000,
            "served": 8991,
            "ended": {"ok": 8991},
            "refused": {},
            "failed": {},
            "last_failures": [],
        },
    ],
    "listeners": [
        {"service": "smtp", "address": "*:25"},
        {"service": "smtp", "address": "192.0.2.17:2525"},
        {"service": "smtp", "address": "[2001:db8::17]:2525"},
        {"service": "pop3", "address": "*:110"},
    ],
    "rules_files": [
        {"path": "/etc/ucspid/pop3.cdb", "services": ["pop3"], "problem": None},
        {
            "path": "/etc/ucspid/smtp.rules",
            "services": ["smtp", "qmtp"],
            "problem": "/etc/ucspid/smtp.rules:3: no :allow or :deny: 'x:what'\nanother",
        },
    ],
    "certificates": [
        {"service": "smtp", "not_after": "2026-03-31T12:00:00+00:00", "left": 20 * 86400.0},
        {"service": "pop3", "not_after": "2026-02-10T12:00:00+00:00", "left": 10 * 86400.0},
        {"service": "qmtp", "not_after": "2026-01-31T11:00:00+00:00", "left": -3600.0},
    ],
    "denied": 3,
    "tails": 0,
    "totals": {
        "live": 37,
        "max_connections": 1000,
        "accepted": 1212451,
        "served": 1198991,
        "ended": {"ok": 1197991, "nonzero": 990, "signal": 10},
        "refused": {"rate": 1400, "max_per_ip": 12000},
        "failed": {"ENOENT": 23},
    },
}

REPORT = """\
ucspid 0.1.0, up 3d 4h, generation 4, /etc/ucspid/ucspid.yaml
37 of 1000 connections live; 1212451 accepted:
1198991 served, 13400 refused, 23 failed
networks denied: 3, see `ucspid denied`

SERVICE  STATE        LIVE  WAITING   SERVED  REFUSED  FAILED  LISTENS ON
smtp     listening  28/200        0  1190000    13400      23  *:25
                                                               192.0.2.17:2525
                                                               [2001:db8::17]:2525
pop3     full          9/9       12     8991        0       0  *:110

smtp: exited nonzero 990, died of a signal 10, refused 12000 max_per_ip, refused
  1400 rate, failed 23 ENOENT
  41s ago: signal SIGSEGV, client 192.0.2.7:40312, connection 1a2b3c
  1h 0m ago: Too many open files, client [2001:db8::7]:40312
pop3: at most 9 sessions by `ucspid limit`, the file says 40
smtp, qmtp: /etc/ucspid/smtp.rules is not in force as it is now:
  /etc/ucspid/smtp.rules:3: no :allow or :deny: 'x:what' (and 1 more)
pop3: a certificate ends in 10d 0h, 2026-02-10T12:00:00+00:00
qmtp: a certificate has expired 1h 0m ago, 2026-01-31T11:00:00+00:00

PROCESS                  PID  USER    RUNNING  SERVICES
master                   811  root          -  -
loop                     812  ucspid        -  -
launcher (native)        813  qmaild       28  smtp qmtp
launcher (draining)  1402213  root          9  pop3
"""


async def status(_args: dict[str, Any]) -> dict[str, Any]:
    return STATUS


def ucspid_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ucspid", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, **options)


def reloading(outcome: dict[str, Any] | Exception) -> Callable[[dict[str, Any]], Any]:
    async def reload(_args: dict[str, Any]) -> dict[str, Any]:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return reload


# status


def test_status_prints_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "control", {"status": status}):
        assert main(["status", "--control", str(tmp_path / "control")]) == 0
    assert capsys.readouterr().out == REPORT


def test_status_prints_json_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "control", {"status": status}):
        assert main(["status", "--json", "--control", str(tmp_path / "control")]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_status_prints_each_difference_of_the_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"differences": ["one", "two"], "sessions": 5, "launchers": 2, "processes": 9}

    async def verify(_args: dict[str, Any]) -> dict[str, Any]:
        return found

    with serving(tmp_path / "control", {"verify": verify}):
        assert main(["status", "--verify", "--control", str(tmp_path / "control")]) == 1
        assert capsys.readouterr().out == "one\ntwo\n"
        assert main(["status", "--verify", "--json", "--control", str(tmp_path / "control")]) == 1
        assert json.loads(capsys.readouterr().out) == found
        found["differences"] = []
        assert main(["status", "--verify", "--control", str(tmp_path / "control")]) == 0
        assert capsys.readouterr().out == "counts match: 5 sessions, 2 launchers, 9 processes\n"


def test_status_of_many_services_stays_within_80_columns() -> None:
    many = dict(STATUS)
    names = [f"service-{number}" for number in range(60)]
    many["services"] = [
        {**STATUS["services"][0], "name": name, "refused": {f"reason_{n}": 10**6 for n in range(9)}}
        for name in names
    ]
    many["listeners"] = [
        {"service": name, "address": f"*:{port}"} for name in names for port in range(2000, 2020)
    ]
    many["processes"] = [{**STATUS["processes"][2], "services": names}]
    text = report.report(many)
    assert max(map(len, text.splitlines())) <= report.WIDTH
    assert all(f"{name} " in text for name in names)


def test_status_of_some_services(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--control", str(tmp_path / "control")]
    calm = {**STATUS["services"][1], "name": "calm", "state": "listening", "waiting": 0}
    failing = {**STATUS["services"][0], "name": "failing"}
    old = {**failing, "name": "old", "last_failures": [{**failing["last_failures"][1]}]}
    answer = {**STATUS, "services": [*STATUS["services"], calm, failing, old]}

    async def several(_args: dict[str, Any]) -> dict[str, Any]:
        return answer

    def shown(*options: str, code: int = 0) -> list[str]:
        assert main(["status", "--json", *options, *where]) == code
        found = json.loads(capsys.readouterr().out)
        assert "processes" not in found
        return [service["name"] for service in found["services"]]

    with serving(tmp_path / "control", {"status": several}):
        assert shown("--service", "calm", "--service", "old") == ["calm", "old"]
        assert shown("--troubled", code=1) == ["smtp", "pop3", "failing"]
        assert shown("--troubled", "--service", "pop3", code=1) == ["pop3"]
        assert shown("--troubled", "--service", "calm") == []
        assert main(["status", "--troubled", "--service", "calm", *where]) == 0
        assert capsys.readouterr().out == "no service is in trouble\n"
        assert main(["status", "--service", "pop3", *where]) == 0
        text = capsys.readouterr().out
        assert "pop3     full" in text
        assert "smtp     listening" not in text
        assert "PROCESS" not in text
        assert main(["status", "--service", "imap", *where]) == 100
        assert "there is no service 'imap': calm, failing, old, pop3, smtp" in capsys.readouterr().err


def test_status_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def other(_args: dict[str, Any]) -> dict[str, Any]:
        return {"totals": {}}

    with serving(tmp_path / "control", {"status": other}):
        assert main(["status", "--control", str(tmp_path / "control")]) == 100
    assert "--json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (3600, "1h 0m"),
        (86399, "23h 59m"),
        (90000, "1d 1h"),
    ],
)
def test_duration_shows_two_units(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_status_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--control", str(tmp_path / "control")]) == 111
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"ucspid: no daemon answers at {tmp_path / 'control'}: No such file or directory\n"


# reload


@pytest.mark.parametrize(
    ("changes", "text"),
    [([], "nothing changed\n"), (["smtp: added", "pop3: removed"], "smtp: added\npop3: removed\n")],
)
def test_reload_prints_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], text: str
) -> None:
    with serving(tmp_path / "control", {"reload": reloading({"changes": changes})}):
        assert main(["reload", "--control", str(tmp_path / "control")]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            ConfigError(["u.yaml:1:1: wrong", "u.yaml:9:1: wrong"]),
            100,
            "u.yaml:1:1: wrong\nu.yaml:9:1: wrong\n",
        ),
        (ResourceError("127.0.0.1:25 is taken"), 111, "ucspid: 127.0.0.1:25 is taken\n"),
        (ZeroDivisionError("a bug"), 111, "ucspid: internal error: see the daemon's log\n"),
    ],
)
def test_reload_says_why_nothing_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int, text: str
) -> None:
    with serving(tmp_path / "control", {"reload": reloading(error)}):
        assert main(["reload", "--control", str(tmp_path / "control")]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", text)


@pytest.fixture
def two_files(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two files that name the same control socket, where the daemon of the first answers."""
    own, other = tmp_path / "own.yaml", tmp_path / "other.yaml"
    for file in (own, other):
        file.write_text("control: control\n")

    async def runs_own(_args: dict[str, Any]) -> dict[str, Any]:
        return {"config": str(own)}

    with serving(tmp_path / "control", {"status": runs_own, "reload": reloading({"changes": []})}):
        yield own, other


@pytest.mark.parametrize("verb", ["reload", "upgrade"])
def test_a_daemon_that_runs_another_file_is_not_taken_for_this_ones(
    two_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    own, other = two_files
    assert main([verb, "-c", str(other)]) == 100
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"{other}: the daemon at {own.parent / 'control'} runs another file, {own}: nothing was done; "
        f"use -c {own}\n"
    )


def test_the_same_file_by_another_path_is_the_daemons(
    two_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = two_files
    other.unlink()
    other.symlink_to(own)
    assert main(["reload", "-c", str(other)]) == 0
    monkeypatch.chdir(own.parent)
    assert main(["reload", "-c", "own.yaml"]) == 0
    assert main(["reload", "--control", "control"]) == 0
    assert capsys.readouterr().out == "nothing changed\n" * 3


@pytest.mark.parametrize("verb", ["status", "reload", "upgrade"])
def test_a_user_who_may_not_reads_who_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def refuse(_sock: socket.socket, _path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "connect", refuse)
    path = tmp_path / "control"
    assert main([verb, "--control", str(path)]) == 100
    assert capsys.readouterr().err == (
        f"ucspid: {path}: only root or the user who started it may control this daemon\n"
    )
    path.touch()
    assert main([verb, "--control", str(path)]) == 100
    name = "root" if os.geteuid() == 0 else f"root or {pwd.getpwuid(os.geteuid()).pw_name}"
    assert capsys.readouterr().err == f"ucspid: {path}: only {name} may control this daemon\n"


# Where the control socket is


@pytest.mark.parametrize(
    "text",
    [
        "control: run/control",
        "services: {}\n'control': run/control # here\n",
        "{control: run/control}",
        "services:\n  - ]broken\n bad: [\ncontrol: 'run/control'\n\tmore",
        "control:   run/control\nservices: {a: [}\n",
        "user: caf\udce9\ncontrol: run/control\n",
    ],
)
def test_control_path_is_read_from_the_file_however_broken(tmp_path: Path, text: str) -> None:
    file = tmp_path / "u.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert (
        control_path(argparse.Namespace(control=None, pid=None, config=str(file))) == tmp_path / "run/control"
    )


def test_absolute_control_path_stays(tmp_path: Path) -> None:
    file = tmp_path / "u.yaml"
    file.write_text("control: /run/ucspid/control\n")
    assert control_path(argparse.Namespace(control=None, pid=None, config=str(file))) == Path(
        "/run/ucspid/control"
    )


@pytest.mark.parametrize(
    "text", ["", "services: {}", "control: [", "control: [x]", "control:", 'control: "a\\0b"', "- control: x"]
)
def test_file_without_a_control_path_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "u.yaml"
    file.write_text(text)
    assert main(["status", "-c", str(file)]) == 100
    assert "--control" in capsys.readouterr().err


def test_status_finds_the_daemon_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "u.yaml"
    file.write_text("control: control\n")
    with serving(tmp_path / "control", {"status": status}):
        assert main(["status", "-c", str(file)]) == 0
    assert capsys.readouterr().out == REPORT


# Usage and exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explode"],
        ["status", "--colour"],
        ["status", "-c", "x", "--control", "y"],
        ["run", "--ready-fd", "three"],
        ["run", "--ready-fd", "987654"],
        ["run", "--ready-fd", "-1"],
        ["run", "--ready-fd", "9" * 30],
        ["version", "more"],
    ],
)
def test_wrong_usage_exits_100(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 100
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ucspid")


def test_help_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "reload" in capsys.readouterr().out


def test_defaults() -> None:
    options = parser().parse_args(["run"])
    assert (options.config, options.ready_fd) == (DEFAULT_CONFIG, None)


@pytest.mark.parametrize("words", [["status"], ["check"], ["explain", "smtp", "192.0.2.7"]])
def test_without_c_a_missing_file_is_said_with_what_to_do(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "none")
    for module in ("arguments", "main"):
        monkeypatch.setattr(f"ucspid.cli.{module}.DEFAULT_CONFIG", file)
    assert main(words) == 100
    assert capsys.readouterr().err.splitlines() == [
        f"{file}: No such file or directory",
        "ucspid: name the daemon's file with -c FILE",
    ]


@pytest.mark.parametrize("verb", ["check", "status", "reload"])
def test_missing_file_is_said_without_a_traceback(tmp_path: Path, verb: str) -> None:
    ended = ucspid_command(verb, "-c", str(tmp_path / "none"))
    assert ended.returncode == 100
    assert ended.stderr == f"{tmp_path / 'none'}: No such file or directory\n"


def test_silent_daemon_is_said_without_a_traceback(tmp_path: Path) -> None:
    with listening(tmp_path / "control") as sock:
        sock.shutdown(2)
        ended = ucspid_command("reload", "--control", str(tmp_path / "control"))
    assert ended.returncode == 111
    assert len(ended.stderr.splitlines()) == 1


def test_version_is_printed() -> None:
    ended = ucspid_command("version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"ucspid {ucspid.__version__}\n", "")


def test_the_option_prints_the_version_too() -> None:
    ended = ucspid_command("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"ucspid {ucspid.__version__}\n", "")


def test_reader_who_left_is_no_cause_for_noise() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as output:
        ended = subprocess.run(
            [sys.executable, "-m", "ucspid", "version"],
            check=False,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=30,
        )
    assert (ended.returncode, ended.stderr) == (111, b"")


def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as output:
        ended = subprocess.run(
            [sys.executable, "-m", "ucspid", "version"],
            check=False,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=30,
        )
    assert (ended.returncode, ended.stderr) == (111, b"ucspid: No space left on device\n")


@pytest.mark.parametrize("module", ["ucspid.cli.version", "ucspid.master.main"])
def test_what_the_master_imports_stays_small(module: str) -> None:
    program = (
        "import sys, importlib, ucspid.cli.main; ucspid.cli.main.parser();"
        f"importlib.import_module({module!r}); print(*sys.modules, sep='\\n')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30
    )
    imported = set(ended.stdout.split())
    assert "ucspid.cli.main" in imported
    assert not imported & {"yaml", "msgspec", "structlog", "uvloop", "asyncio", "socketserver"}
    assert not imported & {"hashlib", "hmac", "ssl", "datetime", "inspect", "logging", "traceback"}


# check and schema


def test_check_of_a_wrong_file_exits_100_with_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "u.yaml"
    file.write_text("sevices: {}\nlog: {level: loud}\n")
    ended = ucspid_command("check", "-c", str(file))
    assert ended.returncode == 100
    assert ended.stdout == ""
    assert f"{file}:1:1" in ended.stderr
    assert "loud" in ended.stderr


def test_check_of_a_right_file_exits_0(tmp_path: Path) -> None:
    file = tmp_path / "u.yaml"
    file.write_text("services: {one: {listen: ['127.0.0.1:0'], program: [/bin/true]}}\n")
    ended = ucspid_command("check", "-c", str(file))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{file}: ok, 1 service\n", "")


def test_schema_is_json() -> None:
    ended = ucspid_command("schema")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["$schema"].startswith("https://json-schema.org/")


# The unit of systemd


def unit_commands() -> list[list[str]]:
    return [command.split() for command in re.findall(r"^Exec\w+=(.*)$", UNIT.read_text(), re.MULTILINE)]


def test_the_unit_calls_verbs_that_exist() -> None:
    commands = [[word.replace("$MAINPID", "1") for word in command] for command in unit_commands()]
    verbs = [parser().parse_args(command[1:]).verb for command in commands]
    assert verbs == ["run", "reload"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_right(tmp_path: Path) -> None:
    # It wants the program to be there: any will do.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(unit_commands()[0][0], sys.executable))
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    about_it = [line for line in ended.stderr.splitlines() if UNIT.name in line]  # not the host's own units
    assert (ended.returncode, about_it) == (0, [])
