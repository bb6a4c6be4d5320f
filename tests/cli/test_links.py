"""ucspid links, and the command as a tool: by its first argument and by the name it is called by."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ucspid.cli.main import main
from ucspid.tools.table import NEED_PACKAGES, TOOLS

COMMAND = Path(sys.executable).with_name("ucspid")


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_a_tool_is_the_first_argument() -> None:
    command = [sys.executable, "-m", "ucspid", "argv0", "sh", "other", "-c", "echo $0 $1", "a", "b"]
    assert output(*command) == "a b\n"


def test_a_tool_is_the_name_that_the_command_is_called_by(tmp_path: Path) -> None:
    (tmp_path / "argv0").symlink_to(COMMAND)
    assert output(tmp_path / "argv0", "sh", "other", "-c", "echo $0") == "other\n"


def test_links_are_the_tools_and_are_removed_again(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert main(["links", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"kept", *TOOLS}
    assert output(tmp_path / "argv0", "sh", "other", "-c", "echo $0") == "other\n"
    assert main(["links", str(tmp_path)]) == 0, "its own links are made anew"
    assert main(["links", "--remove", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert main(["links", "--remove", str(tmp_path)]) == 0


OTHERS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("#!/bin/sh\n# mine\n"),
    "symlink": lambda path: path.symlink_to("/bin/true"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_links_did_not_make_is_kept(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "argv0"
    OTHERS[kind](other)
    before = other.lstat()
    assert main(["links", str(tmp_path)]) == 100
    assert capsys.readouterr().err == f"{other}: not made by ucspid links; it is kept, and nothing was made\n"
    assert main(["links", "--remove", str(tmp_path)]) == 0
    assert os.path.samestat(other.lstat(), before)
    assert list(tmp_path.iterdir()) == [other]


SLOWER = {"tcprules", "tcprulescheck", "tlsclient", "https@"}


@pytest.mark.parametrize("tool", sorted(TOOLS.keys() - NEED_PACKAGES - SLOWER))
def test_a_link_starts_nothing_but_the_tool(tool: str, tmp_path: Path) -> None:
    """What has enum, typing or collections behind it would take longer than the tool's work."""
    assert main(["links", str(tmp_path)]) == 0
    script = (tmp_path / tool).read_text()
    probe = tmp_path / "probe.py"
    probe.write_text(script.replace("run(main, sys.argv)", "print(*sys.modules, sep='\\n')"))
    loaded = set(output(sys.executable, "-ISXutf8", probe).split())
    assert TOOLS[tool] in loaded
    assert not loaded & {"enum", "typing", "collections", "re", "socket", "signal", "site", "argparse"}
    own = {name for name in loaded if name.startswith("ucspid")}
    assert {name for name in own if not name.startswith("ucspid.tools")} == {"ucspid"}


def test_the_environment_is_passed_on_as_it_was(tmp_path: Path) -> None:
    """The interpreter sets LC_CTYPE where the locale is C; nobody asked it to."""
    assert main(["links", str(tmp_path)]) == 0
    for env in ({"LANG": "C"}, {"LC_CTYPE": "C.UTF-8"}, {}, {"A": "\udcff"}):
        ended = subprocess.run(
            [tmp_path / "argv0", "/usr/bin/env", "env"], check=True, env=env, capture_output=True, timeout=30
        )
        expected = [os.fsencode(f"{name}={value}\n") for name, value in env.items()]
        assert ended.stdout == b"".join(expected)


@pytest.mark.parametrize(
    "tool",
    ["argv0", "fixcrio", "rblsmtpd", "recordio", "tcpclient", "tcprules", "tcprulescheck", "tlsclient"],
)
def test_a_tool_is_the_same_by_all_its_names(tool: str, tmp_path: Path) -> None:
    assert main(["links", str(tmp_path)]) == 0
    (tmp_path / "symbolic").mkdir()
    (tmp_path / "symbolic" / tool).symlink_to(COMMAND)
    names: list[list[str | Path]] = [
        [tmp_path / tool],
        [tmp_path / "symbolic" / tool],
        [COMMAND, tool],
        [sys.executable, "-m", "ucspid", tool],
    ]
    for name in names:
        ended = subprocess.run(name, check=False, capture_output=True, text=True, timeout=30)
        assert (ended.returncode, ended.stdout) == (100, "")
        assert ended.stderr.startswith(f"{tool}: usage: {tool} ")
