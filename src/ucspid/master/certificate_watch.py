"""What the kernel says of the files of certificates, until nothing more changes for a moment."""

import fnmatch
import os
import time
from collections.abc import Callable, Iterable

from ucspid.linux.inotify import IGNORED, OVERFLOW, Inotify
from ucspid.master.poller import Poller, Timer

QUIET = 0.2
"""Seconds without a further change after which one is reported."""
MAX_WAIT = 0.6
"""Seconds after which it is reported all the same."""


class CertificateWatch:
    """A queue of events at a time. Another process adds what is watched, and says which names matter."""

    def __init__(self, poller: Poller, changed: Callable[[], None]) -> None:
        """Watch nothing yet; changed() is called when something that matters has changed."""
        self._poller = poller
        self._changed = changed
        self._queue: Inotify | None = None
        self._waiting = False
        self._names: dict[int, tuple[str, ...]] = {}
        self._timer: Timer | None = None
        self._first = self._last = 0.0
        """When the first and the last change of those was that are waited for."""

    def fileno(self) -> int | None:
        """Return the descriptor of the queue; None if there is none."""
        return None if self._queue is None else self._queue.fileno()

    def begin(self) -> None:
        """Have a new queue in place of the one before, whose events no longer matter. Raises OSError."""
        self.close()
        self._queue = Inotify()

    def wait(self, watches: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        """Report changes from now on, and those since begin(), for these watches and names."""
        self._names = dict(watches)
        if self._queue is not None:
            self._poller.watch(self._queue.fileno(), self._read)
            self._waiting = True

    def close(self) -> None:
        """Watch nothing any more."""
        self._stop_timer()
        if self._queue is not None:
            if self._waiting:
                self._poller.forget(self._queue.fileno())
            self._queue.close()
        self._queue, self._waiting = None, False

    def _read(self) -> None:
        assert self._queue is not None
        try:
            changes = self._queue.read()
        except BlockingIOError:
            return
        if any(self._matters(change.watch, change.mask, change.name) for change in changes):
            self._last = time.monotonic()
            if self._timer is None:
                self._first = self._last
                self._timer = self._poller.call_in(QUIET, self._look)

    def _matters(self, watch: int, mask: int, name: bytes) -> bool:
        if mask & IGNORED:
            return False  # what has made it so was reported before
        if mask & OVERFLOW or not name:
            return True
        text = os.fsdecode(name)
        wanted = self._names.get(watch, ())
        return any(text == each or fnmatch.fnmatchcase(text, each) for each in wanted)

    def _look(self) -> None:
        """Report, if nothing has changed for a moment; or else wait for that, but not for ever."""
        wait = min(self._last + QUIET, self._first + MAX_WAIT) - time.monotonic()
        if wait > 0.0:
            self._timer = self._poller.call_in(wait, self._look)
        else:
            self._stop_timer()
            self._changed()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
