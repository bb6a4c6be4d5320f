"""ucspid kill, drain, resume, limit, log-level: what an operator changes without the file."""

import argparse
import json
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
    result = _call(options, "kill", args)
    ended = result["sessions"]
    if options.json:
        print(json.dumps(result))
        return 0 if ended else EXIT_NONE
    for session in ended:
        program = f"pid {session['pid']}" if session["pid"] else "whose program is being started"
        print(f"{session['service']} {session['conn']}: {session['remote']}, {program}, "
              f"after {duration(session['age'])}")  # fmt: skip
    how = "killed" if options.now else "sent SIGTERM"
    print(f"{len(ended)} {how}" if ended else "no such session")
    return 0 if ended else EXIT_NONE


def drain(options: argparse.Namespace) -> int:
    """Have a service accept nothing more."""
    result = _call(options, "drain", {"service": options.service})
    live, name = result["live"], options.service
    if not options.json:
        left = f"{_sessions(live)} {'goes' if live == 1 else 'go'} on"
        print(f"{name} accepts nothing more until `ucspid resume {name}`; {left}", flush=True)
    if options.wait and live:
        _wait_for_the_last(options)
        result["live"] = 0
        if not options.json:
            print(f"the last session of {name} has ended")
    if options.json:
        print(json.dumps(result))
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


def resume(options: argparse.Namespace) -> int:
    """Have a paused service accept again."""
    result = _call(options, "resume", {"service": options.service})
    text = f"{options.service} {'accepts again' if result['was_paused'] else 'was not paused'}"
    print(json.dumps(result) if options.json else text)
    return 0


def limit(options: argparse.Namespace) -> int:
    """Set how many sessions a service may have."""
    name, equals, number = options.setting.partition("=")
    if name != "max_connections" or not equals or not (number.isascii() and number.isdigit()):
        raise ConfigError([f"expected max_connections=N, found {options.setting}"])
    args = {"service": options.service, "max_connections": int(number)}
    result = _call(options, "limit", args)
    text = f"{options.service} takes {_sessions(int(number))} at most, until the next reload"
    text += f"; {_sessions(result['live'])} live now, the file says {result['planned']}"
    print(json.dumps(result) if options.json else text)
    return 0


def _sessions(number: int) -> str:
    return f"{number} session" if number == 1 else f"{number} sessions"


def log_level(options: argparse.Namespace) -> int:
    """Set the lowest level that is logged."""
    result = _call(options, "log_level", {"level": options.level})
    text = f"events from {options.level} on are logged, until the next reload"
    print(json.dumps(result) if options.json else text)
    return 0


def _call(options: argparse.Namespace, verb: str, args: dict[str, Any]) -> dict[str, Any]:
    return call(control_path(options), verb, args, TIMEOUT)
