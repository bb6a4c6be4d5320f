"""The JSON Schema of the configuration file and its reference pages, from the schema's definitions.

python -m ucspid.config.reference SCHEMA PAGE MANUAL writes all three.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from ucspid.config import schema
from ucspid.config.controls import ControlSection
from ucspid.config.endpoints import ListenSection
from ucspid.config.environment import DEFAULT_PATH
from ucspid.config.forms import Form
from ucspid.config.forwards import ForwardSection
from ucspid.config.logs import LogSection
from ucspid.config.lookups import LookupSection
from ucspid.config.manual import manual
from ucspid.config.positions import MAX_DEPTH, MAX_NODES
from ucspid.config.proxies import ProxySection
from ucspid.config.rlimits import Rlimits
from ucspid.config.ruleforms import Said
from ucspid.config.shapes import (
    ElseScalar,
    Field,
    Formed,
    Leaf,
    Mapping,
    Optional,
    Record,
    Sequence,
    Shape,
    record,
)
from ucspid.config.tls_keys import CertificateSection, TlsDefaults, TlsSection
from ucspid.config.webs import WebSection
from ucspid.errors import EXIT_USAGE
from ucspid.policy.environ import MAX_PROGRAM
from ucspid.rules.bounds import MAX_VARIABLE_BYTES

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ARGUMENTS = 3

_TITLE = """\
# The configuration file

This page, the manual page and the JSON Schema are made from the definitions in
`src/ucspid/config/schema.py`; change them there, then run `make docs`.
"""

_INTRODUCTION = f"""\
The file is YAML. `ucspid check` reports everything that is wrong with it at once, each mistake with file,
line, column and key; what is not YAML at all hides the rest, and is shown with its line. `ucspid schema`
prints the JSON Schema; an editor with a YAML language server uses it after this first line of the file:
`# yaml-language-server: $schema=ucspid.schema.json`.

How YAML is read:
- Where text, a path or a name is expected, it is what stands in the file: `-0`, `1.50`, `yes` and
  `007` stay as they are. In `program` and `env` so do `null` and `~`; for an empty text write `""`.
- Elsewhere only decimal numbers are numbers, and `yes`, `no`, `on` and `off` are booleans.
- An IPv6 address is quoted: `"[::1]:25"`. Unquoted, YAML takes the brackets for a list.
- A `*` that stands alone is quoted: `"*"`, `"*:25"`. Unquoted, YAML takes it for an alias.
- A key given twice is a mistake. Anchors, aliases and merge keys (`<<`) work. Tags do not.
- At most 1 MiB, {MAX_DEPTH} levels and {MAX_NODES} values with the aliases written out.
"""

_ENDING = f"""\
## Times, sizes, rates

- A time is a number of seconds or has a unit: `500ms`, `5s`, `2min` or `2m`, `1h`, `1d`.
- A size in bytes may end in `k`, `M` or `G` (of 1024); `infinity` is no limit.
- A rate is a count and a period: `s` or `sec`, `min`, `h` or `hour`, `d` or `day`.

## Where to listen

| form | listens on |
| --- | --- |
| `25`, `smtp`, `"*:25"` | IPv4 and IPv6, one socket |
| `192.0.2.1:25`, `0.0.0.0:25` | IPv4 |
| `"[2001:db8::1]:25"`, `"[::]:25"` | IPv6 alone |
| `unix:/run/ucspid/lmtp.sock` | a Unix socket; its directory is created if it is missing |
| `unix:@lmtp` | a Unix socket in the abstract namespace, which has no permissions |

Names are those of services(5). Names of hosts are not looked up. Two listeners on one address are a mistake,
and so are a wildcard and an address of the same port; IPv4 and IPv6 wildcards of their own go together.

## Users

Started as root, a service runs as its `user:`, else as the file's, else as nobody; as root only if it says
`user: root`. The event loop is never root. A user id without an entry in passwd(5) needs a `group:`. A
service without `user:` also has the file's `group:`, unless it gives its own.

Not started as root, everything runs as whoever started it: users and groups must exist but are not
switched to, and `chroot` is a mistake.

## Programs and their environment

`program` is a list, executed without a shell. A path without a leading slash but with one inside starts from
`chdir`. A name without a slash is searched in the PATH of the service's own environment; the first file
that the service's user can execute is taken. Programs are looked for with the service's rights: its user,
groups, chroot and working directory.

`python` and `module` have a page of their own, [python.md](python.md). The script is looked for from `chdir`,
the interpreter like a program. `forward` has a page as well, [forward.md](forward.md); nothing is looked for.

What a program sees as its own name, argv[0], is the first word of `program` as it stands there, as in a
shell, or `argv0`. Where inetd.conf(5) has `/usr/sbin/tcpd in.fingerd`, it is `program: [/usr/sbin/tcpd]` and
`argv0: in.fingerd`; tcpd, which starts what its name says, would start itself otherwise.

The environment is `PATH={DEFAULT_PATH}`, then HOME, USER, LOGNAME
and SHELL with `user_env: true`, then the variables of `inherit_env`, then those of `env`; the later wins.
What is said of the connection (PROTO, TCPREMOTEIP and the like) wins over all of them, and what the client's
rule sets wins over that. A PATH that a rule sets is for the program; the program itself is not searched in
it.

