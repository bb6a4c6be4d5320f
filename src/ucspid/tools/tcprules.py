"""tcprules CDB TMP: compile the rules on descriptor 0, by way of a file that is renamed at the end."""

from __future__ import annotations

import os

from ucspid.errors import ConfigError
from ucspid.rules.cdb import make
from ucspid.rules.keys import stored
from ucspid.rules.tcprules import parse_line
from ucspid.tools.messages import EXIT_SYSTEM, EXIT_USAGE, ToolError, system_error
from ucspid.tools.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FATAL = b"tcprules: fatal: "


def main(argv: list[bytes]) -> int:
    """Compile, and return the exit code. Raises ToolError; the rules that were there stay then."""
    if len(argv) < 3:  # noqa: PLR2004 - two names
        raise ToolError(EXIT_USAGE, b"tcprules: usage: tcprules rules.cdb rules.tmp")
    final, temporary = argv[1:3]
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o644)
    except OSError as error:
        raise system_error(error, FATAL, b"unable to create ", temporary, b": ") from None
    cannot_write = (FATAL, b"unable to write to ", temporary, b": ")
    try:
        content = make(_records(), os.fsdecode(final))
    except ConfigError:  # larger than a cdb can be
        raise ToolError(EXIT_SYSTEM, *cannot_write, b"out of memory") from None
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
        os.close(descriptor)
    except OSError as error:
        raise system_error(error, *cannot_write) from None
    try:
        os.rename(temporary, final)
    except OSError as error:
        raise system_error(error, FATAL, b"unable to move ", temporary, b" to ", final, b": ") from None
    return 0


def _records() -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of the rules, as they are read. Raises ToolError."""
    for number, line in enumerate(_lines(), 1):
        try:
            rules = list(parse_line(line, number))
        except ValueError:
            shown = line.rstrip(b" \t").partition(b"\0")[0]
            raise ToolError(EXIT_USAGE, FATAL, b"unable to parse this line: ", shown) from None
        for rule in rules:
            yield stored(rule.key, rule.target), rule.data


def _lines() -> Iterator[bytes]:
    try:
        with open(0, "rb", closefd=False) as file:
            for line in file:
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise system_error(error, FATAL, b"unable to read input: ") from None
