"""ucspid schema: the JSON Schema of the configuration file."""

import argparse

from ucspid.config.reference import schema_json


def main(_options: argparse.Namespace) -> int:
    """Print the schema."""
    print(schema_json().rstrip("\n"))
    return 0
