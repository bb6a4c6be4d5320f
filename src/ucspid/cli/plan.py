"""ucspid plan: what a reload would change."""

import argparse
import json

from ucspid.cli.client import call
from ucspid.cli.socket_path import control_of_its_daemon

TIMEOUT = 60.0
"""Seconds: the file is read, and users and programs are looked up for it."""


def main(options: argparse.Namespace) -> int:
    """Print a line for each change. Raises what call() raises; ConfigError if the file is wrong."""
    result = call(control_of_its_daemon(options), "plan", {}, TIMEOUT)
    if options.json:
        print(json.dumps(result))
        return 0
    print("\n".join(result["changes"]) or "a reload would change nothing")
    if result["another_loop"]:
        print("a reload would replace the event loop; sessions go on")
    return 0
