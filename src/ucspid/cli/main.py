"""The command ucspid: reads the arguments, calls the verb, maps errors to exit codes."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from ucspid import __version__
from ucspid.cli.arguments import DEFAULT_CONFIG
from ucspid.cli.verbs import VERBS
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError, PeerError, UcspidError
from ucspid.tools.table import TOOLS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command on argv (sys.argv without its first word, if None); return the exit code."""
    if argv is None:
        _use_utf8()
    words = sys.argv[1:] if argv is None else argv
    options = parser([verb for verb in words[:1] if verb in VERBS] or VERBS).parse_args(words)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignored it would hide children's ends
    try:
        code = VERBS[options.verb].main(options)
        print(end="", flush=True)
    except (UcspidError, OSError, KeyboardInterrupt) as error:
        _discard_output()
        code = _report(error)
    if code and _lacks_file(options):
        print("ucspid: name the daemon's file with -c FILE", file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """argparse with the exit code that tools of the field use for wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser(known: Iterable[str] = VERBS) -> Parser:
    """Return the parser of the command's arguments, for some of its verbs: all take 8 ms to describe."""
    top = Parser(
        prog="ucspid",
        description="One superserver for all of a host's UCSPI services.",
        epilog=f"It is also each of these tools, as ucspid TOOL ...: {', '.join(TOOLS)}.",
    )
    top.add_argument("--version", action="version", version=f"ucspid {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in known:
        VERBS[name].arguments(verbs.add_parser(name, help=VERBS[name].help))
    return top


def _use_utf8() -> None:
    """Read and write UTF-8 whatever the locale: where it has another encoding, start anew in UTF-8 mode."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def _lacks_file(options: argparse.Namespace) -> bool:
    """Return whether the default file was meant, and is not there."""
    if any(getattr(options, name, None) is not None for name in ("control", "pid")):
        return False
    return getattr(options, "config", None) == DEFAULT_CONFIG and not os.path.lexists(DEFAULT_CONFIG)


def _report(error: BaseException) -> int:
    """Say on stderr what went wrong, if the user does not know it, and return the exit code."""
    if isinstance(error, BrokenPipeError | KeyboardInterrupt):
        return EXIT_SYSTEM
    if isinstance(error, ConfigError):
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"ucspid: {where}{error.strerror}", file=sys.stderr)
    else:
        print(f"ucspid: {error}", file=sys.stderr)
    return EXIT_USAGE if isinstance(error, PeerError) else EXIT_SYSTEM


def _discard_output() -> None:
    """Discard what Python would fail to write, and complain of, when it exits."""
    try:
        print(end="", flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
