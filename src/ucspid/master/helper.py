"""A process of the daemon that does one thing, says what came of it on its outputs, and ends."""

import os
import signal
from collections.abc import Callable

from ucspid.errors import ResourceError
from ucspid.ipc.channel import close_all
from ucspid.master.launchers import Exit
from ucspid.master.poller import Poller

MAX_OUTPUT = 64 << 20

Start = Callable[[int, int], int]
"""Starts a process with descriptors for its standard output and error; returns its number."""
Done = Callable[[int, bytes, str], None]
"""Takes the exit code (negative for a signal), what was printed, and what was said on standard error."""


class Helper:
    """One such process; done() is called when it has ended, on whatever account."""

    def __init__(self, start: Start, what: str, poller: Poller, timeout: float, done: Done) -> None:
        """Start it; after timeout seconds it is killed. Raises ResourceError if it cannot be started."""
        self._poller = poller
        self._done = done
        self._output: dict[int, bytes] = {}
        self._exit: Exit | None = None
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in range(2):
                reading, writing = os.pipe()
                ours.append(reading)
                theirs.append(writing)
            self.pid = start(theirs[0], theirs[1])
        except OSError as problem:
            close_all(ours)
            raise ResourceError(f"cannot start {what}: {problem.strerror}") from None
        finally:
            close_all(theirs)
        output, errors = self._ends = (ours[0], ours[1])
        self._open = {output, errors}
        for descriptor in self._ends:
            self._output[descriptor] = b""
            self._watch(descriptor)
        self._timer = poller.call_in(timeout, self.kill)

    def exited(self, exit_: Exit) -> None:
        """Take note that the process has ended."""
        self._exit = exit_
        self._finish()

    def kill(self) -> None:
        """End the process; done() is called if exited() is."""
        self._timer.cancel()
        if self._exit is None:
            os.kill(self.pid, signal.SIGKILL)

    def _watch(self, descriptor: int) -> None:
        self._poller.watch(descriptor, lambda: self._read(descriptor))

    def _read(self, descriptor: int) -> None:
        data = os.read(descriptor, 1 << 20)
        self._output[descriptor] += data
        if not data or len(self._output[descriptor]) > MAX_OUTPUT:
            self._poller.forget(descriptor)
            os.close(descriptor)
            self._open.discard(descriptor)
            self._finish()

    def _finish(self) -> None:
        if self._exit is None or self._open:
            return
        self._timer.cancel()
        output, errors = (self._output[end] for end in self._ends)
        code = os.waitstatus_to_exitcode(self._exit.status)
        self._done(code, output, errors.decode(errors="replace").strip())
