"""Texts cut to fit a packet to the loop, and errors printed while there is no loop to log them."""

import json
import sys

from ucspid.linux.journal_stream import leads_to_journal

MAX_TEXT = 32 * 1024
"""Bytes of JSON that one text may take; a packet may carry more than one."""

_MAX_ESCAPE = 12
"""Bytes that JSON takes for a character at most: a surrogate pair, escaped."""


def first_lines(lines: list[str]) -> list[str]:
    """Return the lines, or as many as fit and one that says how many more there are."""
    room = MAX_TEXT
    for count, line in enumerate(lines):
        room -= len(json.dumps(line))
        if room < 0:
            whole = lines[:count] or [line[: MAX_TEXT // _MAX_ESCAPE]]
            more = len(lines) - len(whole)
            return [*whole, f"... and {more} more" if more else "..."]
    return lines


def shortened(problem: object) -> str:
    """Return as much of a problem's text as fits."""
    return "\n".join(first_lines(str(problem).splitlines()))


def print_error(problem: object) -> None:
    """Print an error to standard error: there is no loop to log it. The journal has it as an error."""
    mark = "<3>" if leads_to_journal(2) else ""
    for line in str(problem).splitlines():
        sys.stderr.write(f"{mark}ucspid: {line}\n")
