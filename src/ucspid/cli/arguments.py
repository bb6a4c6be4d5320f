"""The arguments of the verbs that operators use on a running daemon.

Nothing is imported for them that the daemon would keep: see verbs.py.
"""

import argparse
from argparse import ArgumentParser

DEFAULT_CONFIG = "/etc/ucspid/ucspid.yaml"

MIN_INTERVAL, MAX_INTERVAL = 0.2, 3600.0
"""Seconds between two looks of ucspid top."""


def sessions_arguments(parser: ArgumentParser) -> None:
    """Add those of sessions."""
    daemon_arguments(parser)
    selecting_arguments(parser)
    parser.add_argument(
        "--sort", choices=("age", "service", "client", "cpu", "memory", "bytes"), default="age",
        help="the order: the largest first, but for names (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--bytes", action="store_true", help="show what came from clients and went to them")
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")


def kill_arguments(parser: ArgumentParser) -> None:
    """Add those of kill."""
    answer_arguments(parser)
    selecting_arguments(parser)
    parser.add_argument("--now", action="store_true", help="send SIGKILL at once, not after kill_timeout")
    parser.add_argument(
        "conns", nargs="*", metavar="CONN", help="a connection, as `ucspid sessions` shows it"
    )


def selecting_arguments(parser: ArgumentParser) -> None:
    """Add those that select sessions."""
    parser.add_argument("--service", metavar="NAME", help="only sessions of this service")
    parser.add_argument(
        "--ip", metavar="NETWORK", help="only those of clients in this network, or unix:uid=NUMBER"
    )
    parser.add_argument(
        "--older", metavar="TIME", help="only those that have lasted so long, such as 90s or 2h"
    )


def service_arguments(parser: ArgumentParser) -> None:
    """Add the daemon's, and a service."""
    answer_arguments(parser)
    parser.add_argument("service", metavar="SERVICE", help="name of the service")


def drain_arguments(parser: ArgumentParser) -> None:
    """Add those of drain."""
    service_arguments(parser)
    parser.add_argument("--wait", action="store_true", help="return when its last session has ended")


def tail_arguments(parser: ArgumentParser) -> None:
    """Add those of tail."""
    daemon_arguments(parser)
    parser.add_argument("--service", metavar="NAME", help="only events of this service")
    parser.add_argument(
        "--ip", metavar="NETWORK", help="only those of clients in this network, or unix:uid=NUMBER"
    )
    parser.add_argument(
        "--event", action="append", metavar="NAME", help="only events of this name; may be given again"
    )
    parser.add_argument(
        "--level", choices=("debug", "info", "warning", "error"), help="the lowest (default: info)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines, as the log may have them")


def top_arguments(parser: ArgumentParser) -> None:
    """Add those of top."""
    daemon_arguments(parser)
    parser.add_argument(
        "--interval", type=interval, default=2.0, metavar="SECONDS", help="between two looks (default: 2)"
    )


def interval(text: str) -> float:
    """Return the seconds that a text says."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not MIN_INTERVAL <= seconds <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text} is no number from {MIN_INTERVAL} to {MAX_INTERVAL}")
    return seconds


def ban_arguments(parser: ArgumentParser) -> None:
    """Add the daemon's, a network, and a service."""
    answer_arguments(parser)
    parser.add_argument(
        "network", metavar="NETWORK", help="an address, a network such as 192.0.2.0/24, or unix:uid=NUMBER"
    )
    parser.add_argument("--service", metavar="NAME", help="by this service only")


def deny_arguments(parser: ArgumentParser) -> None:
    """Add those of deny."""
    ban_arguments(parser)
    parser.add_argument(
        "--for", dest="time", default="1h", metavar="TIME", help="such as 10m (default: %(default)s)"
    )


def limit_arguments(parser: ArgumentParser) -> None:
    """Add those of limit."""
    service_arguments(parser)
    parser.add_argument("setting", metavar="max_connections=N", help="how many sessions it may have")


def log_level_arguments(parser: ArgumentParser) -> None:
    """Add those of log-level."""
    answer_arguments(parser)
    parser.add_argument("level", choices=("debug", "info", "warning", "error"), help="the lowest to log")


def status_arguments(parser: ArgumentParser) -> None:
    """Add those of status."""
    answer_arguments(parser)
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


def answer_arguments(parser: ArgumentParser) -> None:
    """Add the daemon's, and how its answer is printed."""
    daemon_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the daemon's answer as it is, as JSON")


def daemon_arguments(parser: ArgumentParser) -> None:
    """Add those that say which daemon is meant."""
    either = parser.add_mutually_exclusive_group()
    config_argument(either)
    either.add_argument(
        "--control", metavar="PATH", help="control socket of the daemon (default: what FILE says)"
    )
    either.add_argument(
        "--pid", type=int, metavar="PID", help="the daemon's master, wherever its control socket is"
    )


def config_argument(parser: argparse._ActionsContainer) -> None:
    """Add that of the configuration file."""
    parser.add_argument(
        "-c",
        dest="config",
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="configuration file (default: %(default)s)",
    )
