"""ucspid status: what the running daemon is and does, as tables or as JSON; whether its counts match."""

import argparse
import json
from typing import Any

from ucspid.cli.client import call
from ucspid.cli.report import report
from ucspid.cli.socket_path import control_path
from ucspid.errors import ConfigError, PeerError

TIMEOUT = 10.0
"""Seconds."""

EXIT_TROUBLED = 1
"""There is a service in trouble."""

CALM = frozenset({"listening", "rate", "rules", "launchers"})
"""States that are nothing to look at: they last for a moment."""

RECENT = 600.0
"""Seconds for which a failure is trouble."""

EXIT_DIFFERENT = 1
"""The daemon's counts do not match what runs."""


def main(options: argparse.Namespace) -> int:
    """Print the status. Raises what call() raises; PeerError if the daemon is of another version."""
    if options.verify:
        return _verify(options)
    status = call(control_path(options), "status", {}, TIMEOUT)
    try:
        if options.service or options.troubled:
            status = _narrowed(status, options.service, troubled=options.troubled)
        calm = options.troubled and not status["services"]
        text = "no service is in trouble" if calm else ""
        print(json.dumps(status) if options.json else text or report(status))
    except (KeyError, TypeError, AttributeError) as error:
        raise PeerError(f"the daemon's status is not of this version ({error!r}): --json shows it") from None
    return EXIT_TROUBLED if options.troubled and status["services"] else 0


def _narrowed(status: dict[str, Any], names: list[str] | None, *, troubled: bool) -> dict[str, Any]:
    """Return of a status what is about these services, or all that are in trouble, and not the processes."""
    there = {service["name"] for service in status["services"]}
    if missing := sorted(set(names or ()) - there):
        raise ConfigError([f"there is no service {missing[0]!r:.40}: {', '.join(sorted(there))}"])
    wanted = there if names is None else set(names)
    if troubled:
        wanted &= troubled_services(status)
    rules_files = [file for file in status["rules_files"] if wanted & set(file["services"])]
    return {
        **{name: value for name, value in status.items() if name != "processes"},
        "services": [item for item in status["services"] if item["name"] in wanted],
        "listeners": [item for item in status["listeners"] if item["service"] in wanted],
        "rules_files": rules_files,
    }


def troubled_services(status: dict[str, Any]) -> set[str]:
    """Return the services that somebody should look at.

    That is: one which does not listen, unless that is for a moment, has clients waiting, has had a failure
    in the last minutes, or rules that are not in force as they are in the file.
    """
    found = {
        service["name"]
        for service in status["services"]
        if service["state"] not in CALM
        or service["waiting"]
        or any(failure["ago"] < RECENT for failure in service["last_failures"])
    }
    return found | {name for file in status["rules_files"] if file["problem"] for name in file["services"]}


def _verify(options: argparse.Namespace) -> int:
    """Have the daemon compare its counts with what runs; return 1 if they do not match."""
    found = call(control_path(options), "verify", {}, TIMEOUT)
    if options.json:
        print(json.dumps(found))
    elif found["differences"]:
        print("\n".join(found["differences"]))
    else:
        counts = (_count(found[f"{what}s"], what) for what in ("session", "launcher"))
        print(f"counts match: {', '.join(counts)}, {_count(found['processes'], 'process', 'es')}")
    return EXIT_DIFFERENT if found["differences"] else 0


def _count(number: int, what: str, ending: str = "s") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{ending}"
