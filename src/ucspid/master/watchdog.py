"""Notices processes that do not turn any more, and has the service manager know how the daemon is.

A loop that was stopped (SIGSTOP) is noticed without asking: the kernel says so to its parent. One that
hangs or spins is noticed only by asking, which wakes both processes up: so that is done only if the
file or the service manager wants it, and while the daemon stops.
"""

import os
import time

from ucspid.ipc import orders
from ucspid.ipc.condition import Condition
from ucspid.master.holdings import Holdings
from ucspid.master.loop_process import LoopProcess
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.notify import Readiness
from ucspid.master.poller import Poller, Timer

STOPPED_TIMEOUT = 10.0
"""Seconds for which the loop may be stopped before another process takes its place."""

STOPPING_INTERVAL = 10.0
"""Seconds between two reports to the service manager while the daemon stops."""

LOOKS = 4
"""How often the loop is asked in the time in which it has to answer once: half of it is left for another."""


def interval_of_manager() -> float | None:
    """Return the seconds within which the service manager wants to hear of this process, if it does."""
    pid, microseconds = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if pid not in ("", str(os.getpid())) or not microseconds.isdecimal():
        return None
    return int(microseconds) / 1e6 or None


class Watchdog:
    """Asks the loop whether it turns, kills one that does not, and reports to the service manager."""

    def __init__(self, held: Holdings, loop: LoopSupervisor, poller: Poller, readiness: Readiness) -> None:
        """Ask nothing yet."""
        self._held = held
        self._loop = loop
        self._poller = poller
        self._readiness = readiness
        self._limit: float | None = None
        self._stopping = False
        self._asked: LoopProcess | None = None
        """The process that has not answered yet."""
        self._due = 0.0
        self._timer: Timer | None = None
        self._stopped: Timer | None = None

    def watch(self, limit: float | None) -> None:
        """Have them turn once in so many seconds, and as often as the service manager wants."""
        wanted = [seconds for seconds in (limit, interval_of_manager()) if seconds is not None]
        before, self._limit = self._limit, min(wanted, default=None)
        if self._limit != before:
            self._schedule()

    def stopping(self) -> None:
        """Ask the service manager for more time again and again: sessions may take long to end."""
        if not self._stopping:
            self._stopping = True
            self._look()

    @property
    def _interval(self) -> float | None:
        asks = [] if self._limit is None else [self._limit / LOOKS]
        if self._stopping and self._readiness.wanted:
            asks.append(STOPPING_INTERVAL)
        return min(asks, default=None)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        interval = self._interval
        if interval is not None:
            self._due = time.monotonic() + interval
            self._timer = self._poller.call_in(interval, self._look)

    def _look(self) -> None:
        """Kill a loop that has not answered since the last time, unless this process did not run either."""
        interval = self._interval or 0.0
        late = time.monotonic() - self._due > interval
        process = self._serving()
        if process is not None and process is self._asked and not late and self._limit is not None:
            process.give_up(f"it has not turned for {interval:g} s")
            self._asked = None
        elif process is not None:
            self._asked = process
            process.send(orders.ReportCondition())
        if self._limit is not None:
            for tls in self._held.tls.all():
                tls.ask(interval)
        if self._stopping:
            self._readiness.more_time()
        self._schedule()

    def answered(self, condition: Condition) -> None:
        """Take note that the loop turns, and how it is."""
        self._asked = None
        self._readiness.alive(condition, self._name(condition.service) if condition.troubled else "")

    def _serving(self) -> LoopProcess | None:
        """Return the process in place, if it serves the plan and is not about to be replaced."""
        orders, succession = self._loop.current, self._loop.succession
        if orders is None or not orders.begun or succession.handing_over:
            return None
        process = orders.process
        return None if process.killed or process.outdated or process.busy else process

    def _name(self, number: int) -> str:
        services = () if self._held.plan is None else self._held.plan.services
        names = (service.name for service in services)
        return next((name for name in names if self._held.number(name) == number), "")

    # Signals

    def child_changed(self) -> None:
        """Look whether the loop was stopped, or goes on."""
        current = self._loop.current
        if current is None:
            return
        try:
            found = os.waitid(os.P_PID, current.process.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        except ChildProcessError:
            return
        if found is None:
            return
        if self._stopped is not None:
            self._stopped.cancel()
            self._stopped = None
        if found.si_code == os.CLD_STOPPED:
            self._wait_for(current.process)

    def _wait_for(self, process: LoopProcess) -> None:
        due = time.monotonic() + STOPPED_TIMEOUT
        self._stopped = self._poller.call_in(STOPPED_TIMEOUT, lambda: self._still_stopped(process, due))

    def _still_stopped(self, process: LoopProcess, due: float) -> None:
        self._stopped = None
        self.child_changed()  # its SIGCONT may not have been taken yet
        current = self._loop.current
        if current is None or current.process is not process or not _is_stopped(process.pid):
            return
        if time.monotonic() - due > STOPPED_TIMEOUT:  # this process was stopped, too
            self._wait_for(process)
        else:
            process.give_up(f"it was stopped, and has not gone on for {STOPPED_TIMEOUT:g} s")


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] == b"T"
    except OSError:
        return False
