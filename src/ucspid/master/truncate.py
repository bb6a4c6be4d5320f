"""The beginning of a text of many lines: as much of it as fits a packet to the loop."""

import json
import sys

MOST = 32 * 1024
"""Bytes of JSON that the lines may take; a packet may carry more than one such text's worth."""


def beginning(lines: list[str]) -> list[str]:
    """Return the lines, or as many as fit and one that says how many more there are."""
    room = MOST
    for count, line in enumerate(lines):
        room -= len(json.dumps(line))
        if room < 0:
            return [*lines[:count], f"... and {len(lines) - count} more"]
    return lines


def short(problem: object) -> str:
    """Return as much of a problem's text as fits a packet."""
    return "\n".join(beginning(str(problem).splitlines()))


def say(problem: object) -> None:
    """Print what there is no loop to log: the daemon does not start."""
    for line in str(problem).splitlines():
        sys.stderr.write(f"ucspid: {line}\n")
