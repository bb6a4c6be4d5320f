"""The manual pages: one for each tool, the daemon's and the file's; complete, and sound for mandoc."""

import argparse
import re
import subprocess
from pathlib import Path

import pytest

import peers
from ucspid.cli.main import parser
from ucspid.tools import rblsmtpd, tcpclient, tlsclient
from ucspid.tools.table import NEED_PACKAGES, TOOLS

PAGES = Path(__file__).parents[2] / "docs" / "man"
NAMES = sorted(TOOLS.keys() | NEED_PACKAGES)
LETTERS = {"tcpclient": tcpclient.LETTERS, "rblsmtpd": rblsmtpd.LETTERS, "tlsclient": tlsclient.LETTERS}


ALL = [*(f"{name}.1" for name in NAMES), "ucspid.8", "ucspid.yaml.5"]
SHARED = {"-c", "--control", "--pid"}
"""What the page of the daemon says once, for many verbs."""


def test_every_tool_has_its_page() -> None:
    assert {page.name for page in PAGES.iterdir()} == set(ALL)


@pytest.mark.parametrize("tool", NAMES)
def test_a_page_has_what_every_page_has(tool: str) -> None:
    text = (PAGES / f"{tool}.1").read_text()
    sections = re.findall(r"^\.Sh (.+)$", text, re.MULTILINE)
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES"} <= set(sections)
    assert f".Nm {tool}\n" in text
    assert f".Dt {tool.upper()} 1\n" in text
    linked = re.findall(r"^\.Xr (\S+) 1", text, re.MULTILINE)
    assert set(linked) <= {*NAMES, "cat"}
    assert tool not in linked


@pytest.mark.parametrize("tool", LETTERS)
def test_every_option_is_described(tool: str) -> None:
    text = (PAGES / f"{tool}.1").read_text()
    described = re.findall(r"^\.It Fl (\w)( Ar)?", text, re.MULTILINE)
    letters = LETTERS[tool]
    wanted = {letter: letters[place + 1 : place + 2] == ":" for place, letter in enumerate(letters)}
    assert {letter: bool(argument) for letter, argument in described} == {
        letter: argument for letter, argument in wanted.items() if letter != ":"
    }
    synopsis = text.partition(".Sh SYNOPSIS")[2].partition(".Sh DESCRIPTION")[0]
    named = "".join(re.findall(r"^\.Op Fl (\w+)", synopsis, re.MULTILINE))
    assert sorted(named) == sorted(letters.replace(":", ""))


@pytest.mark.parametrize("page", ALL)
def test_pages_are_sound(page: str) -> None:
    mandoc = peers.require("mandoc")
    command = [mandoc, "-Tlint", "-Wwarning", str(PAGES / page)]
    assert subprocess.run(command, check=False, capture_output=True, text=True, timeout=20).stdout == ""


@pytest.mark.parametrize("tool", LETTERS)
def test_every_option_is_compared_with_the_original(tool: str) -> None:
    page = (PAGES.parent / "tools.md").read_text()
    section = page.partition(f"\n## {tool}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    named = "".join(re.findall(r"`-(\w)", " ".join(rows)))
    assert sorted(named) == sorted(LETTERS[tool].replace(":", ""))


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each verb, and of each action of one that has actions, by its words."""
    found: dict[str, argparse.ArgumentParser] = {}
    for verb, its in subparsers(parser()).items():
        actions = subparsers(its)
        found |= {f"{verb} {action}": inner for action, inner in actions.items()} if actions else {verb: its}
    return found


def subparsers(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: inner for action in actions for name, inner in action.choices.items()}


def test_every_verb_is_on_the_page_of_the_daemon() -> None:
    text = (PAGES / "ucspid.8").read_text()
    assert re.findall(r"^\.Ss (.+)$", text, re.MULTILINE) == list(verbs())
    assert {"SIGNALS", "ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"} <= set(
        re.findall(r"^\.Sh (.+)$", text, re.MULTILINE)
    )


@pytest.mark.parametrize("verb", verbs())
def test_every_argument_of_a_verb_is_described(verb: str) -> None:
    text = (PAGES / "ucspid.8").read_text()
    section = re.split(r"^\.S[sh] ", text.partition(f"\n.Ss {verb}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    synopsis, _, described = section.partition("\n.Pp\n")
    actions = [action for action in verbs()[verb]._actions if action.dest != "help"]
    options = {option for action in actions for option in action.option_strings}
    assert set(re.findall(r"^\.Op Fl (\S+)", synopsis, re.MULTILINE)) == {name[1:] for name in options}
    assert set(re.findall(r"^\.It Fl (\S+)", described, re.MULTILINE)) == {
        name[1:] for name in options - SHARED
    }
    words = {
        str(action.metavar or "|".join(action.choices or ()))
        for action in actions
        if not action.option_strings
    }
    assert set(re.findall(r"^\.It Ar (\S+)", described, re.MULTILINE)) == words
    for option in options & SHARED:
        assert f"\n.It Fl {option[1:]} Ar " in text.partition(".Sh VERBS")[0]
