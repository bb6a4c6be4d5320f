"""The command ucspid: reads the arguments, calls the verb's module, maps errors to exit codes.

The verb's module is imported when it is called for: the daemon's master is a process of this
command, and keeps for good what was imported before it.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError, PeerError, UcspidError

DEFAULT_CONFIG = "/etc/ucspid/ucspid.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command on argv (sys.argv without its first word, if None); return the exit code."""
    options = parser().parse_args(argv)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignored it would hide children's ends
    try:
        code: int = importlib.import_module(f"ucspid.cli.{options.verb}").main(options)
        print(end="", flush=True)
    except (UcspidError, OSError, KeyboardInterrupt) as error:
        _discard_output()
        return _report(error)
    return code


class Parser(argparse.ArgumentParser):
    """argparse with the exit code that tools of the field use for wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    top = Parser(prog="ucspid", description="One superserver for all of a host's UCSPI services.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = verbs.add_parser("run", help="run the daemon in the foreground")
    _add_config(run)
    run.add_argument(
        "--ready-fd",
        type=_open_descriptor,
        metavar="N",
        help="write a newline to descriptor N and close it when all listeners listen",
    )
    _add_config(
        verbs.add_parser("check", help="check a configuration file: exit 0 if it is right, 100 if not")
    )
    _add_explain(verbs.add_parser("explain", help="show what a service's rules say to a client"))
    _add_rules(verbs.add_parser("rules", help="compile or check a file of access rules"))
    verbs.add_parser("schema", help="print the JSON Schema of the configuration file")
    verbs.add_parser("version", help="print the version")
    status = verbs.add_parser("status", help="show the running daemon's processes, services and counts")
    _add_daemon(status)
    status.add_argument("--json", action="store_true", help="print it as the daemon tells it, as JSON")
    status.add_argument(
        "--verify", action="store_true", help="have the daemon check its books: exit 1 if they do not agree"
    )
    reload = verbs.add_parser("reload", help="make the running daemon read its configuration file again")
    _add_daemon(reload)
    upgrade = verbs.add_parser("upgrade", help="make the running daemon go on as the version now installed")
    _add_daemon(upgrade)
    return top


def _add_explain(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("service", metavar="SERVICE", help="name of the service")
    parser.add_argument("ip", metavar="IP", help="the client's address")
    parser.add_argument("--host", metavar="NAME", help="the client's name, as if it had been looked up")
    parser.add_argument("--info", metavar="USER", help="the ident server's answer, as if it had been asked")
    parser.add_argument(
        "--tcprulescheck", action="store_true", help="print what tcprulescheck would: for a tcprules file"
    )


def _add_rules(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    compile_ = actions.add_parser("compile", help="make a cdb of a text, as tcprules does")
    compile_.add_argument("text", metavar="TEXT", help="file of rules")
    compile_.add_argument("cdb", metavar="CDB", help="file to write, or to replace at once")
    check = actions.add_parser("check", help="check a file of rules: exit 0 if it is right, 100 if not")
    check.add_argument("file", metavar="FILE", help="a text, or a cdb if its name ends in .cdb")


def _add_config(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "-c",
        dest="config",
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="configuration file (default: %(default)s)",
    )


def _add_daemon(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    _add_config(either)
    either.add_argument(
        "--control", metavar="PATH", help="control socket of the daemon (default: what FILE says)"
    )


def _open_descriptor(text: str) -> int:
    try:
        descriptor = int(text)
        os.fstat(descriptor)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text} is not the number of an open descriptor") from None
    return descriptor


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
    """Let nothing be left that Python would fail to write, and complain of, when it exits."""
    try:
        print(end="", flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
