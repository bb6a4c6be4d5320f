"""ucspid deny, undeny, denied: clients that an operator keeps out for a time."""

import argparse
import json
from typing import Any

from ucspid.cli.client import call
from ucspid.cli.operate import EXIT_NONE, TIMEOUT
from ucspid.cli.report import duration, table
from ucspid.cli.socket_path import control_path
from ucspid.config.forms import Duration, Misfit
from ucspid.errors import ConfigError


def deny(options: argparse.Namespace) -> int:
    """Deny a network's clients, and say until when, and whose sessions go on."""
    try:
        seconds = float(Duration.parse(options.time))
    except Misfit:
        raise ConfigError([f"--for: expected {Duration.expects}, found {options.time}"]) from None
    path, args = control_path(options), _args(options)
    ban = call(path, "deny", args | {"seconds": seconds}, TIMEOUT)
    network = ban["network"]
    which = {"ip": network} | ({} if options.service is None else {"service": options.service})
    live = len(call(path, "sessions", which, TIMEOUT)["sessions"])
    if options.json:
        print(json.dumps(ban | {"live": live}))
        return 0
    again = " again" if ban["renewed"] else ""
    print(f"{network} is denied{_by(ban)}{again} for {duration(seconds)}, until {ban['until']}")
    if live:
        left = f"{live} sessions go on" if live != 1 else "1 session goes on"
        only = "" if options.service is None else f" --service {options.service}"
        print(f"{left}: `ucspid kill --ip {network}{only}` ends {'them' if live != 1 else 'it'}")
    return 0


def undeny(options: argparse.Namespace) -> int:
    """End the bans of a network, and say which."""
    result = call(control_path(options), "undeny", _args(options), TIMEOUT)
    ended = result["ended"]
    if options.json:
        print(json.dumps(result))
    elif ended:
        print("\n".join(f"{ban['network']} is denied{_by(ban)} no more" for ban in ended))
    else:
        print(f"{options.network} was not denied")
    return 0 if ended else EXIT_NONE


def denied(options: argparse.Namespace) -> int:
    """List the bans."""
    result = call(control_path(options), "denied", {}, TIMEOUT)
    if options.json:
        print(json.dumps(result))
        return 0
    bans = result["denied"]
    rows = [(ban["network"], ban["service"] or "all", duration(ban["left"]), ban["until"]) for ban in bans]
    lines = table(("NETWORK", "SERVICE", "LEFT", "UNTIL"), rows, right=(2,))
    count = f"{len(bans)} networks" if len(bans) != 1 else "1 network"
    print("\n".join([*lines, "", count]) if bans else "nobody is denied")
    return 0


def _args(options: argparse.Namespace) -> dict[str, Any]:
    return {"network": options.network} | ({} if options.service is None else {"service": options.service})


def _by(ban: dict[str, Any]) -> str:
    return "" if ban["service"] is None else f" by {ban['service']}"
