"""The verbs of the command: what each is for, what it takes, and what carries it out.

A verb's module is imported when the verb is called: the daemon's master is a process of this
command, and keeps for good what was imported before it.
"""

import argparse
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NamedTuple

DEFAULT_CONFIG = "/etc/ucspid/ucspid.yaml"


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
    _config_argument(parser)
    parser.add_argument(
        "--ready-fd",
        type=_open_descriptor,
        metavar="N",
        help="write a newline to descriptor N and close it when all listeners listen",
    )


def _explain_arguments(parser: ArgumentParser) -> None:
    _config_argument(parser)
    parser.add_argument("service", metavar="SERVICE", help="name of the service")
    parser.add_argument("ip", metavar="IP", help="the client's address")
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


def _status_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the daemon's answer as it is, as JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="have the daemon compare its counts with what runs: exit 1 if they differ",
    )
    parser.add_argument(
        "--service", action="append", metavar="NAME", help="only this service; may be given again"
    )
    parser.add_argument(
        "--troubled", action="store_true", help="only services that are in trouble: exit 1 if there are any"
    )


def _sessions_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    _selecting_arguments(parser)
    parser.add_argument(
        "--sort", choices=("age", "service", "client", "cpu", "memory"), default="age",
        help="the order: the largest first, but for names (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")


def _kill_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    _selecting_arguments(parser)
    parser.add_argument("--now", action="store_true", help="send SIGKILL at once, not after kill_timeout")
    parser.add_argument(
        "conns", nargs="*", metavar="CONN", help="a connection, as `ucspid sessions` shows it"
    )


def _selecting_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--service", metavar="NAME", help="only sessions of this service")
    parser.add_argument("--ip", metavar="NETWORK", help="only those of clients in this network")
    parser.add_argument(
        "--older", metavar="TIME", help="only those that have lasted so long, such as 90s or 2h"
    )


def _service_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("service", metavar="SERVICE", help="name of the service")


def _tail_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("--service", metavar="NAME", help="only events of this service")
    parser.add_argument("--ip", metavar="NETWORK", help="only those of clients in this network")
    parser.add_argument(
        "--event", action="append", metavar="NAME", help="only events of this name; may be given again"
    )
    parser.add_argument(
        "--level", choices=("debug", "info", "warning", "error"), help="the lowest (default: info)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines, as the log may have them")


def _ban_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("network", metavar="NETWORK", help="an address, or a network such as 192.0.2.0/24")
    parser.add_argument("--service", metavar="NAME", help="by this service only")


def _deny_arguments(parser: ArgumentParser) -> None:
    _ban_arguments(parser)
    parser.add_argument(
        "--for", dest="time", default="1h", metavar="TIME", help="such as 10m (default: %(default)s)"
    )


def _denied_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the daemon's answer as it is, as JSON")


def _plan_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the daemon's answer as it is, as JSON")


def _limit_arguments(parser: ArgumentParser) -> None:
    _service_arguments(parser)
    parser.add_argument("setting", metavar="max_connections=N", help="how many sessions it may have")


def _log_level_arguments(parser: ArgumentParser) -> None:
    _daemon_arguments(parser)
    parser.add_argument("level", choices=("debug", "info", "warning", "error"), help="the lowest to log")


def _daemon_arguments(parser: ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    _config_argument(either)
    either.add_argument(
        "--control", metavar="PATH", help="control socket of the daemon (default: what FILE says)"
    )
    either.add_argument(
        "--pid", type=int, metavar="PID", help="the daemon's master, wherever its control socket is"
    )


def _links_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder of the links, such as /usr/local/bin")
    parser.add_argument("--remove", action="store_true", help="remove the links that were made there")


def _install_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help="do it; without, only show it")
    parser.add_argument(
        "--root", default="/", metavar="DIR", help="the host whose files are below DIR (default: this one)"
    )


def _config_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "-c",
        dest="config",
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="configuration file (default: %(default)s)",
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
    "check": Verb("check a configuration file: exit 0 if it is right, 100 if not", _config_argument, _check),
    "explain": Verb("show what a service's rules say to a client", _explain_arguments, _explain),
    "rules": Verb("compile or check a file of access rules", _rules_arguments, _rules),
    "import": Verb(
        "write a configuration file from what another server has: exit 2 if something has no equivalent",
        _import_arguments,
        _import,
    ),
    "schema": Verb("print the JSON Schema of the configuration file", _no_arguments, _schema),
    "version": Verb("print the version", _no_arguments, _version),
    "status": Verb("show the running daemon's processes, services and counts", _status_arguments, _status),
    "sessions": Verb("list the running daemon's sessions", _sessions_arguments, _sessions),
    "kill": Verb("end sessions: exit 1 if there are none such", _kill_arguments, _kill),
    "drain": Verb("have a service accept nothing more; its sessions go on", _service_arguments, _drain),
    "resume": Verb("have a drained service accept again", _service_arguments, _resume),
    "limit": Verb("set a limit of a service, until the next reload", _limit_arguments, _limit),
    "tail": Verb("show events as they come, until interrupted", _tail_arguments, _tail),
    "deny": Verb("refuse the clients of a network for a time", _deny_arguments, _deny),
    "undeny": Verb("refuse them no more: exit 1 if they were not denied", _ban_arguments, _undeny),
    "denied": Verb("list the networks that are denied, and until when", _denied_arguments, _denied),
    "log-level": Verb("log from another level on, until the next reload", _log_level_arguments, _log_level),
    "plan": Verb("show what a reload would change", _plan_arguments, _plan),
    "reload": Verb("make the running daemon read its configuration file again", _daemon_arguments, _reload),
    "upgrade": Verb(
        "make the running daemon go on as the version now installed", _daemon_arguments, _upgrade
    ),
    "install": Verb("show what this host needs, or make it", _install_arguments, _install),
    "uninstall": Verb("show what install has made, or remove it", _install_arguments, _uninstall),
    "links": Verb("make the tools available under their own names", _links_arguments, _links),
}
