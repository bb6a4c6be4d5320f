"""Whether the files that a program was imported from have changed: inotify(7) says so."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from ucspid.linux import inotify

_EVENTS = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.CREATE
_CLOCK = 0.02
"""Seconds that the time of a file may be behind the clock when it was written."""


class Changes:
    """The directories of all files that are imported, but for the standard library's."""

    def __init__(self, began: float) -> None:
        """Watch them; began is when the first was read. Raises OSError: users may watch only so many."""
        self._queue = inotify.Inotify()
        self._names: dict[int, set[bytes]] = {}
        files = _files()
        for file in files:
            directory, name = os.path.split(file)
            watch = self._queue.add(directory, _EVENTS | inotify.ONLY_DIRECTORY)
            self._names.setdefault(watch, set()).add(os.fsencode(name))
        self.already = any(_changed_since(began - _CLOCK, file) for file in files)
        """Whether one has changed since it was read, perhaps."""

    def fileno(self) -> int:
        """Return the descriptor, which is readable while there are events."""
        return self._queue.fileno()

    def read(self) -> bool:
        """Take the events; return whether one is of a file that was imported."""
        events = []
        with contextlib.suppress(BlockingIOError):
            events = self._queue.read()
        return any(
            event.mask & inotify.OVERFLOW or event.name in self._names.get(event.watch, ())
            for event in events
        )


def _files() -> set[str]:
    """Return the files of all modules, and what they are links to."""
    standard = os.path.dirname(os.__file__) + "/"
    packages = tuple(f"{standard}{name}/" for name in ("site-packages", "dist-packages"))
    files = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (not file.startswith(standard) or file.startswith(packages)):
            files |= {file, os.path.realpath(file)}
    return {file for file in files if os.path.exists(file)}


def _changed_since(moment: float, file: str) -> bool:
    """Return whether a file has changed between a moment and now; a time that is to come says nothing."""
    try:
        changed = os.stat(file).st_mtime
    except OSError:
        return True
    return moment < changed <= time.time()
