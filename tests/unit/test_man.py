"""The manual pages: one for each tool, with all of its options, and nothing that mandoc has against it."""

import re
import subprocess
from pathlib import Path

import pytest

import peers
from ucspid.tools import rblsmtpd, tcpclient, tlsclient
from ucspid.tools.table import NEED_PACKAGES, TOOLS

PAGES = Path(__file__).parents[2] / "docs" / "man"
NAMES = sorted(TOOLS.keys() | NEED_PACKAGES)
LETTERS = {"tcpclient": tcpclient.LETTERS, "rblsmtpd": rblsmtpd.LETTERS, "tlsclient": tlsclient.LETTERS}


def test_every_tool_has_its_page() -> None:
    assert {page.stem for page in PAGES.iterdir()} == set(NAMES)


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


@pytest.mark.parametrize("tool", NAMES)
def test_pages_are_sound(tool: str) -> None:
    mandoc = peers.require("mandoc")
    command = [mandoc, "-Tlint", "-Wwarning", str(PAGES / f"{tool}.1")]
    assert subprocess.run(command, check=False, capture_output=True, text=True, timeout=20).stdout == ""


@pytest.mark.parametrize("tool", LETTERS)
def test_every_option_is_compared_with_the_original(tool: str) -> None:
    page = (PAGES.parent / "tools.md").read_text()
    section = page.partition(f"\n## {tool}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    named = "".join(re.findall(r"`-(\w)", " ".join(rows)))
    assert sorted(named) == sorted(LETTERS[tool].replace(":", ""))
