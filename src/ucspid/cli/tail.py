"""ucspid tail: the events of the running daemon, as they come."""

import argparse
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ucspid.cli.client import lines_of
from ucspid.cli.socket_path import control_path

_FIRST = ("ts", "level", "event")


def main(options: argparse.Namespace) -> int:
    """Print events until interrupted, whatever becomes of the event loop. Raises what lines_of() raises."""
    try:
        for line in _events(control_path(options), selected(options)):
            print(line if options.json else shown(json.loads(line)), flush=True)
    except KeyboardInterrupt:
        return 0
    raise AssertionError("events have no end")


def selected(options: argparse.Namespace) -> dict[str, Any]:
    """Return the members of a request that say which events are meant."""
    args = {
        "level": options.level, "service": options.service, "ip": options.ip, "events": options.event,
    }  # fmt: skip
    return {name: value for name, value in args.items() if value is not None}


def _events(path: Path, args: dict[str, Any]) -> Iterator[str]:
    """Yield the events of the daemon; when its event loop has ended, those of the next.

    The master holds the socket, so that a request waits there until an event loop answers.
    """
    while True:
        yield from lines_of(path, "tail", args)


def shown(event: dict[str, Any]) -> str:
    """Return an event as a line for people: the local time of day, the level, its name and its fields."""
    when = datetime.fromisoformat(event["ts"]).astimezone().isoformat(timespec="milliseconds")[11:23]
    fields = " ".join(f"{name}={_text(value)}" for name, value in event.items() if name not in _FIRST)
    return f"{when} {event['level']:<7} {event['event']} {fields}".rstrip()


def _text(value: Any) -> str:
    """Return a value as one word that shows everything and moves no cursor."""
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    plain = value.isprintable() and not set(value) & set(" \"'=") and value
    return value if plain else json.dumps(value)