Arguments, environment and the names of variables that rules set may take {MAX_PROGRAM} bytes together, with
four for each besides. The variables of one rule may take {MAX_VARIABLE_BYTES}.

## Resource limits

The launcher of a service lives under the same limits, which is why some have a least value. `cpu` is for
programs alone; what the launcher uses does not count. `nproc` counts all processes of the user, those of
other services with that user too.
"""

_SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("## Top level", schema.File),
    ("## control", ControlSection),
    ("## web", WebSection),
    ("## log", LogSection),
    ("## limits", schema.LimitsSection),
    ("## services.NAME", schema.ServiceSection),
    ("## services.NAME.listen", ListenSection),
    ("## forward", ForwardSection),
    ("## rules", schema.RuleSection),
    ("## lookup", LookupSection),
    ("## proxy", ProxySection),
    ("## tls", TlsDefaults),
    ("## services.NAME.tls", TlsSection),
    ("## certificates", CertificateSection),
    ("## defaults", schema.SettingsSection),
    ("## rlimits", Rlimits),
)


def schema_json() -> str:
    """Return the JSON Schema (draft 2020-12) of the file."""
    definitions: dict[str, Any] = {}
    root = _schema(record(schema.File), definitions)
    document = {"$schema": _DIALECT, "title": "ucspid configuration", **root, "$defs": definitions}
    return json.dumps(document, indent=2) + "\n"


def _schema(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911 - one each
    match shape:
        case Leaf():
            return msgspec.json.schema(shape.annotation)
        case Formed():
            return dict(shape.form.json_schema)
        case Optional():
            return {"anyOf": [_schema(shape.inner, definitions), {"type": "null"}]}
        case Sequence():
            items = _schema(shape.item, definitions)
            array = {"type": "array", "items": items, "minItems": shape.least}
            if shape.most is not None:
                array["maxItems"] = shape.most
            return {"anyOf": [array, items]} if shape.single else array
        case ElseScalar():
            return {"anyOf": [_schema(shape.full, definitions), _schema(shape.alone, definitions)]}
        case Mapping():
            return {
                "type": "object",
                "propertyNames": _schema(shape.key, definitions),
                "additionalProperties": _schema(shape.value, definitions),
                "minProperties": shape.least,
            }
        case Record():
            _define(shape, definitions)
            return {"$ref": f"#/$defs/{shape.struct.__name__}"}


def _define(shape: Record, definitions: dict[str, Any]) -> None:
    definition = {
        "type": "object",
        "description": _text(shape),
        "properties": {field.key: _property(field, definitions) for field in shape.fields.values()},
        "required": [field.key for field in shape.fields.values() if field.required],
        "additionalProperties": False,
    }
    if shape.either:
        definition["oneOf"] = [{"required": [key]} for key in shape.either]
    definitions[shape.struct.__name__] = definition


def _property(field: Field, definitions: dict[str, Any]) -> dict[str, Any]:
    result = {"description": field.description, **_schema(field.shape, definitions)}
    if _has_default(field):
        result["default"] = _default(field)
    return result


def _has_default(field: Field) -> bool:
    return not field.required and not isinstance(field.default(), Said | msgspec.Struct)


def _default(field: Field) -> Any:
    value = field.default()
    return value.written() if isinstance(value, Form) else value


def _text(shape: Record) -> str:
    return " ".join((shape.struct.__doc__ or "").split())


def reference_markdown() -> str:
    """Return the reference page."""
    return f"{_TITLE}\n{_body()}"


def reference_manual() -> str:
    """Return the reference as a manual page."""
    return manual(_body())


def _body() -> str:
    parts = [_INTRODUCTION]
    for heading, struct in _SECTIONS:
        shape = record(struct)
        parts.append(f"{heading}\n\n{_text(shape)}\n")
        if struct is not schema.SettingsSection:
            parts.append(_table(shape))
    return "\n".join([*parts, _ENDING])


def _table(shape: Record) -> str:
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for field in sorted(shape.fields.values(), key=lambda each: not each.required):
        null = "; or null" if isinstance(field.shape, Optional) else ""
        rows.append(
            f"| `{field.key}` | {_value(field.shape)}{null} | {_shown_default(field)} | {field.description} |"
        )
    return "\n".join(rows) + "\n"


def _value(shape: Shape) -> str:
    match shape:
        case Optional():
            return _value(shape.inner)
        case Sequence(single=True):
            return f"{shape.item.expects}; or a list of them"
        case Sequence():
            return f"a list, each {shape.item.expects}"
        case Mapping(value=Record()):
            return "a mapping from names to services"
        case Mapping():
            return f"a mapping from names to {shape.value.expects}"
        case _:
            return shape.expects


def _shown_default(field: Field) -> str:
    if field.required:
        return "required"
    if not _has_default(field):
        return ""
    value = _default(field)
    if value is None:
        return ""
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def main(arguments: list[str]) -> int:
    """Write the schema and the pages to the three paths given; return the exit code."""
    if len(arguments) != _ARGUMENTS:
        sys.stderr.write("usage: python -m ucspid.config.reference SCHEMA PAGE MANUAL\n")
        return EXIT_USAGE
    Path(arguments[0]).write_text(schema_json(), encoding="utf-8")
    Path(arguments[1]).write_text(reference_markdown(), encoding="utf-8")
    Path(arguments[2]).write_text(reference_manual(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
