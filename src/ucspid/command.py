"""The command: a tool, by its first argument or by the name it is called by; otherwise a verb.

Only what runs is imported: most tools take no longer than the interpreter itself.
"""

import os
import sys
from importlib import import_module

from ucspid.tools.process import run
from ucspid.tools.table import TOOLS


def main() -> int:
    """Be the tool that is called, or run the verb and return its exit code."""
    called = os.path.basename(sys.argv[0])
    if called in TOOLS:
        run(import_module(TOOLS[called]).main, sys.argv)
    if len(sys.argv) > 1 and sys.argv[1] in TOOLS:
        run(import_module(TOOLS[sys.argv[1]]).main, sys.argv[1:])
    return int(import_module("ucspid.cli.main").main())
