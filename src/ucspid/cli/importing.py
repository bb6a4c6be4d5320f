"""ucspid import: a configuration file from what other servers have."""

import argparse
import sys

from ucspid.errors import ConfigError
from ucspid.importers.collect import import_paths
from ucspid.importers.host import Host

EXIT_INCOMPLETE = 2
"""Something of the sources has no equivalent: it is a comment in the file, and a line on standard error."""


def main(options: argparse.Namespace) -> int:
    """Print the file, and what was not imported on standard error. Raises OSError, ConfigError."""
    text, description = import_paths(options.paths, Host(options.root))
    notes = list(description.all_notes())
    for note in notes:
        print(note, file=sys.stderr)
    if text is None:
        raise ConfigError([f"{', '.join(options.paths)}: no service that could run: nothing is written"])
    print(text, end="")
    return EXIT_INCOMPLETE if notes else 0
