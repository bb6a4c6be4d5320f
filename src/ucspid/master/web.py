"""The web process as the master keeps it: started when the plan wants one, and again when it has ended.

It ends with the event loop that it asks. The next is given connections to the next event loop.
"""

import os
import signal
import socket
import time

from ucspid.errors import ResourceError
from ucspid.ipc import orders
from ucspid.linux.fd_limit import why
from ucspid.master import events, roles
from ucspid.master.children import Children, Exit
from ucspid.master.event_log import EventLog
from ucspid.master.holdings import Holdings
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.poller import Poller, Timer
from ucspid.plan import Web
from ucspid.policy.backoff import Backoff


class WebSupervisor:
    """None, or one process."""

    def __init__(
        self, held: Holdings, poller: Poller, log: EventLog, children: Children, loop: LoopSupervisor
    ) -> None:
        """Begin without a process."""
        self._held = held
        self._poller = poller
        self._log = log
        self._children = children
        self._loop = loop
        self._wanted: Web | None = None
        self._pid = 0
        self._ending: set[int] = set()
        """Processes that were killed and are not reaped yet."""
        self._timer: Timer | None = None
        self._backoff = Backoff(0.1, 10.0, 30.0, max_failures=5)

    @property
    def gone(self) -> bool:
        """Whether there is no process any more."""
        return not self._pid and not self._ending

    def serve(self) -> None:
        """Have what the plan in force wants: the event loop serves it."""
        wanted = None if self._held.plan is None else self._held.plan.web
        if wanted != self._wanted:
            self.stop()
            self._wanted = wanted
        if wanted is not None and not self._pid and self._timer is None:
            self._start(wanted)

    def stop(self) -> None:
        """Have none."""
        self._wanted = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # it has not been reaped yet
            self._ending.add(self._pid)
            self._pid = 0

    def _start(self, wanted: Web) -> None:
        try:
            self._pid = self._started(wanted)
        except ResourceError as problem:
            pause = self._backoff.failed(time.monotonic())
            events.web_not_started(self._log, str(problem), pause)
            self._start_in(pause)
        else:
            self._children.expect(self._pid, self._exited)

    def _started(self, wanted: Web) -> int:
        """Start a process, and connect it with the event loop; return its number."""
        listening = self._held.control.at(wanted.listen)
        assert listening is not None
        try:
            requests, events_ = socket.socketpair(), socket.socketpair()
        except OSError as problem:
            raise ResourceError(why(problem)) from None
        with requests[0], requests[1], events_[0], events_[1]:
            try:
                ends = (listening.fileno(), requests[0].fileno(), events_[0].fileno())
                pid = roles.start_web(wanted, *ends)
            except OSError as problem:
                raise ResourceError(why(problem)) from None
            self._loop.send(orders.AddLookers(), (requests[1].fileno(), events_[1].fileno()))
        return pid

    def _exited(self, exit_: Exit) -> None:
        self._ending.discard(exit_.pid)
        if exit_.pid != self._pid:
            return  # it was stopped
        self._pid = 0
        pause = self._backoff.failed(time.monotonic())
        if exit_.status:
            events.web_died(self._log, exit_.pid, exit_.status, pause)
        self._start_in(pause)

    def _start_in(self, pause: float) -> None:
        self._timer = self._poller.call_in(pause, self._again)

    def _again(self) -> None:
        self._timer = None
        if self._wanted is not None:
            self._start(self._wanted)
