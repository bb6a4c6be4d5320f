"""ucspid status: what the running daemon is and does, as tables or as JSON; whether its counts match."""

import argparse
import json

from ucspid.cli.client import call
from ucspid.cli.report import report
from ucspid.cli.socket_path import control_path
from ucspid.errors import PeerError

TIMEOUT = 10.0
"""Seconds."""

EXIT_DIFFERENT = 1
"""The daemon's counts do not match what runs."""


def main(options: argparse.Namespace) -> int:
    """Print the status. Raises what call() raises; PeerError if the daemon is of another version."""
    if options.verify:
        return _verify(options)
    status = call(control_path(options), "status", {}, TIMEOUT)
    try:
        print(json.dumps(status) if options.json else report(status))
    except (KeyError, TypeError, AttributeError) as error:
        raise PeerError(f"the daemon's status is not of this version ({error!r}): --json shows it") from None
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Have the daemon compare its counts with what runs; return 1 if they do not match."""
    found = call(control_path(options), "verify", {}, TIMEOUT)
    if options.json:
        print(json.dumps(found))
    elif found["differences"]:
        print("\n".join(found["differences"]))
    else:
        counts = (_count(found[f"{what}s"], what) for what in ("session", "launcher"))
        print(f"counts match: {', '.join(counts)}, {_count(found['processes'], 'process', 'es')}")
    return EXIT_DIFFERENT if found["differences"] else 0


def _count(number: int, what: str, ending: str = "s") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{ending}"
