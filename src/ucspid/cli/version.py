"""ucspid version: which one this is."""

import argparse

import ucspid


def main(_options: argparse.Namespace) -> int:
    """Print the version."""
    print(f"ucspid {ucspid.__version__}")
    return 0
