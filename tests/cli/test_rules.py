import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ucspid.cli.main import main
from ucspid.rules.cdb import Cdb
from ucspid.rules.tcprules import compile_text

TEXT = b'192.0.2.:allow,RELAYCLIENT=""\n10.1-3.:deny\n2001:db8::/32:allow\n:allow,A="b"\n'
WRONG = b":allow\nnonsense:\n:allow,A\n"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "rules"
    path.write_bytes(TEXT)
    return path


def run(*arguments: str | Path) -> int:
    return main(["rules", *map(str, arguments)])


# compile


def test_compile_makes_the_file_and_leaves_nothing_else(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compile", text, tmp_path / "rules.cdb") == 0
    assert (tmp_path / "rules.cdb").read_bytes() == compile_text(TEXT, "rules")
    assert {path.name for path in tmp_path.iterdir()} == {"rules", "rules.cdb"}
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(shutil.which("tcprules") is None, reason="tcprules is not installed (Debian: ucspi-tcp)")
def test_compile_writes_the_file_that_tcprules_writes(tmp_path: Path, text: Path) -> None:
    text.write_bytes(TEXT.replace(b"2001:db8::/32:allow\n", b""))
    assert run("compile", text, tmp_path / "ours.cdb") == 0
    with text.open("rb") as stream:
        subprocess.run(
            ["tcprules", tmp_path / "theirs.cdb", tmp_path / "tmp"], stdin=stream, check=True, timeout=10
        )
    assert (tmp_path / "ours.cdb").read_bytes() == (tmp_path / "theirs.cdb").read_bytes()


def test_a_wrong_text_leaves_the_old_file_as_it_was(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.cdb").write_bytes(b"old")
    text.write_bytes(WRONG)
    assert run("compile", text, tmp_path / "rules.cdb") == 100
    assert [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"{text}:2",
        f"{text}:3",
    ]
    assert (tmp_path / "rules.cdb").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"rules", "rules.cdb"}


def test_compile_keeps_the_permissions_of_the_file_it_replaces(tmp_path: Path, text: Path) -> None:
    target = tmp_path / "rules.cdb"
    for mode in (0o640, 0o444, 0o600):
        target.unlink(missing_ok=True)
        target.write_bytes(b"old")
        target.chmod(mode)
        assert run("compile", text, target) == 0
        assert target.stat().st_mode & 0o7777 == mode


@as_root
def test_compile_keeps_the_owner_and_the_group_of_the_file_it_replaces(tmp_path: Path, text: Path) -> None:
    target = tmp_path / "rules.cdb"
    target.write_bytes(b"old")
    os.chown(target, 12345, 12346)
    assert run("compile", text, target) == 0
    assert (target.stat().st_uid, target.stat().st_gid) == (12345, 12346)


@pytest.mark.parametrize(("source", "target"), [("none", "rules.cdb"), ("rules", "none/rules.cdb")])
def test_compile_says_which_file_the_system_refuses(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str], source: str, target: str
) -> None:
    assert run("compile", text.parent / source, tmp_path / target) == 111
    error = capsys.readouterr().err
    assert error.startswith(f"ucspid: {tmp_path}/none")
    assert error.endswith(": No such file or directory\n")


# check


def test_check_counts_the_rules(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compiled = tmp_path / "rules.cdb"
    assert run("compile", text, compiled) == 0
    (tmp_path / "one").write_text("# a comment\n:deny\n")
    for path, count in ((text, "6 rules"), (compiled, "6 rules"), (tmp_path / "one", "1 rule")):
        assert run("check", path) == 0
        assert capsys.readouterr() == (f"{path}: ok, {count}\n", "")
    assert len(list(Cdb(compiled.read_bytes(), "cdb").records())) == 6


def test_check_of_a_wrong_file_says_all_that_is_wrong(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text.write_bytes(WRONG)
    assert run("check", text) == 100
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{text}:2: no :allow or :deny: 'nonsense:'",
        f"{text}:3: what follows the verdict is not ,NAME=\"VALUE\": ':allow,A'",
    ]


def test_check_of_a_broken_cdb_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.cdb"
    path.write_bytes(compile_text(TEXT, "rules")[:-1])
    assert run("check", path) == 100
    assert capsys.readouterr().err.startswith(f"{path}: byte ")


def test_check_of_a_file_that_is_not_there_is_no_fault_of_the_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", tmp_path / "none") == 111
    assert capsys.readouterr() == ("", f"ucspid: {tmp_path / 'none'}: No such file or directory\n")


@pytest.mark.parametrize("arguments", [[], ["compile"], ["compile", "a"], ["check"], ["decompile", "a"]])
def test_wrong_usage_exits_100(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 100
    assert capsys.readouterr().err.startswith("usage: ucspid rules")
