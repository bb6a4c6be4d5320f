"""`python -m bench`: run cases, print tables, write JSON. See bench/README.md."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import measure
from bench.build import CannotBuildError, build
from bench.contest import FAILURES, Settings
from bench.registry import CASES
from bench.report import from_json, markdown, wanted_markdown
from bench.wanted import wanted
from ucspid.errors import UcspidError

_ROUNDS = 5


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    options = _options()
    if options.table:
        _print(json.loads(options.table.read_text()))
        return 0
    rounds = options.rounds or (1 if options.short else _ROUNDS)
    with tempfile.TemporaryDirectory(prefix="ucspid-bench-") as name:
        files = Path(name)
        files.chmod(0o755)  # the programs are started by other users, if this is root
        try:
            programs = build(files)
        except CannotBuildError as problem:
            sys.stderr.write(f"bench: {problem}\n")
            return 111
        settings = Settings(programs, files, rounds, options.short)
        report = _run(settings, options.case or list(CASES))
    if options.output:
        options.output.write_text(json.dumps(report, separators=(",", ":"), ensure_ascii=False) + "\n")
    return 1 if report["failed"] else 0


def _run(settings: Settings, names: list[str]) -> dict[str, object]:
    report: dict[str, object] = {
        "machine": measure.machine(),
        "rounds": settings.rounds,
        "short": settings.short,
    }
    results = []
    failed = {}
    for name in names:
        began = time.monotonic()
        try:
            result = CASES[name](settings)
        except (*FAILURES, UcspidError) as problem:
            failed[name] = f"{type(problem).__name__}: {problem}"
            sys.stderr.write(f"bench: {name} failed: {failed[name]}\n")
            continue
        results.append(result)
        print(markdown(result), flush=True)
        sys.stderr.write(f"bench: {name} took {time.monotonic() - began:.1f} s\n")
    targets = wanted(results)
    print(wanted_markdown(targets, short=settings.short))
    return report | {
        "results": [result.as_json() for result in results],
        "failed": failed,
        "wanted": targets,
    }


def _print(report: dict[str, Any]) -> None:
    """Print the tables of an earlier run."""
    results = [from_json(item) for item in report["results"]]
    for result in results:
        print(markdown(result))
    print(wanted_markdown(wanted(results), short=report["short"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="a case to run; again for more; all"
    )
    parser.add_argument("--rounds", type=int, help=f"rounds of each case ({_ROUNDS}; 1 with --short)")
    parser.add_argument("--short", action="store_true", help="just show that everything runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the tables of a file of results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
