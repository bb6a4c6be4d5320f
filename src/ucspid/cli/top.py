"""ucspid top: what the daemon does, live in the terminal; keys sort, filter, drain, kill and deny."""

import argparse
import curses
import json
import os
import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from ucspid.cli.client import call, lines_of
from ucspid.cli.socket_path import control_path
from ucspid.cli.tail import shown
from ucspid.cli.top_screen import Picture, View, moved, screen
from ucspid.errors import ConfigError, UcspidError

TIMEOUT = 10.0
"""Seconds for an answer."""
MAX_EVENTS = 200
"""Events that are kept."""
MAX_SESSIONS = 2000
"""Sessions that are asked for: more would keep the daemon busy to say which clients are the busiest."""
DENY_SECONDS = 600.0
_KEYS = {name[0]: name for name in ("name", "live", "rate", "waiting")} | {"R": "refused"}
_ESCAPE, _ENTER, _BACKSPACE = 27, (10, 13, curses.KEY_ENTER), (8, 127, curses.KEY_BACKSPACE)


def main(options: argparse.Namespace) -> int:
    """Show until q is typed. Raises what call() raises; ConfigError where there is no terminal."""
    if not os.isatty(0) or not os.isatty(1):
        raise ConfigError(["ucspid top needs a terminal: `ucspid status` and `ucspid tail` do not"])
    path = control_path(options)
    status = call(path, "status", {}, TIMEOUT)
    os.environ.setdefault("ESCDELAY", "25")
    try:
        curses.wrapper(lambda window: Top(path, options.interval, status).run(window))
    except KeyboardInterrupt:
        return 0
    return 0


class Top:
    """The view of one daemon."""

    def __init__(self, path: Path, interval: float, status: dict[str, Any]) -> None:
        """Begin with what the daemon has answered first."""
        self._path = path
        self._interval = interval
        self._picture = Picture(status)
        self._taken = time.monotonic()
        self._view = View()
        self._lines: deque[str] = deque(maxlen=MAX_EVENTS)
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._watch, daemon=True).start()

    def run(self, window: "curses.window") -> None:
        """Show and obey until q is typed."""
        if curses.tigetstr("civis"):
            curses.curs_set(0)
        self._look()
        while True:
            self._show(window)
            window.timeout(max(0, int((self._taken + self._interval - time.monotonic()) * 1000)))
            key = window.getch()
            if key == ord("q"):
                return
            if key == -1:
                self._look()
            else:
                self._obey(window, key)

    def _watch(self) -> None:
        """Read events, in a thread, until the daemon is gone."""
        while True:
            try:
                for line in lines_of(self._path, "tail", {}):
                    self._events.put(shown(json.loads(line)))
            except (UcspidError, OSError) as problem:
                self._events.put(f"no events: {problem}")
                return

    def _look(self) -> None:
        """Ask the daemon."""
        while not self._events.empty():
            self._lines.append(self._events.get())
        now = time.monotonic()
        before = {service["name"]: service["accepted"] for service in self._picture.status["services"]}
        try:
            status = call(self._path, "status", {}, TIMEOUT)
            sessions = call(self._path, "sessions", {"most": MAX_SESSIONS}, TIMEOUT)["sessions"]
        except (UcspidError, OSError) as problem:
            self._view.message = f"{problem}"
            self._taken = now
            return
        self._picture = Picture(status, sessions, list(self._lines), before, now - self._taken)
        self._taken = now

    def _show(self, window: "curses.window") -> None:
        height, width = window.getmaxyx()
        names = self._names()
        if self._view.selected not in names:
            self._view.selected = names[0] if names else ""
        window.erase()
        # The last place of the last line cannot be written without the screen scrolling.
        for number, line in enumerate(screen(self._picture, self._view, width - 1, height)):
            marked = line.startswith(">") or number == height - 1
            window.addstr(number, 0, line, curses.A_REVERSE if marked else curses.A_NORMAL)
        window.refresh()

    def _names(self) -> list[str]:
        return [service["name"] for service in self._picture.services(self._view)]

    def _obey(self, window: "curses.window", key: int) -> None:
        view, letter = self._view, chr(key) if 0 < key < curses.KEY_MIN else ""
        view.message = ""
        if letter in _KEYS:
            view.sort = _KEYS[letter]
        elif letter == "j" or key == curses.KEY_DOWN:
            view.selected = moved(self._names(), view.selected, 1)
        elif letter == "k" or key == curses.KEY_UP:
            view.selected = moved(self._names(), view.selected, -1)
        elif letter == "/":
            view.filter = self._answer(window, "only services whose name has: ")
        elif letter in {"d", "u", "x"} and view.selected:
            self._change(window, letter, view.selected)
        elif letter == "b":
            self._deny(window)

    def _change(self, window: "curses.window", letter: str, service: str) -> None:
        """Drain, resume, or end all sessions of, the selected service."""
        if letter == "d":
            self._do("drain", {"service": service}, f"{service} accepts nothing more until u")
        elif letter == "u":
            self._do("resume", {"service": service}, f"{service} accepts again")
        elif self._answer(window, f"end all sessions of {service}? y: ") == "y":
            self._do("kill", {"service": service}, f"the sessions of {service} were sent SIGTERM")

    def _deny(self, window: "curses.window") -> None:
        network = self._answer(window, f"deny this network for {DENY_SECONDS / 60:.0f} minutes: ")
        if network:
            self._do("deny", {"network": network, "seconds": DENY_SECONDS}, f"{network} is denied")

    def _do(self, verb: str, args: dict[str, Any], done: str) -> None:
        try:
            call(self._path, verb, args, TIMEOUT)
        except (UcspidError, OSError) as problem:
            self._view.message = str(problem)
        else:
            self._view.message = done
            self._look()

    def _answer(self, window: "curses.window", question: str) -> str:
        """Return what is typed up to Enter; nothing after Escape."""
        text = ""
        window.timeout(-1)
        while True:
            self._view.message = question + text + "_"
            self._show(window)
            key = window.getch()
            if key in _ENTER or key == _ESCAPE:
                self._view.message = ""
                return "" if key == _ESCAPE else text
            if key in _BACKSPACE:
                text = text[:-1]
            elif 0 < key < curses.KEY_MIN and chr(key).isprintable():
                text += chr(key)
