"""Which launcher the file gets: the native one only where it works."""

import os
from pathlib import Path

import pytest

from ucspid.config.launchers import launcher_kind
from ucspid.config.problems import Problems
from ucspid.ipc.messages import VERSION
from ucspid.launcher import usable


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the native launcher: nothing is there yet."""
    path = tmp_path / "ucspid-launcher"
    monkeypatch.setattr(usable, "NATIVE", str(path))
    return path


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def kinds() -> tuple[str, str, list[str]]:
    """Return what auto and native become, and the mistakes that are found."""
    problems = Problems()
    assert launcher_kind("python", problems) == "python"
    auto = launcher_kind("auto", problems)
    assert not problems.lines("f.yaml")
    return auto, launcher_kind("native", problems), problems.lines("f.yaml")


def test_one_that_speaks_the_same_protocol_is_taken(native: Path) -> None:
    write(native, f'test "$1" = --protocol && echo {VERSION}')
    assert kinds() == ("native", "native", [])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "it was not built"),
        (f"echo {VERSION + 1}", "is of another version"),
        ("exit 3", "does not run here: exit status 3"),
        ("kill -11 $$", "does not run here: signal SIGSEGV"),
    ],
)
def test_one_that_does_not_work_is_a_mistake_only_where_it_is_asked_for(
    native: Path, script: str | None, reason: str
) -> None:
    if script is not None:
        write(native, script)
    auto, asked_for, (line,) = kinds()
    assert (auto, asked_for) == ("python", "python")
    assert "the native launcher cannot be used" in line
    assert reason in line


def test_one_that_may_not_be_executed_is_not_taken(native: Path) -> None:
    native.write_bytes(b"\x7fELF of another machine")
    os.chmod(native, 0o755)
    assert kinds()[:2] == ("python", "python")
