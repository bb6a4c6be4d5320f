"""The verbs of the command: what each is for, what it takes, and what carries it out.

A verb's module is imported when the verb is called: the daemon's master is a process of this
command, and keeps for good what was imported before it.
"""

import argparse
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NamedTuple

from ucspid.cli.arguments import (
    answer_arguments,
    ban_arguments,
    config_argument,
    deny_arguments,
    drain_arguments,
    kill_arguments,
    limit_arguments,
    log_level_arguments,
    service_arguments,
    sessions_arguments,
    status_arguments,
    tail_arguments,
    top_arguments,
)


class Verb(NamedTuple):
    """A verb: a line of help, what adds its arguments to a parser, and what returns its exit code."""

    help: str
    arguments: Callable[[ArgumentParser], None]
    main: Callable[[Namespace], int]


def _run(options: Namespace) -> int:
    from ucspid.cli import run

    return run.main(options)


def _check(options: Namespace) -> int:
    from ucspid.cli import check

    return check.main(options)


def _explain(options: Namespace) -> int:
    from ucspid.cli import explain

    return explain.main(options)


def _rules(options: Namespace) -> int:
    from ucspid.cli import rules

    return rules.main(options)


def _schema(options: Namespace) -> int:
    from ucspid.cli import schema

    return schema.main(options)


def _version(options: Namespace) -> int:
    from ucspid.cli import version

    return version.main(options)


def _status(options: Namespace) -> int:
    from ucspid.cli import status

    return status.main(options)


def _sessions(options: Namespace) -> int:
    from ucspid.cli import sessions

    return sessions.main(options)


def _kill(options: Namespace) -> int:
    from ucspid.cli import operate

    return operate.kill(options)


def _drain(options: Namespace) -> int:
    from ucspid.cli import operate

    return operate.drain(options)


def _resume(options: Namespace) -> int:
    from ucspid.cli import operate

    return operate.resume(options)


def _tail(options: Namespace) -> int:
    from ucspid.cli import tail

    return tail.main(options)


def _top(options: Namespace) -> int:
    from ucspid.cli import top

    return top.main(options)


def _deny(options: Namespace) -> int:
    from ucspid.cli import bans

    return bans.deny(options)


def _undeny(options: Namespace) -> int:
    from ucspid.cli import bans

    return bans.undeny(options)


def _denied(options: Namespace) -> int:
    from ucspid.cli import bans

    return bans.denied(options)


def _limit(options: Namespace) -> int:
    from ucspid.cli import operate

    return operate.limit(options)


def _log_level(options: Namespace) -> int:
    from ucspid.cli import operate

    return operate.log_level(options)


def _plan(options: Namespace) -> int:
    from ucspid.cli import plan

    return plan.main(options)


def _reload(options: Namespace) -> int:
    from ucspid.cli import reload

    return reload.main(options)


def _upgrade(options: Namespace) -> int:
    from ucspid.cli import upgrade

    return upgrade.main(options)


def _links(options: Namespace) -> int:
    from ucspid.cli import links

    return links.main(options)


def _install(options: Namespace) -> int:
    from ucspid.cli import install

    return install.install(options)


def _uninstall(options: Namespace) -> int:
    from ucspid.cli import install

    return install.uninstall(options)


def _import(options: Namespace) -> int:
    from ucspid.cli import importing

    return importing.main(options)


