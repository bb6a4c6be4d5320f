"""Completion for shells: in step with the command's parser, sound, and what bash and fish make of it."""

import subprocess
from pathlib import Path

import pytest

import peers
from ucspid.cli.completion import FILES, main
from ucspid.cli.verbs import VERBS
from ucspid.tools.table import TOOLS

COMPLETION = Path(__file__).parents[2] / "contrib" / "completion"
BASH = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ucspid
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "source $argv[1]; complete --do-complete $argv[2]"
ZSH = """
_describe() { print -rl -- ${(P)2%%:*} }
_arguments() { print -rl -- $@ }
compadd() { print -rl -- $@ }
_files() { print files }
completion=$1; shift
words=("$@") CURRENT=$#
source $completion
"""
"""What zsh is asked for, without the functions of its own that answer."""
LINES = [
    ("ucspid lo", {"log-level"}),
    ("ucspid rules ", {"compile", "check"}),
    ("ucspid sessions --sort ", {"age", "service", "client", "cpu", "memory", "bytes"}),
    ("ucspid sessions --so", {"--sort"}),
    ("ucspid tail --level w", {"warning"}),
    ("ucspid log-level e", {"error"}),
    ("ucspid check -c my", {"my file.yaml"}),
    ("ucspid status --control my", {"my file.yaml"}),
    ("ucspid rules check my", {"my file.yaml"}),
    ("ucspid tcprules my", {"my file.yaml"}),
    ("ucspid limit --pid ", set[str]()),
]


def output(command: list[str], cwd: Path) -> set[str]:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    return {line for line in done.stdout.splitlines() if line}


def bash(line: str, cwd: Path) -> set[str]:
    return output(["bash", "-c", BASH, "bash", str(COMPLETION / "bash/ucspid"), *line.split(" ")], cwd)


def fish(line: str, cwd: Path) -> set[str]:
    said = output([peers.require("fish"), "-N", "-c", FISH, str(COMPLETION / "fish/ucspid.fish"), line], cwd)
    return {each.partition("\t")[0].replace("\\", "") for each in said}


def zsh(line: str, cwd: Path) -> set[str]:
    command = [peers.require("zsh"), "-f", "-c", ZSH, "zsh", str(COMPLETION / "zsh/_ucspid")]
    return output([*command, *line.split(" ")], cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my file.yaml").write_text("")
    return tmp_path


def test_what_is_shipped_is_in_step_with_the_parser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    made = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert made.keys() == FILES.keys()
    assert made == {name: (COMPLETION / name).read_text() for name in FILES}
    assert main([]) == 100
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize("name", FILES)
def test_shells_can_read_it(name: str, tmp_path: Path) -> None:
    shell = name.partition("/")[0]
    command = "bash" if shell == "bash" else peers.require(shell)
    assert output([command, "-n", str(COMPLETION / name)], tmp_path) == set()


def test_verbs_and_tools_come_first(folder: Path) -> None:
    assert bash("ucspid ", folder) == {*VERBS, *TOOLS, "--help", "--version"}
    assert fish("ucspid ", folder) == {*VERBS, *TOOLS}


@pytest.mark.parametrize(("line", "completions"), LINES)
def test_bash_completes(line: str, completions: set[str], folder: Path) -> None:
    assert bash(line, folder) == completions


@pytest.mark.parametrize(("line", "completions"), LINES)
def test_fish_completes(line: str, completions: set[str], folder: Path) -> None:
    assert fish(line, folder) == completions


def test_zsh_is_asked_for_verbs_actions_and_files(folder: Path) -> None:
    assert zsh("ucspid ", folder) == {*VERBS, *TOOLS}
    assert zsh("ucspid rules ", folder) == {"compile", "check"}
    assert zsh("ucspid tcprules ", folder) == {"files"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "ucspid check ",
            {"-c[configuration file (default\\: /etc/ucspid/ucspid.yaml)]:FILE:_files", "--help"},
        ),
        ("ucspid rules check ", {":a text, or a cdb if its name ends in .cdb:_files", "--help"}),
        (
            "ucspid links ",
            {
                ":folder of the links, such as /usr/local/bin:_files -/",
                "--remove[remove the links that were made there]",
                "--help",
            },
        ),
    ],
)
def test_zsh_is_asked_for_the_arguments_of_a_verb(line: str, words: set[str], folder: Path) -> None:
    assert zsh(line, folder) == words


def test_zsh_is_asked_for_choices(folder: Path) -> None:
    found = [
        word for word in zsh("ucspid log-level ", folder) if word.endswith(":(debug info warning error)")
    ]
    assert found == [":the lowest to log:(debug info warning error)"]
