"""ucspid upgrade: have the running daemon go on as the version that is installed now."""

import argparse
import json

from ucspid.cli.client import call
from ucspid.cli.socket_path import control_of_its_daemon, control_path
from ucspid.cli.waiting import progress_shown
from ucspid.errors import PeerError, ResourceError

TIMEOUT = 300.0
"""Seconds: what is installed is tried first, the file read, launchers started."""
STATUS_TIMEOUT = 30.0
"""Seconds until the new event loop answers."""


def main(options: argparse.Namespace) -> int:
    """Print the versions, and what changed in the file, when the new one serves. Raises what call() raises.

    The old event loop answers just before it exits, and its exit closes the connection; then the
    new one must say that it serves the plan that the master has sent.
    """
    path = control_of_its_daemon(options)
    with progress_shown(path, "upgrade", hidden=options.json):
        result = call(path, "upgrade", {}, TIMEOUT, to_end=True)
    try:
        before, version, generation = result["before"], result["version"], result["generation"]
        changes = result["changes"]
    except KeyError as error:
        raise PeerError(f"the daemon's answer is not of this version ({error})") from None
    status = call(control_path(options), "status", {}, STATUS_TIMEOUT)
    if status["generation"] < generation or status["version"] != version:
        raise ResourceError(f"{version} has not yet taken over from {before}: see the log")
    if options.json:
        print(json.dumps(result))
        return 0
    again = f"{version} again, in new processes"
    print(f"upgraded: {again if version == before else f'{before} -> {version}'}")
    print("\n".join(changes), end="\n" if changes else "")
    return 0
