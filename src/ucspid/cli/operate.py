"""ucspid kill, drain, resume, log-level: what an operator changes in a running daemon, without the file."""

import argparse
import sys
from typing import Any

from ucspid.cli.client import call, lines_of
from ucspid.cli.report import duration
from ucspid.cli.sessions import selected
from ucspid.cli.socket_path import control_path
from ucspid.errors import ConfigError

TIMEOUT = 30.0
"""Seconds for an answer."""

ENDS = ("connection_served", "connection_failed", "connection_refused")
"""Events with which connections end."""

EXIT_NONE = 1
"""Nothing was there to be changed."""


def kill(options: argparse.Namespace) -> int:
    """End sessions, and say which."""
    args = selected(options) | ({"now": True} if options.now else {})
    ended = _call(options, "kill", args)["sessions"]
    for session in ended:
        print(f"{session['service']} {session['conn']}: {session['remote']}, pid {session['pid']}, "
              f"after {duration(session['age'])}")  # fmt: skip
    how = "killed" if options.now else "sent SIGTERM"
    print(f"{len(ended)} {how}" if ended else "no such session")
    return 0 if ended else EXIT_NONE


def drain(options: argparse.Namespace) -> int:
    """Have a service accept nothing more."""
    live = _call(options, "drain", {"service": options.service})["live"]
    left = f"{_sessions(live)} {'goes' if live == 1 else 'go'} on"
    name = options.service
    print(f"{name} accepts nothing more until `ucspid resume {name}`; {left}", flush=True)
    if options.wait and live:
        _wait_for_the_last(options)
    return 0


def _wait_for_the_last(options: argparse.Namespace) -> None:
    """Wait until the last session of a service has ended, and say on a terminal how many are left."""
    path, args = control_path(options), {"service": options.service}
    shows = sys.stderr.isatty()
    ends = lines_of(path, "tail", args | {"events": list(ENDS), "level": "info"}, begin=True)
    for _line in ends:
        left = len(call(path, "sessions", args, TIMEOUT)["sessions"])
        if shows:
            print(f"\r{_sessions(left)} left ", end="", file=sys.stderr, flush=True)
        if not left:
            break
    if shows:
        print(file=sys.stderr)
    print(f"the last session of {options.service} has ended")


def resume(options: argparse.Namespace) -> int:
    """Have a paused service accept again."""
    was_paused = _call(options, "resume", {"service": options.service})["was_paused"]
    print(f"{options.service} accepts again" if was_paused else f"{options.service} was not paused")
    return 0


def limit(options: argparse.Namespace) -> int:
    """Set how many sessions a service may have."""
    name, equals, number = options.setting.partition("=")
    if name != "max_connections" or not equals or not (number.isascii() and number.isdigit()):
        raise ConfigError([f"expected max_connections=N, found {options.setting}"])
    args = {"service": options.service, "max_connections": int(number)}
    result = _call(options, "limit", args)
    text = f"{options.service} takes {_sessions(int(number))} at most, until the next reload"
    print(f"{text}; {_sessions(result['live'])} live now, the file says {result['planned']}")
    return 0


def _sessions(number: int) -> str:
    return f"{number} session" if number == 1 else f"{number} sessions"


def log_level(options: argparse.Namespace) -> int:
    """Set the lowest level that is logged."""
    _call(options, "log_level", {"level": options.level})
    print(f"events from {options.level} on are logged, until the next reload")
    return 0


def _call(options: argparse.Namespace, verb: str, args: dict[str, Any]) -> dict[str, Any]:
    return call(control_path(options), verb, args, TIMEOUT)
