"""The configuration reader: a process of its own.

YAML, the user database and slow disks stay out of the master that way, and it goes on meanwhile.
"""

import os
import signal
from collections.abc import Callable

from ucspid.errors import EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.master import roles
from ucspid.master.launchers import Exit
from ucspid.master.poller import Poller
from ucspid.plan import Plan
from ucspid.wire.channel import close_all

TIMEOUT = 30.0
"""Seconds that reading a file may take."""
MAX_OUTPUT = 64 << 20

Done = Callable[[Plan | UcspidError], None]


class Reader:
    """One reading of the file; done() gets the plan, or the error that says what is wrong."""

    def __init__(self, config: str, poller: Poller, done: Done) -> None:
        """Start reading. Raises ResourceError if no process can be started."""
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
            self.pid = roles.start_reader(config, *theirs)
        except OSError as problem:
            close_all(ours)
            raise ResourceError(f"cannot start a reader of the configuration: {problem.strerror}") from None
        finally:
            close_all(theirs)
        output, errors = self._ends = (ours[0], ours[1])
        self._open = {output, errors}
        for descriptor in self._ends:
            self._output[descriptor] = b""
            self._watch(descriptor)
        self._timer = poller.call_in(TIMEOUT, self.kill)

    def exited(self, exit_: Exit) -> None:
        """Take note that the process has ended."""
        self._exit = exit_
        self._finish()

    def kill(self) -> None:
        """End the reading; done() is told if exited() is."""
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
        text = errors.decode(errors="replace").strip()
        if code == 0:
            self._done(Plan.from_json(output))
        elif code == EXIT_USAGE:
            self._done(ConfigError(text.splitlines()))
        else:
            self._done(ResourceError(f"the configuration could not be read: {text or f'exit code {code}'}"))
