"""ucspid check: read a configuration file as the daemon would."""

import argparse

from ucspid.config.load import load


def main(options: argparse.Namespace) -> int:
    """Print that the file is right. Raises ConfigError with all that is wrong."""
    count = len(load(options.config).services)
    print(f"{options.config}: ok, {count} service{'' if count == 1 else 's'}")
    return 0
