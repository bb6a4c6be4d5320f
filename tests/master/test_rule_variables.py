"""New variables of a rules file: launchers allow them before the loop hears of it, and no YAML is read."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masters import MasterRig, mastering
from plans import plan, service
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE
from ucspid.ipc import messages as wire
from ucspid.master import rule_variables
from ucspid.plan import RulesFile, Service

FILE = RulesFile(path="/etc/smtp.rules", kind="text")


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[MasterRig]:
    monkeypatch.setattr(rule_variables, "PAUSE", 0.0)
    with mastering(monkeypatch) as rig:
        yield rig


def serve(rig: MasterRig, *services: Service) -> None:
    rig.begin()
    rig.read(plan(*services))
    rig.take()
    rig.loop.orders()


def with_rules(name: str, *names: str, file: RulesFile = FILE) -> Service:
    return service(name, rules=file, rule_env=names)


def ask(rig: MasterRig, name: str = "a") -> None:
    """Have the loop say that the rules file of a service sets new variables."""
    rig.loop.note(wire.NOTE_VARIABLES, rig.master.parts.held.number(name))
    rig.work()


def find(rig: MasterRig, *names: str, status: int = 0, errors: bytes = b"") -> list[dict[str, Any]]:
    """Have the reader of rules that was started last find names and end; return what the loop is sent."""
    rig.rules_readers[-1].write(b"" if status else json.dumps(names).encode(), errors)
    rig.end(rig.rules_readers[-1], status)
    return [order for order in rig.loop.orders() if order["do"] == "allow_variables"]


def allowed(rig: MasterRig, name: str) -> tuple[str, ...]:
    """Return what the plan in force allows the rules of a service."""
    services = rig.master.parts.held.plan.services
    return next(item.rule_env for item in services if item.name == name)


def test_new_variables_are_allowed_without_reading_the_configuration_file(rig: MasterRig) -> None:
    serve(rig, with_rules("a", "OLD"), with_rules("b", "OLD", "OWN"), service("c"))
    readers, generation = len(rig.readers), rig.generation
    ask(rig)
    (order,) = find(rig, "NEW", "OLD")
    assert (order["path"], order["kind"], set(order["names"])) == (FILE.path, "text", {"NEW", "OLD"})
    assert [allowed(rig, name) for name in "abc"] == [("NEW", "OLD"), ("NEW", "OLD", "OWN"), ()]
    assert (len(rig.readers), rig.generation) == (readers, generation)
    assert rig.master.changeover.preparation is None


def test_launchers_know_of_new_variables_before_the_loop(
    rig: MasterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(rig, with_rules("a"))
    ((profile, _launcher),) = rig.master.reaper.launchers()
    sent: list[str] = []
    set_programs, send = profile.set_programs, rig.master.parts.loop.send

    def tell_launcher(*arguments: Any) -> None:
        sent.append("launcher")
        set_programs(*arguments)

    monkeypatch.setattr(profile, "set_programs", tell_launcher)

    def tell_loop(*arguments: Any, **fields: Any) -> None:
        sent.append(type(arguments[0]).__name__)
        send(*arguments, **fields)

    monkeypatch.setattr(rig.master.parts.loop, "send", tell_loop)
    ask(rig)
    find(rig, "NEW")
    assert sent == ["launcher", "AllowVariables"]


@pytest.mark.parametrize(
    ("status", "errors", "reason"),
    [
        (EXIT_USAGE << 8, b"/etc/smtp.rules:3: no :allow or :deny", "/etc/smtp.rules:3: no :allow or :deny"),
        (EXIT_SYSTEM << 8, b"/etc/smtp.rules: Permission denied", "/etc/smtp.rules: Permission denied"),
        (9, b"", "signal SIGKILL"),
    ],
)
def test_the_loop_hears_why_variables_are_not_allowed(
    rig: MasterRig, status: int, errors: bytes, reason: str
) -> None:
    serve(rig, with_rules("a", "OLD"))
    ask(rig)
    (order,) = find(rig, status=status, errors=errors)
    expected = {"path": FILE.path, "kind": "text", "unusable": "keep", "reason": reason}
    assert order == {"do": "allow_variables", **expected}
    assert allowed(rig, "a") == ("OLD",)
    ask(rig)
    assert find(rig, "OLD", "NEW")[0]["names"]


@pytest.mark.parametrize("said", [b"", b"{", b"{}", b"[1]", b"\xff"])
def test_what_makes_no_sense_is_no_name(rig: MasterRig, said: bytes) -> None:
    serve(rig, with_rules("a", "OLD"))
    ask(rig)
    rig.rules_readers[-1].write(said)
    rig.end(rig.rules_readers[-1])
    (order,) = [order for order in rig.loop.orders() if order["do"] == "allow_variables"]
    assert order["reason"].startswith("the reader of rules has not answered")
    assert allowed(rig, "a") == ("OLD",)


def test_names_that_a_launcher_cannot_be_sent_are_refused(rig: MasterRig) -> None:
    serve(rig, with_rules("a"))
    ask(rig)
    assert find(rig, *(f"A{number:0100}" for number in range(500)))[0]["names"]
    ask(rig)
    (order,) = find(rig, *(f"B{number:0100}" for number in range(500)))
    assert "at most 98304 are allowed" in order["reason"]
    assert len(allowed(rig, "a")) == 500


def test_a_file_that_hangs_is_given_up(rig: MasterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_variables, "TIMEOUT", 0.0)
    serve(rig, with_rules("a"))
    ask(rig)
    (order,) = [order for order in rig.loop.orders() if order["do"] == "allow_variables"]
    assert order["reason"] == "the file could not be read within 0 s"
    rig.rules_readers[-1].wait_killed()


def test_files_are_read_one_after_the_other_and_each_once_for_all_who_ask(rig: MasterRig) -> None:
    other = RulesFile(path="/etc/pop3.cdb", kind="cdb")
    serve(rig, with_rules("a"), with_rules("b", file=other))
    for _ in range(100):  # a loop that was taken over
        for name in "abx":
            ask(rig, name)
    assert len(rig.rules_readers) == 1
    find(rig, "NEW")
    assert len(rig.rules_readers) == 2
    (order,) = find(rig, "NEW")
    assert order["path"] == other.path
    assert len(rig.rules_readers) == 3  # who asked while a file was read may mean what came later
    find(rig, "NEW")
    assert len(rig.rules_readers) == 3


def test_readings_are_apart(rig: MasterRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_variables, "PAUSE", 1000.0)
    serve(rig, with_rules("a"))
    for _ in range(3):
        ask(rig)
    assert len(rig.rules_readers) == 1
    find(rig)
    assert len(rig.rules_readers) == 1


def test_a_service_without_such_a_file_is_nothing_to_read(rig: MasterRig) -> None:
    serve(rig, service("a"), with_rules("b"))
    for name in ("a", "unknown"):
        ask(rig, name)
    assert rig.rules_readers == []


def test_a_reload_does_not_wait_for_a_rules_file(rig: MasterRig) -> None:
    serve(rig, with_rules("a"))
    ask(rig)
    rig.master.signalled(1)
    rig.read(plan(with_rules("a", "PLANNED")))
    rig.take()
    rig.loop.orders()
    (order,) = find(rig, "NEW")
    assert set(order["names"]) == {"NEW", "PLANNED"}


def test_a_stop_does_not_wait_for_a_rules_file(rig: MasterRig) -> None:
    serve(rig, with_rules("a"))
    ask(rig)
    rig.master.signalled(15)
    rig.rules_readers[-1].wait_killed()
    ask(rig)
    assert len(rig.rules_readers) == 1


# The reader


def read(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-X", "utf8", "-m", "ucspid.config.rule_variables", *arguments]
    return subprocess.run(command, capture_output=True, timeout=30, check=False, **options)


def test_the_reader_prints_the_names_that_rules_set(tmp_path: Path) -> None:
    file = tmp_path / "rules"
    file.write_bytes(':a:deny\n1.2.3.4:allow,B="x",A="y"\n:allow,\xff="",ü=""\n'.encode("latin-1"))
    done = read(str(file), "text", "-", "-", "-")
    assert done.returncode == EXIT_USAGE
    file.write_bytes(b'1.2.3.4:allow,B="x",A="y"\n:allow,\xff=""\n')
    done = read(str(file), "text", "-", "-", "-")
    assert (done.returncode, json.loads(done.stdout)) == (0, ["A", "B", "\udcff"])


def test_the_reader_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "rules"
    done = read(str(file), "text", "-", "-", "-")
    assert (done.returncode, done.stderr) == (EXIT_SYSTEM, f"{file}: No such file or directory\n".encode())
    file.write_text("1.2.3.4:what\n")
    done = read(str(file), "text", "-", "-", "-")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, b"")
    assert done.stderr.startswith(f"{file}:1: ".encode())
    assert read().returncode == EXIT_USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_the_reader_has_the_rights_of_the_event_loop(tmp_path: Path) -> None:
    file = tmp_path / "rules"
    file.write_text(":allow\n")
    file.chmod(0o600)
    nobody = pwd.getpwnam("nobody")
    done = read(str(file), "text", str(nobody.pw_uid), str(nobody.pw_gid), "")
    assert (done.returncode, done.stdout) == (EXIT_SYSTEM, b"")
    assert b"Permission denied" in done.stderr
