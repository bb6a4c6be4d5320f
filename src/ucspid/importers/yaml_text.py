"""The description as the text of a configuration file that a person would keep."""

import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_OUTPUT_BYTES
from ucspid.importers.description import AccessRule, Description, Imported, printable
from ucspid.importers.sharing import ordered

WIDTH = 100
_INDENT = 2
_FLOW = 86
"""Characters that a list in brackets may have."""
_PLAIN = re.compile(r"-?[A-Za-z0-9_./][A-Za-z0-9_./@%+:=-]*")


def yaml_text(description: Description, top: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the text of the file: top has the keys of the daemon. Raises ConfigError if it gets too long."""
    document = CommentedMap()
    document.yaml_set_start_comment(_comment(_header(description), 0) + "\n")
    for key, value in top.items():
        document[key] = _value(value)
    if defaults:
        document["defaults"] = _settings(defaults, {}, _INDENT)
        document.yaml_set_comment_before_after_key("defaults", "\n")
    services, waiting = CommentedMap(), list[str]()
    for service in description.services:
        if service.reasons:
            waiting.append(_commented_out(service))
            continue
        if about := _comment(_about(service), _INDENT):
            waiting.append(about)
        elif waiting:
            waiting.append("")
        name = _value(service.name)
        before = "\n\n".join(waiting).removesuffix("\n")
        services[name] = _settings(service.settings, service.beside, 2 * _INDENT)
        first = len(services) == 1
        services.yaml_set_comment_before_after_key(name, _spaced(before, first=first), indent=_INDENT)
        waiting = []
    document["services"] = services
    document.yaml_set_comment_before_after_key("services", "\n")
    text = _dump(document)
    rest = [*waiting, *filter(None, [_comment(description.trailing, _INDENT)])]
    for block in rest:
        text += "\n" + "".join(f"  # {line}".rstrip() + "\n" if line else "\n" for line in block.split("\n"))
    if len(text.encode("utf-8", "replace")) > MAX_OUTPUT_BYTES:
        raise ConfigError(
            [f"the result would have more than {MAX_OUTPUT_BYTES} bytes, which ucspid does not read"]
        )
    return text


def _spaced(comment: str, *, first: bool) -> str | None:
    """Return the text before a key, with an empty line if it is not the first; None if there is nothing."""
    if first:
        return comment or None
    return f"\n{comment}" if comment else "\n"


def _header(description: Description) -> list[str]:
    sources = ", ".join(description.sources)
    lines = [f"Made by ucspid import from {sources}."]
    lines += description.remarks
    return [*lines, *(f"not imported: {note}" for note in description.notes)]


def _about(service: Imported) -> list[str]:
    notes = [f"not imported: {note}" for note in service.notes]
    return [*service.comments, *service.remarks, *notes]


def _commented_out(service: Imported) -> str:
    """Return a service as the text of a comment."""
    alone = CommentedMap({service.name: _settings(service.settings, service.beside, _INDENT)})
    reasons = [f"{service.name}: {reason}" for reason in dict.fromkeys(service.reasons)]
    about = _comment([*service.comments, *service.remarks, *reasons, *map(_lost, service.notes)], _INDENT)
    return f"{about}\n{_dump(alone).rstrip()}"


def _lost(note: object) -> str:
    return f"not imported: {note}"


def _comment(lines: Iterable[str], indent: int) -> str:
    """Return lines of a comment, wrapped, as one text; what YAML does not allow is replaced."""
    wrapped: list[str] = []
    for line in lines:
        clean = printable(line)
        room = WIDTH - indent - 2
        wrapped += (
            [clean]
            if len(clean) <= room
            else textwrap.wrap(clean, room, subsequent_indent="  ", break_on_hyphens=False)
        )
    return "\n".join(line.rstrip() for line in wrapped)


def _settings(settings: Mapping[str, Any], beside: Mapping[str, str], indent: int) -> CommentedMap:
    made = CommentedMap()
    for key, value in ordered(settings).items():
        made[key] = _rules(value, indent + _INDENT) if key == "rules" else _value(value)
        if key in beside and isinstance(value, int | str):
            column = indent + len(f"{key}: {value}") + 2 + 2 * isinstance(made[key], DoubleQuotedScalarString)
            made.yaml_add_eol_comment(_comment([beside[key]], 0).replace("\n", " "), key, column=column)
    return made


def _rules(rules: Any, indent: int) -> Any:
    if not isinstance(rules, list):
        return _value(rules)
    made = CommentedSeq()
    for number, rule in enumerate(rules):
        made.append(_rule(rule))
        if rule.comment:
            made.yaml_set_comment_before_after_key(number, _comment([rule.comment], indent), indent=indent)
    return made


def _rule(rule: AccessRule) -> CommentedMap:
    made = CommentedMap()
    if rule.patterns:
        made["from"] = _value(rule.patterns[0] if len(rule.patterns) == 1 else rule.patterns)
    made["allow" if rule.allow else "deny"] = "yes"
    for key in ("env", "max_per_ip", "message"):
        if value := getattr(rule, key):
            made[key] = _value(value)
    return made


def _value(value: Any) -> Any:
    """Return a value as ruamel.yaml is to write it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case str():
            return value if _is_plain(value) else DoubleQuotedScalarString(value)
        case Mapping():
            made = CommentedMap({_value(key): _value(item) for key, item in value.items()})
            if _fits(value):
                made.fa.set_flow_style()
            return made
        case Sequence():
            items = CommentedSeq([_value(item) for item in value])
            if _fits(value):
                items.fa.set_flow_style()
            return items
    return value


def _fits(value: Mapping[Any, Any] | Sequence[Any]) -> bool:
    """Say whether a list or a mapping is short enough for one line."""
    items = [item for pair in value.items() for item in pair] if isinstance(value, Mapping) else value
    return sum(len(str(item)) + 2 for item in items) <= _FLOW


def _is_plain(text: str) -> bool:
    """Say whether a text means itself without quotes, in every version of YAML."""
    if not _PLAIN.fullmatch(text) or text.endswith(":"):
        return False
    return bool(yaml.safe_load(text) == text)


def _dump(document: CommentedMap) -> str:
    writer = YAML()
    writer.width = 1 << 20
    writer.indent(mapping=_INDENT, sequence=2 * _INDENT, offset=_INDENT)
    stream = io.StringIO()
    writer.dump(document, stream)
    return stream.getvalue()