def _run_arguments(parser: ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument(
        "--ready-fd",
        type=_open_descriptor,
        metavar="N",
        help="write a newline to descriptor N and close it when all listeners listen",
    )


def _explain_arguments(parser: ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("service", metavar="SERVICE", help="name of the service")
    parser.add_argument("ip", metavar="IP", help="the client's address, or unix:uid=NUMBER")
    parser.add_argument("--host", metavar="NAME", help="the client's name, as if it had been looked up")
    parser.add_argument("--info", metavar="USER", help="the ident server's answer, as if it had been asked")
    parser.add_argument("--sni", metavar="NAME", help="the name that the client asks for in TLS")
    parser.add_argument(
        "--san", metavar="NAME", action="append", default=[], help="a name in the client's certificate"
    )
    parser.add_argument("--sha256", metavar="HEX", help="the fingerprint of the client's certificate")
    parser.add_argument("--proxy", metavar="BALANCER", help="the balancer that the client comes by")
    parser.add_argument(
        "--tcprulescheck", action="store_true", help="print what tcprulescheck would: for a tcprules file"
    )


def _rules_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    compile_ = actions.add_parser("compile", help="compile a text file to a cdb, as tcprules does")
    compile_.add_argument("text", metavar="TEXT", help="file of rules")
    compile_.add_argument("cdb", metavar="CDB", help="file to write; replaced atomically")
    check = actions.add_parser("check", help="check a file of rules: exit 0 if it is right, 100 if not")
    check.add_argument("file", metavar="FILE", help="a text, or a cdb if its name ends in .cdb")


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file or a directory of the other server")
    parser.add_argument(
        "--root", default="/", metavar="DIR", help="read the files of another host: all paths are below DIR"
    )


def _links_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of the links, such as /usr/local/bin")
    parser.add_argument("--remove", action="store_true", help="remove the links that were made there")


def _install_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help="do it; without, only show it")
    parser.add_argument(
        "--root", default="/", metavar="DIR", help="the host whose files are below DIR (default: this one)"
    )


def _no_arguments(_parser: ArgumentParser) -> None:
    """Add nothing."""


def _open_descriptor(text: str) -> int:
    try:
        descriptor = int(text)
        os.fstat(descriptor)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text} is not the number of an open descriptor") from None
    return descriptor


VERBS = {
    "run": Verb("run the daemon in the foreground", _run_arguments, _run),
    "check": Verb("check a configuration file: exit 0 if it is right, 100 if not", config_argument, _check),
    "explain": Verb("show what a service's rules say to a client", _explain_arguments, _explain),
    "rules": Verb("compile or check a file of access rules", _rules_arguments, _rules),
    "import": Verb(
        "write a configuration file from what another server has: exit 2 if something has no equivalent",
        _import_arguments,
        _import,
    ),
    "schema": Verb("print the JSON Schema of the configuration file", _no_arguments, _schema),
    "version": Verb("print the version", _no_arguments, _version),
    "status": Verb("show the running daemon's processes, services and counts", status_arguments, _status),
    "sessions": Verb("list the running daemon's sessions", sessions_arguments, _sessions),
    "kill": Verb("end sessions: exit 1 if there are none such", kill_arguments, _kill),
    "drain": Verb("have a service accept nothing more; its sessions go on", drain_arguments, _drain),
    "resume": Verb("have a drained service accept again", service_arguments, _resume),
    "limit": Verb("set a limit of a service, until the next reload", limit_arguments, _limit),
    "tail": Verb("show events as they come, until interrupted", tail_arguments, _tail),
    "top": Verb("show live what the daemon does; keys sort, drain, kill, deny", top_arguments, _top),
    "deny": Verb("refuse the clients of a network for a time", deny_arguments, _deny),
    "undeny": Verb("refuse them no more: exit 1 if they were not denied", ban_arguments, _undeny),
    "denied": Verb("list the networks that are denied, and until when", answer_arguments, _denied),
    "log-level": Verb("log from another level on, until the next reload", log_level_arguments, _log_level),
    "plan": Verb("show what a reload would change", answer_arguments, _plan),
    "reload": Verb("make the running daemon read its configuration file again", answer_arguments, _reload),
    "upgrade": Verb("make the running daemon go on as the version now installed", answer_arguments, _upgrade),
    "install": Verb("show what this host needs, or make it", _install_arguments, _install),
    "uninstall": Verb("show what install has made, or remove it", _install_arguments, _uninstall),
    "links": Verb("make the tools available under their own names", _links_arguments, _links),
}
