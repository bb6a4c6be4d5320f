"""What a command that waits shows on a terminal: what the daemon is doing, and for how long."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from ucspid.cli.client import call
from ucspid.errors import UcspidError

INTERVAL = 0.25
"""Seconds between two looks; nothing is shown if the answer comes before the first."""

TIMEOUT = 1.0
"""Seconds for an answer. There is none while one event loop takes over from another."""


@contextlib.contextmanager
def progress_shown(path: str | os.PathLike[str], what: str, *, hidden: bool) -> Iterator[None]:
    """Show on standard error, if that is a terminal, how far the daemon is, until the block ends."""
    if hidden or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(path, what, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(path: str | os.PathLike[str], what: str, over: threading.Event) -> None:
    stage, began, shown = "waiting", time.monotonic(), 0
    while not over.wait(INTERVAL):
        with contextlib.suppress(UcspidError, OSError):
            found = call(path, "progress", {}, TIMEOUT)
            if found["stage"] is not None:
                stage, began = found["stage"], time.monotonic() - found["seconds"]
        text = f"{what}: {stage}, {time.monotonic() - began:.0f} s"
        print(f"\r{text:<{shown}}", end="", file=sys.stderr, flush=True)
        shown = len(text)
    if shown:
        print(f"\r{'':<{shown}}\r", end="", file=sys.stderr, flush=True)
