"""YAML text to nodes that know their line and column, within fixed bounds.

The nodes are built from the parser's events, so that neither deep nesting nor an alias
that multiplies can exhaust memory or stack. Of YAML's implicit types only those remain
that are written as they read: null, booleans, decimal integers and decimal fractions.
The octal, hexadecimal, base-60, underscored and exponent numbers of YAML 1.1, and its
dates, stay text: none of them means in a file of ports, modes and addresses what it looks like.
"""

import json
import re
from collections.abc import Callable, Iterator

import yaml

from ucspid.config.problems import Problems, under
from ucspid.config.syntax import explain, split_lines
from ucspid.records import dataclass, field

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_NODES = 250_000

Scalar = str | int | float | bool | None

_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "yes", "on"}
_FALSE = {"false", "no", "off"}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_SHOWN = 60
_UNQUOTED_ADDRESS = re.compile(r"(?<![\"'])\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]")
_QUOTE_ADDRESS = 'an IPv6 address with its port must be quoted: "[::1]:25"'


@dataclass(slots=True, eq=False)
class Node:
    """A value of the file: a scalar with its text as written, a list, or a mapping with its keys.

    Line and column count from 1. size is the number of nodes with all aliases written out.
    """

    value: "Scalar | list[Node] | dict[str, tuple[Node, Node]]"
    text: str
    line: int
    column: int
    size: int = 1

    def shown(self) -> str:
        """Return what a message says was found here."""
        match self.value:
            case list():
                return "a list"
            case dict():
                return "a mapping"
            case None:
                return "nothing (null)"
            case bool():
                return f"the boolean {self.text}"
            case str() as text:
                cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
                return f"the text {json.dumps(cut, ensure_ascii=not cut.isprintable())}"
            case _:
                return f"the number {self.text}"


def read(data: bytes, problems: Problems) -> Node | None:
    """Return the one document in a file's content; None after adding to problems why it has none."""
    if len(data) > MAX_BYTES:
        problems.add_at(1, 1, f"the file is larger than {MAX_BYTES} bytes")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lines = split_lines(data.decode("utf-8-sig", "replace"))
        before = split_lines(data[: error.start].decode("utf-8-sig"))
        problems.add_at(len(before), len(before[-1]) + 1, "not UTF-8 text", lines[len(before) - 1])
        return None
    try:
        return _Builder(text, problems).document()
    except yaml.MarkedYAMLError as error:
        _add(problems, text, *explain(error, split_lines(text)))
    except _NotAllowed as refusal:
        line, column = (refusal.mark.line, refusal.mark.column) if refusal.mark else (0, 0)
        _add(problems, text, line, column, refusal.text)
    except yaml.reader.ReaderError as error:
        before = split_lines(text[: max(0, text.find(chr(error.character)))])
        name = f"U+{error.character:04X}"
        _add(problems, text, len(before) - 1, len(before[-1]), f"the character {name} is not allowed")
    return None


def _add(problems: Problems, text: str, line: int, column: int, what: str) -> None:
    """Add a mistake at a place that counts from 0, with the line that it is in."""
    lines = split_lines(text)
    source = lines[line] if line < len(lines) else ""
    if _QUOTE_ADDRESS not in what and _UNQUOTED_ADDRESS.search(source):
        what += f"; {_QUOTE_ADDRESS}"
    problems.add_at(line + 1, column + 1, what, source)


