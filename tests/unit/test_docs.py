"""The documents: what they name is there, and the tables that describe the code say what it says."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from ucspid.admission.obstacles import Hold
from ucspid.cli.main import parser
from ucspid.codec import Packed
from ucspid.config import schema
from ucspid.config.positions import read
from ucspid.config.problems import Problems
from ucspid.config.reference import schema_json
from ucspid.config.shapes import record
from ucspid.ipc import messages, orders
from ucspid.ipc.counters import REFUSALS
from ucspid.master import transition
from ucspid.policy.connection_states import NEXT
from ucspid.policy.environ import NAMES
from ucspid.tools.table import TOOLS

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "src" / "ucspid"
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("examples/**/*.md")])
INTERNALS = (TOP / "docs" / "internals.md").read_text()
BEHAVIOR = (TOP / "docs" / "behavior.md").read_text()
PROGRAMS = (TOP / "docs" / "programs.md").read_text()
RELIABILITY = (TOP / "docs" / "reliability.md").read_text()
LOG = (TOP / "docs" / "log.md").read_text()
TROUBLESHOOTING = (TOP / "docs" / "troubleshooting.md").read_text()
ARCHITECTURE = (TOP / "docs" / "architecture.md").read_text()

_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def code(text: str) -> str:
    """Return all code of a page: its blocks and its spans."""
    blocks = [block for _language, block in _BLOCK.findall(text)]
    spans = re.findall(r"`([^`]+)`", _BLOCK.sub("", text))
    indented = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    return "\n".join([*blocks, *spans, *indented])


def table(text: str, *header: str) -> list[list[str]]:
    """Return the rows of the only table with this beginning of its header, without backquotes."""
    lines = text.splitlines()
    wanted = "| " + " | ".join(header) + " |"
    (start,) = (number for number, line in enumerate(lines) if line.startswith(wanted))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def verbs() -> dict[str, argparse.ArgumentParser]:
    (actions,) = (item for item in parser()._actions if isinstance(item, argparse._SubParsersAction))
    return dict(actions.choices)


def configurations() -> Iterator[tuple[str, str]]:
    """Yield every YAML block that is a whole configuration file."""
    for page in PAGES:
        for number, (language, block) in enumerate(_BLOCK.findall(page.read_text())):
            if language in {"yaml", "yml"} and re.search(r"^services:", block, re.MULTILINE):
                yield f"{name_of(page)}-{number}", block


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text()))
    paths = [link.partition("#")[0] for link in links if "://" not in link]
    assert [path for path in paths if path and not (page.parent / path).exists()] == []


@pytest.mark.parametrize(("block"), [pytest.param(text, id=place) for place, text in configurations()])
def test_configuration_files_follow_the_schema(block: str) -> None:
    jsonschema.validate(yaml.safe_load(block), json.loads(schema_json()))
    problems = Problems()
    root = read(block.encode(), problems)
    assert root is not None
    record(schema.File).convert(root, "", problems)
    assert problems.lines("block") == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)::(\w+)`", page.read_text())
    lacking = [
        (file, test)
        for file, test in named
        if not re.search(rf"^(?:async )?def {test}\(", (TOP / "tests" / file).read_text(), re.MULTILINE)
    ]
    assert lacking == []


def test_every_promise_has_a_test_that_shows_it() -> None:
    rows = table(RELIABILITY, "when", "holds", "at worst", "shown by", "last figures")
    assert rows
    assert [row[0] for row in rows if "::" not in row[3]] == []


def test_there_are_ten_promises_and_each_has_its_bound_and_a_test() -> None:
    section = RELIABILITY.split("\n## ")[1]
    promises = re.split(r"^\d+\. ", section, flags=re.MULTILINE)[1:]
    assert [len(promises), *(" Bound: " in " ".join(text.split()) for text in promises)] == [10] + [True] * 10
    assert [text for text in promises if not re.search(r"Shown by `\w+/test_\w+\.py::test_\w+`", text)] == []


def test_there_is_a_configuration_for_a_mail_host() -> None:
    examples = [yaml.safe_load(text) for place, text in configurations() if place.startswith("README.md")]
    assert any({"smtp", "pop3", "qmtp"} <= example["services"].keys() for example in examples)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_are_named_exist(page: Path) -> None:
    text = code(page.read_text())
    named = set(re.findall(r"(?:^|[\s/])ucspid ([a-z][a-z-]*[0-9@]?)", text, re.MULTILINE))
    assert named <= verbs().keys() | TOOLS.keys()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", code(page.read_text()), re.MULTILINE))
    assert named <= targets


def test_every_command_has_its_section_with_all_of_its_options() -> None:
    sections = re.split(r"^## ucspid ([\w-]+)$", PROGRAMS, flags=re.MULTILINE)
    described = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert described.keys() == verbs().keys()
    for verb, arguments in verbs().items():
        options = {name for action in arguments._actions for name in action.option_strings} - {"-h", "--help"}
        assert {name for name in options if name not in described[verb]} == set(), verb
        for heading in ("Interface", "Options", "Environment", "Signals", "Exit codes"):
            assert f"**{heading}**" in described[verb], (verb, heading)


def test_the_states_of_a_connection() -> None:
    rows = table(INTERNALS, "state", "event", "next state")
    assert rows == [[state.value, event.value, after.value] for (state, event), after in NEXT.items()]


def test_the_phases_of_the_master() -> None:
    rows = table(INTERNALS, "phase", "step", "next phase")
    written = [[phase.value, step.value, after.value] for (phase, step), after in transition.NEXT.items()]
    stops = [row for row in written if row[1] == transition.Step.STOP.value]
    assert {row[2] for row in stops} == {transition.Phase.DRAINING.value}
    assert rows == [row for row in written if row not in stops] + [["any", *stops[0][1:]]]


def test_the_reasons_that_hold_an_acceptor() -> None:
    assert {row[0] for row in table(INTERNALS, "hold", "why", "is checked again")} == {
        str(hold) for hold in Hold
    }


def test_the_messages_between_processes() -> None:
    others = {"VERSION", "STATUS_UNKNOWN", "TAG_SIZE", "SOCKETS", "SOCKETS_WITH_TLS", "CONTROL", "PLAIN"}
    kinds = {
        name
        for name, value in vars(messages).items()
        if (name.isupper() and isinstance(value, int) and not name.startswith(("MAX_", "STDERR_")))
        or (isinstance(value, type) and issubclass(value, Packed) and value.KIND)
    }
    described = table(INTERNALS, "message", "from → to", "says")
    assert sorted(row[0] for row in described) == sorted(kinds - others)


def test_the_orders_of_the_master() -> None:
    described = [row[0] for row in table(INTERNALS, "order", "beside it", "says")]
    assert sorted(described) == sorted(orders.NAMES)


def test_what_troubleshooting_names_is_there() -> None:
    """Words with an underscore are events, fields and reasons of the log, holds, or keys of the file."""
    keys = set(re.findall(r'"(\w+)": *\{', schema_json()))
    logged = set(re.findall(r"`(\w+)`", LOG))
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TROUBLESHOOTING))
    assert named
    assert named - keys - logged - {str(hold) for hold in Hold} == set()


def test_troubleshooting_has_all_reasons_for_which_clients_wait_or_are_refused() -> None:
    states = {row[0] for row in table(TROUBLESHOOTING, "state", "cause", "mend")}
    assert states == {str(hold) for hold in Hold} - {"closed"} | {"listening"}
    reasons = {
        word for row in table(TROUBLESHOOTING, "reason", "cause", "mend") for word in row[0].split(", ")
    }
    assert reasons == {*REFUSALS} - {"internal_error"}


def test_variables_of_a_connection_are_described() -> None:
    named = set(re.findall(r"[A-Z0-9]+(?:_[A-Z]+)*", BEHAVIOR))
    assert {name for names in NAMES.values() for name in names} - named == set()


def test_the_tour_of_the_files_is_the_tree() -> None:
    tour = [
        (folder.strip("/").replace("(top)", ""), modules.replace(",", "").split())
        for folder, _what, modules in table(ARCHITECTURE, "folder", "what it does", "modules")
    ]
    named = {f"{folder}/{module}".lstrip("/") for folder, modules in tour for module in modules}
    there = {str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py")}
    assert named == {name for name in there if not name.endswith(("__init__", "__main__"))}
