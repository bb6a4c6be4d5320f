"""A process of the daemon that does one thing, prints its result, and exits.

It leads a session of its own. It is over when it has exited or its time is up, whatever its pipes
say: a child of its own that hangs may keep those open for ever.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial

from ucspid.errors import ResourceError
from ucspid.ipc import progress
from ucspid.ipc.channel import close_all
from ucspid.linux.fd_limit import why
from ucspid.linux.memfd import sealed_memory
from ucspid.master.children import Children, Exit
from ucspid.master.poller import Poller
from ucspid.policy.exit_status import exit_code
from ucspid.records import dataclass

MAX_OUTPUT = 64 << 20
"""Bytes that a job may print on each of its outputs; one that prints more is killed."""

_READ = 1 << 20

StartJob = Callable[[int, int, int], int]
"""Starts a process with descriptors for its output, errors and progress; returns its number."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The result of a job."""

    code: int | None
    """See exit_code(); None too if its time was up."""
    output: bytes
    errors: str
    hung_at: str | None = None
    """What it was looking at when its time was up; None if it exited by itself."""


class Job:
    """One such process; done() is called when it has exited or its time is up."""

    def __init__(
        self,
        start: StartJob,
        what: str,
        children: Children,
        poller: Poller,
        timeout: float,
        done: Callable[[JobOutcome], None],
    ) -> None:
        """Start it; after timeout seconds it is killed. Raises ResourceError if it cannot be started."""
        self._children = children
        self._poller = poller
        self._done = done
        self._over = False
        ours: list[int] = []
        theirs: list[int] = []
        try:
            ours.append(sealed_memory("ucspid-progress", progress.SIZE))
            for _ in range(2):
                reading, writing = os.pipe()
                ours.append(reading)
                theirs.append(writing)
                os.set_blocking(reading, False)
            self._memory, *self._ends = ours
            self.pid = start(theirs[0], theirs[1], self._memory)
        except OSError as problem:
            close_all(ours)
            raise ResourceError(f"cannot start {what}: {why(problem)}") from None
        finally:
            close_all(theirs)
        children.expect(self.pid, self._exited)
        self._said = {descriptor: bytearray() for descriptor in self._ends}
        self._open = set(self._ends)
        for descriptor in self._ends:
            poller.watch(descriptor, partial(self._read, descriptor))
        self._timer = poller.call_in(timeout, self._time_over)

    def cancel(self) -> None:
        """Kill it and its session; done() is not called."""
        self._kill()
        self._close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _exited(self, exit_: Exit) -> None:
        self._children.kill_session(self.pid)
        if self._over:
            return
        for descriptor in self._ends:
            while descriptor in self._open and self._read(descriptor):
                """All of its output is there: it has exited."""
        self._finish(exit_code(exit_.status), None)

    def _time_over(self) -> None:
        self._kill()
        self._finish(None, progress.read(self._memory))

    def _read(self, descriptor: int) -> bool:
        """Read what was printed; return whether there may be more now."""
        try:
            data = os.read(descriptor, _READ)
        except BlockingIOError:
            return False
        said = self._said[descriptor]
        said += data
        if len(said) > MAX_OUTPUT:
            self._kill()
        elif data:
            return True
        self._forget(descriptor)
        return False

    def _forget(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        self._poller.forget(descriptor)
        os.close(descriptor)

    def _finish(self, code: int | None, hung_at: str | None) -> None:
        self._close()
        output, errors = (bytes(self._said.pop(end)) for end in self._ends)  # nothing of it is kept here
        self._done(JobOutcome(code, output, errors.decode(errors="replace").strip(), hung_at))

    def _close(self) -> None:
        if not self._over:
            self._over = True
            self._timer.cancel()
            for descriptor in [*self._open]:
                self._forget(descriptor)
            os.close(self._memory)