@dataclass(slots=True)
class _Builder:
    text: str
    problems: Problems
    anchors: dict[str, Node] = field(default_factory=dict)
    events: Iterator[yaml.Event] = field(init=False)
    count: int = 0

    def document(self) -> Node | None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.events = iter(yaml.parse(self.text, Loader=loader))
        root = None
        for event in self.events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if root is not None:
                raise _NotAllowed(event, "a second document: the file holds one")
            root = self.node(next(self.events), "", 1)
        if root is None:
            self.problems.add_at(1, 1, "the file is empty: at least one service is required")
        return root

    def node(self, event: yaml.Event, path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise _NotAllowed(event, f"no complete value is named &{event.anchor} before this alias")
            return self.anchors[event.anchor]
        if not isinstance(event, yaml.NodeEvent | yaml.ScalarEvent) or depth > MAX_DEPTH:
            raise _NotAllowed(event, f"nested more than {MAX_DEPTH} deep")
        if getattr(event, "tag", None) not in {None, "!"}:
            raise _NotAllowed(event, "tags are not supported: quote a value to make it text")
        node = self.kind(event)(event, path, depth)
        if node.size > MAX_NODES:
            raise _NotAllowed(event, f"more than {MAX_NODES} values, with the aliases written out")
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def kind(self, event: yaml.Event) -> Callable[[yaml.Event, str, int], Node]:
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence
        return self.mapping if isinstance(event, yaml.MappingStartEvent) else _scalar

    def sequence(self, event: yaml.Event, path: str, depth: int) -> Node:
        items: list[Node] = []
        node = _at(event, items)
        while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(inner, f"{path}[{len(items)}]", depth + 1))
            node.size += items[-1].size
        return node

    def mapping(self, event: yaml.Event, path: str, depth: int) -> Node:
        entries: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        node = _at(event, entries)
        while not isinstance(inner := next(self.events), yaml.MappingEndEvent):
            key = self.key(inner, depth)
            value = self.node(next(self.events), under(path, key.text), depth + 1)
            node.size += 1 + value.size
            if key.text == "<<" and isinstance(inner, yaml.ScalarEvent) and inner.implicit[0]:
                merged.append(value)
            elif key.text in entries:
                first = entries[key.text][0]
                text = f"given twice, first at line {first.line}, column {first.column}"
                self.problems.add_at(key.line, key.column, f"{under(path, key.text)}: {text}")
            else:
                entries[key.text] = (key, value)
        for value in merged:
            self.merge(entries, value, path)
        return node

    def key(self, event: yaml.Event, depth: int) -> Node:
        if isinstance(event, yaml.SequenceStartEvent):
            raise _NotAllowed(event, f"a list cannot be a key; {_QUOTE_ADDRESS}")
        node = self.node(event, "", depth + 1)
        if isinstance(node.value, list | dict):
            raise _NotAllowed(event, "only text can be a key")
        return node

    def merge(self, entries: dict[str, tuple[Node, Node]], value: Node, path: str) -> None:
        for source in value.value if isinstance(value.value, list) else [value]:
            if not isinstance(source.value, dict):
                text = f"expected a mapping or a list of mappings, found {source.shown()}"
                self.problems.add_at(value.line, value.column, f"{under(path, '<<')}: {text}")
                continue
            for key, entry in source.value.items():
                entries.setdefault(key, entry)


def _scalar(event: yaml.Event, _path: str, _depth: int) -> Node:
    assert isinstance(event, yaml.ScalarEvent)
    node = _at(event, event.value)
    node.text = event.value
    if not event.value.isascii() and _SURROGATE.search(event.value):
        raise _NotAllowed(event, "half of a surrogate pair is not a character")
    if event.implicit[0] and event.tag is None:
        node.value = _plain(event.value)
    return node


def _plain(text: str) -> Scalar:
    if text in _NULLS:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    word = text.lower() if text in {text.lower(), text.upper(), text.capitalize()} else text
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    return text


def _at(event: yaml.Event, value: "str | list[Node] | dict[str, tuple[Node, Node]]") -> Node:
    mark = event.start_mark
    assert mark is not None
    return Node(value, "", mark.line + 1, mark.column + 1)


class _NotAllowed(Exception):  # noqa: N818
    """The event begins what the file may not hold; the text says why."""

    def __init__(self, event: yaml.Event, text: str) -> None:
        super().__init__(text)
        self.mark = event.start_mark
        self.text = text
