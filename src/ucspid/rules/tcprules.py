"""The text form of access rules, as tcprules reads it, and its compilation to a cdb.

    ADDRESS:allow|deny[,NAME="VALUE"]…

The address ends at the first :allow or :deny, so that it may be one of IPv6. Every line that
tcprules accepts means here what it means there. There are three exceptions, all for rules that
nobody can have meant: a NUL byte in a rule and a variable without a name are refused; an address
with a slash, which for tcprules matches nobody, is a network, and is refused if it is not one.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from ucspid.errors import ConfigError
from ucspid.rules.cdb import make
from ucspid.rules.keys import Target, parse, stored

MAX_PROBLEMS = 20
"""After so many wrong lines the rest of a file is not read: it is probably not a rules file at all."""

_RULE = re.compile(rb"(.*?):(allow|deny)(.*)", re.DOTALL)
_VARIABLE = re.compile(rb",([^=]*)=(.)(.*?)\2", re.DOTALL)
_SHOWN = 200
"""How much of a wrong line an error shows, in bytes."""
_ULONG = 2**64
"""tcprules counts in an unsigned long, which wraps."""


class TextRule(NamedTuple):
    """A rule as a text or a compiled file has it; line is 0 in a compiled file.

    data is that of the cdb: D for deny, +NAME=VALUE for each variable, each with a NUL after it.
    """

    key: bytes
    target: Target
    data: bytes
    line: int


def parse_text(text: bytes, path: str) -> list[TextRule]:
    """Return the rules of a text in order, ranges written out.

    Raises ConfigError with a problem for each wrong line, up to MAX_PROBLEMS.
    """
    records: list[TextRule] = []
    problems: list[str] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        try:
            records.extend(parse_line(line, number))
        except ValueError as error:
            shown = line[:_SHOWN].decode("ascii", "backslashreplace")
            problems.append(f"{path}:{number}: {error}: {shown!r}")
            if len(problems) == MAX_PROBLEMS:
                break
    if problems:
        raise ConfigError(problems)
    return records


def parse_line(line: bytes, number: int) -> Iterator[TextRule]:
    """Yield the rules of a line: one, none for a comment, several for a range. Raises ValueError."""
    line = line.rstrip(b" \t")
    if line.startswith(b"#") or b":" not in line:
        return
    if b"\0" in line:
        raise ValueError("a NUL byte")
    rule = _RULE.fullmatch(line)
    if rule is None:
        raise ValueError("no :allow or :deny")
    address, verdict, variables = rule.groups()
    data = (b"D\0" if verdict == b"deny" else b"") + _parse_variables(variables)
    for key in _expand_range(address):
        yield TextRule(key, parse(key), data, number)


def compile_text(text: bytes, path: str) -> bytes:
    """Return the cdb that tcprules writes for a text. Raises ConfigError, CdbError if it gets too long."""
    records = parse_text(text, path)
    return make(((stored(record.key, record.target), record.data) for record in records), path)


def install(content: bytes, path: str) -> None:
    """Replace a file at once: a reader sees either the old one or the new one. Raises OSError.

    It is on the disk before it gets its name; whatever goes wrong leaves the old file as it was.
    It has the permissions of the old file, and its owner and group as far as the system allows:
    who could read the rules still can, and nobody else.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _copy_owner_and_mode(path, descriptor)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _copy_owner_and_mode(path: str, descriptor: int) -> None:
    """Give the file that is being written the owner, group and permissions of the one it replaces."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, owner, group)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)


def _parse_variables(text: bytes) -> bytes:
    data = b""
    position = 0
    while position < len(text):
        variable = _VARIABLE.match(text, position)
        if variable is None:
            raise ValueError('what follows the verdict is not ,NAME="VALUE"')
        name, _, value = variable.groups()
        if not name:
            raise ValueError("a variable without a name")
        data += b"+" + name + b"=" + value + b"\0"
        position = variable.end()
    return data


def _expand_range(address: bytes) -> Iterator[bytes]:
    """Yield the addresses of a range of numbers in one component: 1.2.3.4-7, 1.2-3."""
    if b"-" not in address or b"=" in address or b"@" in address:
        yield address
        return
    head, _, tail = address.partition(b"-")
    before, before_dot, first = head.rpartition(b".")
    last, after_dot, after = tail.partition(b".")
    for number in range(_number(first), min(_number(last), 255) + 1):
        yield before + before_dot + b"%d" % number + after_dot + after


def _number(digits: bytes) -> int:
    if digits and not digits.isdigit():
        raise ValueError("the bound of a range is not a number")
    return int(digits or b"0") % _ULONG
