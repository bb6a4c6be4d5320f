"""ucspid rules: compile files of access rules, and check them."""

import argparse
from pathlib import Path

from ucspid.config.rulefiles import examine, kind_of
from ucspid.plan import RulesFile
from ucspid.rules.tcprules import compile_text, install


def main(options: argparse.Namespace) -> int:
    """Do what is asked. Raises OSError, and ConfigError with all that is wrong in the file."""
    if options.action == "compile":
        install(compile_text(Path(options.text).read_bytes(), options.text), options.cdb)
    else:
        count = examine(RulesFile(path=options.file, kind=kind_of(options.file))).count
        print(f"{options.file}: ok, {count} rule{'' if count == 1 else 's'}")
    return 0
