"""ucspid install and uninstall, with the root directory of another host."""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from ucspid.cli import host_items
from ucspid.cli.main import main
from ucspid.errors import EXIT_USAGE

UNIT = "etc/systemd/system/ucspid.service"
CONFIG = "etc/ucspid/ucspid.yaml"
SHARED = (
    *("man/man1/tcpclient.1", "man/man5/ucspid.yaml.5", "man/man8/ucspid.8"),
    *("bash-completion/completions/ucspid", "zsh/site-functions/_ucspid"),
    "fish/vendor_completions.d/ucspid.fish",
)
needs_users = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None, reason="takes root and useradd"
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without users but root, and an installation with man pages and completions."""
    share = tmp_path / "venv/share"
    for name in (*SHARED, "man/man1/other.1"):
        (share / name).parent.mkdir(parents=True, exist_ok=True)
        (share / name).write_text("")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


def test_the_package_has_all_that_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(__file__).parents[2]
    data = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    for folder, patterns in data.items():
        (tmp_path / folder).mkdir(parents=True)
        for path in (path for pattern in patterns for path in project.glob(pattern)):
            shutil.copy(path, tmp_path / folder)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    linked = {place for place, _ in host_items.shared_files()}
    assert {f"/usr/local/share/{name}" for name in SHARED} <= linked
    assert len(linked) == sum(path.is_file() for path in tmp_path.rglob("*"))


def files(host: Path) -> set[str]:
    """Return what is on the host, but for what belongs to useradd."""
    found = {
        str(path.relative_to(host)) for path in host.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    return {name for name in found if not name.startswith("etc/") or "systemd" in name or "ucspid" in name}


def run(verb: str, host: Path, *options: str) -> int:
    return main([verb, "--root", str(host), *options])


def test_it_shows_what_is_missing_and_changes_nothing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", host) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["missing   user ucspid", "missing   folder /etc/ucspid", f"missing   unit /{UNIT}"]
    assert "other.1" not in "".join(said)
    assert said[-1].startswith("Nothing was changed")
    assert files(host) == set()


@needs_users
def test_it_makes_what_is_missing_and_uninstall_removes_it(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("install", host, "--write") == 0
    assert files(host) == {
        *(UNIT, "usr/local/bin/ucspid"),
        *(f"usr/local/share/{name}" for name in SHARED),
    }
    unit = (host / UNIT).read_text()
    assert f"ExecStart={Path(sys.executable).parent}/ucspid run" in unit
    assert "/opt/ucspid" not in unit
    assert "\nucspid:" in (host / "etc/passwd").read_text()
    assert (host / "etc/ucspid").stat().st_mode & 0o777 == 0o755
    capsys.readouterr()
    assert run("install", host, "--write") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]} == {"is"}
    (host / CONFIG).write_text("services: {}\n")
    assert run("uninstall", host) == 0
    assert "to remove user ucspid" in capsys.readouterr().out
    assert run("uninstall", host, "--write") == 0
    assert "kept      folder /etc/ucspid: it is not empty\n" in capsys.readouterr().out
    assert files(host) == {CONFIG}
    assert "ucspid" not in (host / "etc/passwd").read_text() + (host / "etc/group").read_text()


@needs_users
def test_a_unit_that_install_has_made_is_replaced(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / UNIT).parent.mkdir(parents=True)
    (host / UNIT).write_text(f"{host_items.MADE}[Unit]\n")
    assert run("install", host, "--write") == 0
    assert f"made      unit /{UNIT}" in capsys.readouterr().out
    assert "[Service]" in (host / UNIT).read_text()


@pytest.mark.parametrize("place", [UNIT, "usr/local/bin/ucspid", "usr/local/share/man/man1/tcpclient.1"])
def test_what_somebody_else_has_made_is_kept(
    host: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (host / place).parent.mkdir(parents=True)
    (host / place).write_text("mine")
    assert run("install", host, "--write") == EXIT_USAGE
    assert "something else is there; nothing was made" in capsys.readouterr().err
    assert files(host) == {place}
    assert run("uninstall", host, "--write") == 0
    assert (host / place).read_text() == "mine"


def test_a_path_that_a_unit_cannot_name(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my mail/bin/python")
    assert run("install", host) == EXIT_USAGE
    assert "/opt/my mail/bin/ucspid: a unit cannot name" in capsys.readouterr().err
