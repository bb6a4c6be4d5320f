"""ucspid status: what the running daemon is and does, as tables or as JSON."""

import argparse
import json

from ucspid.cli.client import call
from ucspid.cli.report import report
from ucspid.cli.socket_path import control_path
from ucspid.errors import PeerError

TIMEOUT = 10.0
"""Seconds."""


def main(options: argparse.Namespace) -> int:
    """Print the status. Raises what call() raises; PeerError if the daemon is of another version."""
    status = call(control_path(options), "status", {}, TIMEOUT)
    try:
        print(json.dumps(status) if options.json else report(status))
    except (KeyError, TypeError, AttributeError) as error:
        raise PeerError(f"the daemon's status is not of this version ({error!r}): --json shows it") from None
    return 0
