"""python -m ucspid.launcher.native.wire_header [FILE]: the layouts of messages, as a header for C.

The classes of ipc.messages are the one source. Numbers become the members of a struct, of which a packet has
the first SIZE bytes: the C compiler is made to check that each stands where Python has it. What is of no
fixed size follows them in a packet; C has its place there as a number, with a name that changes if it does.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any

from ucspid import codec
from ucspid.ipc import messages, session_table
from ucspid.profile import Profile

_MESSAGES = (
    messages.Start, messages.Signal, messages.ListSessions, messages.Drain,
    messages.SetProgram, messages.AllowNames, messages.ForbidNames, messages.RemovePrograms,
    messages.Orphans, messages.OrphanExit, messages.TakePrivileges,
    messages.Ready, messages.PrivilegesRefused, messages.SignalOrphan,
)  # fmt: skip
_PARTS = (messages.Report, Profile, session_table.SessionSlot)
_NUMBERS = {
    "VERSION": messages.VERSION,
    "MAX_PACKET": messages.MAX_PACKET,
    "TAG_SIZE": messages.TAG_SIZE,
    "MAX_IN_FLIGHT": messages.MAX_IN_FLIGHT,
    "SOCKETS": messages.SOCKETS,
    "SOCKETS_WITH_TLS": messages.SOCKETS_WITH_TLS,
    "CONTROL": messages.CONTROL,
    "PLAIN": messages.PLAIN,
    "CAPACITY": session_table.CAPACITY,
    "STATUS_UNKNOWN": messages.STATUS_UNKNOWN,
    **{
        name: getattr(messages, name)
        for name in (
            "STARTED", "FAILED", "EXITED", "RUNNING", "LISTED", "HELLO",
            "STDERR_KEPT", "STDERR_GIVEN", "STDERR_CLIENT",
        )
    },
}  # fmt: skip
_TYPES = {
    "B": "uint8_t", "?": "uint8_t", "H": "uint16_t", "I": "uint32_t", "Q": "uint64_t", "i": "int32_t",
}  # fmt: skip
_ABSENT = {"I": ("U32", "UINT32_MAX"), "i": ("I32", "INT32_MIN"), "Q": ("U64", "UINT64_MAX")}


def text() -> str:
    """Return the header."""
    parts = [_HEAD, "enum {", *(f"\tWIRE_{name} = {value}," for name, value in _NUMBERS.items()), "};", ""]
    parts += [f"#define WIRE_ABSENT_{name} {limit}" for name, limit in _ABSENT.values()]
    for cls in (*_MESSAGES, *_PARTS):
        parts += ["", *_layout(cls)]
    return "\n".join([*parts, "", "#endif", ""])


_HEAD = """\
/* Generated from ucspid.ipc.messages by wire_header.py: make native. */
#ifndef UCSPID_WIRE_H
#define UCSPID_WIRE_H

#include <stddef.h>
#include <stdint.h>
"""


def _layout(cls: type[codec.Packed]) -> Iterator[str]:
    """Yield the lines for one class."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
    fields: list[tuple[str, Any]] = list(cls.FIELDS)
    numbers = [(field, kind) for field, kind in fields if hasattr(kind, "code")]
    tails = [(field, kind) for field, kind in fields if not hasattr(kind, "code")]
    yield f"struct wire_{name} {{"
    if cls.KIND:
        yield "\tuint8_t kind;"
    yield from (f"\t{_member(_name(field), kind.code)};" for field, kind in numbers)
    yield "};"
    yield "enum {"
    if cls.KIND:
        yield f"\tWIRE_{name.upper()} = {cls.KIND},"
    yield f"\tWIRE_{name.upper()}_SIZE = {cls.SIZE},"
    yield "};"
    if tails:
        yield f"enum wire_{name}_tail {{"
        kinds = [re.sub(r"^_", "", kind.__name__).upper() for _field, kind in tails]
        for (field, _kind), kind in zip(tails, kinds, strict=True):
            yield f"\tWIRE_{name.upper()}_{field.upper()}_{kind},"
        yield f"\tWIRE_{name.upper()}_TAILS,"
        yield "};"
    end = 1 if cls.KIND else 0
    for field, kind in numbers:
        place = end + -end % kind.alignment
        end = place + kind.size
        yield f'_Static_assert(offsetof(struct wire_{name}, {_name(field)}) == {place}, "{name}.{field}");'
    assert end == cls.SIZE


def _name(field: str) -> str:
    """Return the name of a member: some C libraries have a macro of the field's."""
    return "stderr_" if field == "stderr" else field


def _member(field: str, code: str) -> str:
    size = code.rstrip("s")
    return f"uint8_t {field}[{size}]" if size != code else f"{_TYPES[code]} {field}"


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write(text())
