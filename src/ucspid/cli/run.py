"""ucspid run: become the daemon's master."""

import argparse

from ucspid.master.start import run


def main(options: argparse.Namespace) -> int:
    """Run until the daemon ends; return its exit code."""
    return run(config=options.config, ready_fd=options.ready_fd)
