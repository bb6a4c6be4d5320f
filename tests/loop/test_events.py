"""docs/log.md lists every event with its level and its fields, and no others."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ucspid.ipc.counters import REFUSALS
from ucspid.observe import events
from ucspid.policy.outcome import OUTCOMES

ROOT = Path(__file__).parents[2]
SOURCES = [
    ROOT / "src/ucspid/observe/events.py",
    ROOT / "src/ucspid/policy/exit_status.py",
    ROOT / "src/ucspid/policy/refusal_detail.py",
    *sorted((ROOT / "src/ucspid/master").glob("*.py")),
]
LEVELS = {"debug", "info", "warning", "error", "critical"}
ROW = re.compile(r"^\| `(\w+)` \| ([\w, ]+) \|(.*?)\| .+ \|$", re.MULTILINE)
OWN = {"log_dropped": ("warning", {"count"}), "tail_dropped": ("warning", {"count"})}
"""Events that are no one's but the log's, and of those who read it: finished lines."""


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


class Fields:
    """What keys a dictionary can have that a function passes on with **."""

    def __init__(self, functions: dict[str, ast.FunctionDef], function: ast.FunctionDef) -> None:
        self.functions = functions
        self.function = function

    def of(self, call: ast.Call) -> set[str]:
        fields = set()
        for keyword in call.keywords:
            fields |= self._of(keyword.value) if keyword.arg is None else {_shown(keyword.arg)}
        return fields

    def _of(self, node: ast.expr) -> set[str]:
        match node:
            case ast.Dict(keys, values):
                return set().union(
                    *(
                        self._of(value) if key is None else {str(ast.literal_eval(key))}
                        for key, value in zip(keys, values, strict=True)
                    )
                )
            case ast.IfExp(body=body, orelse=orelse):
                return self._of(body) | self._of(orelse)
            case ast.Name(id=name):
                return set().union(*(self._of(value) for value in self._assigned(name)))
            case ast.Call(func=ast.Name(id=name)):
                inner = Fields(self.functions, self.functions[name])
                returned = [item for item in ast.walk(inner.function) if isinstance(item, ast.Return)]
                return set().union(*(inner._of(item.value) for item in returned if item.value is not None))
        raise AssertionError(f"cannot find the fields of {ast.unparse(node)}")

    def _assigned(self, name: str) -> Iterator[ast.expr]:
        for item in ast.walk(self.function):
            if isinstance(item, ast.Assign) and [ast.unparse(target) for target in item.targets] == [name]:
                yield item.value


def _shown(keyword: str) -> str:
    return "exception" if keyword == "exc_info" else keyword


def _texts(node: ast.expr) -> set[str]:
    """Return the texts that an expression can be."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def _logged(call: ast.Call) -> tuple[set[str], set[str]]:
    """Return the levels and the names of the events that a call logs, if any."""
    if not isinstance(call.func, ast.Attribute) or not call.args:
        return set(), set()
    method = call.func.attr
    if method in LEVELS and ast.unparse(call.func.value) == "log":
        return {method}, _texts(call.args[0])
    return set(), set()


@functools.cache
def in_code() -> dict[str, Event]:
    found = {name: Event({level}, fields) for name, (level, fields) in OWN.items()}
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    walked = [item for tree in trees for item in ast.walk(tree)]
    functions = {item.name: item for item in walked if isinstance(item, ast.FunctionDef)}
    for function in (item for item in walked if isinstance(item, ast.FunctionDef)):
        for call in (item for item in ast.walk(function) if isinstance(item, ast.Call)):
            levels, names = _logged(call)
            for name in names:
                event = found.setdefault(name, Event())
                event.levels |= levels
                event.fields |= Fields(functions, function).of(call)
    return found


def in_document() -> dict[str, Event]:
    rows = ROW.findall((ROOT / "docs/log.md").read_text())
    return {
        name: Event(set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields)))
        for name, levels, fields in rows
    }


def test_the_document_lists_the_events_of_the_code() -> None:
    assert in_document().keys() == in_code().keys()


@pytest.mark.parametrize("name", sorted(in_document()))
def test_the_document_has_the_level_and_the_fields_of_an_event(name: str) -> None:
    assert in_document()[name] == in_code()[name]


def test_every_event_has_its_occasion() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src/ucspid").rglob("*.py"))
    logging = [name for name, value in vars(events).items() if "log: " in str(_signature(value))]
    assert len(logging) > 20
    assert [name for name in logging if f"events.{name}(" not in sources] == []


def _signature(value: object) -> inspect.Signature | None:
    return inspect.signature(value) if inspect.isfunction(value) else None


def test_what_is_not_in_events_py_is_found_too() -> None:
    assert {"process_died", "reloaded", "started", "loop_broken"} <= in_code().keys()


def test_the_document_names_every_reason_of_a_refusal_and_every_way_to_end() -> None:
    text = (ROOT / "docs/log.md").read_text()
    (row,) = re.findall(r"^\| `connection_refused` .*$", text, re.MULTILINE)
    assert [reason for reason in REFUSALS if f"`{reason}`" not in row] == []
    _, _, ends = text.partition("### How a program ended")
    rows = re.findall(r"^\| .* \| (\w+) \| `(\w+)` \|$", ends.partition("\n## ")[0], re.MULTILINE)
    assert {how for _level, how in rows} == set(OUTCOMES)
    assert {level for level, _how in rows} == in_code()["connection_served"].levels
