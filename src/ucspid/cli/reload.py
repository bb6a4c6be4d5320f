"""ucspid reload: have the running daemon take up its configuration file, and show what changed."""

import argparse
import json

from ucspid.cli.client import call
from ucspid.cli.socket_path import control_of_its_daemon
from ucspid.cli.waiting import progress_shown

TIMEOUT = 300.0
"""Seconds: the daemon answers when the new configuration is in force, and looks up users for it."""


def main(options: argparse.Namespace) -> int:
    """Print a line for each change. Raises what call() raises; ConfigError if the new file is wrong."""
    path = control_of_its_daemon(options)
    with progress_shown(path, "reload", hidden=options.json):
        result = call(path, "reload", {}, TIMEOUT)
    print(json.dumps(result) if options.json else "\n".join(result["changes"]) or "nothing changed")
    return 0
