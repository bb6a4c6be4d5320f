"""The tutorial: after each step the daemon takes its file, and mistakes are reported as it says."""

import re
import subprocess
from pathlib import Path
from typing import cast

import pytest

from ucspid.cli.main import main
from ucspid.config.load import load
from ucspid.errors import ConfigError
from ucspid.plan import Plan
from ucspid.policy.plan_changes import changes

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
TIMEOUT = 30.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of the file, beside what the tutorial has made for it."""
    (command,) = (block for block in blocks("sh") if block.startswith("openssl req"))
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True, timeout=TIMEOUT)
    return tmp_path / "hello.yaml"


def test_the_first_file_has_five_lines() -> None:
    assert len(blocks("yaml")[0].splitlines()) == 5


def test_the_file_is_right_after_each_step(file: Path) -> None:
    """Each further block is put at the end of the file."""
    found, changed = [], list[str]()
    text, plan = "", cast("Plan | None", None)
    for block in blocks("yaml"):
        text += block
        file.write_text(text)
        before, plan = plan, load(file)
        hello = plan.services[0]
        found.append((len(plan.services), hello.max_per_ip, hello.rules is not None))
        changed += changes(before, plan)
    assert found == [(1, None, False), (1, 2, False), (1, 2, True), (2, 2, True)]
    assert [line for line in changed if f"\n{line}\n" not in TUTORIAL.replace("    changes: ", "")] == []


def test_what_is_broken_on_purpose_is_reported_as_it_says(file: Path) -> None:
    file.write_text("".join(blocks("yaml")[:3]))
    (breaking,) = re.findall(r"^\$ (sed .*)$", TUTORIAL, re.MULTILINE)
    subprocess.run(breaking, shell=True, check=True, cwd=file.parent, timeout=TIMEOUT)
    with pytest.raises(ConfigError) as caught:
        load(file)
    said = TUTORIAL[TUTORIAL.index("\n$ sed ") :].partition("\n$ ucspid reload -c hello.yaml\n")[2]
    expected = said.partition("\n$ ")[0].replace("/tmp/hello", str(file.parent))
    assert caught.value.problems == expected.splitlines()


def test_a_rule_is_explained_as_it_says(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("".join(blocks("yaml")[:3]))
    monkeypatch.chdir(file.parent)
    assert main(["explain", "-c", "hello.yaml", "hello", "127.0.0.2"]) == 0
    assert f"\n$ ucspid explain -c hello.yaml hello 127.0.0.2\n{capsys.readouterr().out}```" in TUTORIAL
