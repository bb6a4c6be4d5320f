"""Keeps the TLS processes: started, sent certificates, started again, replaced in good order."""

import contextlib
import os
import time
from functools import partial
from typing import Protocol

from ucspid.errors import ResourceError
from ucspid.linux.fd_limit import why
from ucspid.master import events
from ucspid.master.acquired import Acquired
from ucspid.master.children import Children, Exit
from ucspid.master.event_log import EventLog
from ucspid.master.held_tls import HeldTls, TlsHoldings
from ucspid.master.poller import Poller
from ucspid.master.upgrade_state import TlsState
from ucspid.master.watchdog import STOPPED_TIMEOUT
from ucspid.plan import TlsProcesses
from ucspid.policy.backoff import Backoff
from ucspid.tls.ticket_keys import TicketSecret


class TlsObserver(Protocol):
    """What TLS processes mean to the master."""

    def tls_ready(self, process: HeldTls) -> None:
        """Take note that a process uses the certificates that it was sent last."""

    def tls_refused(self, reason: str) -> bool:
        """Fail the plan whose certificates a process cannot use; return whether there is one under way."""


class TlsKeeper:
    """The master's side of all TLS processes."""

    def __init__(
        self, held: TlsHoldings, children: Children, poller: Poller, log: EventLog, observer: TlsObserver
    ) -> None:
        """Keep what is held."""
        self._held = held
        self._children = children
        self._poller = poller
        self._log = log
        self._observer = observer
        self._backoff = Backoff(0.01, 5.0, 10.0, max_failures=20)

    def from_state(self, state: TlsState) -> None:
        """Take up the processes that an earlier image of the master had."""
        held = self._held
        held.settings, held.material = state.settings, state.material
        held.number, held.last = state.number, state.last
        held.secret = TicketSecret(state.period, bytes.fromhex(state.secret))
        held.outdated = True
        for states, those in ((state.serving, held.serving), (state.draining, held.draining)):
            for item in states:
                process = those[item.number] = HeldTls.from_state(item, self._poller, self)
                self._children.expect(process.pid, partial(self._exited, process))

    # A plan

    def acquire(self, settings: TlsProcesses | None, acquired: Acquired) -> None:
        """Have a plan's certificates used, by other processes if it wants others. Raises ResourceError.

        The plan can be put in force when acquired.tls are all ready.
        """
        if settings is None:
            return
        assert acquired.material is not None
        held = self._held
        held.number += 1
        acquired.tls_number = held.number
        if settings != held.settings or held.outdated or not held.serving:
            for _ in range(settings.count):
                acquired.tls.append(self._start(settings, acquired.material))
        else:
            acquired.tls += held.serving.values()
            for process in held.serving.values():
                process.use(held.number, acquired.material)

    def release(self, acquired: Acquired) -> None:
        """End those that were started for a plan that fails; the others have what was before."""
        held = self._held
        held.number += 1  # so that answers about the plan's are not taken for others
        for process in acquired.tls:
            if process.number in held.serving:
                if held.material is not None:
                    process.use(held.number, held.material)
            else:
                process.kill()

    def go_over(self, settings: TlsProcesses | None, acquired: Acquired) -> None:
        """Put a plan in force: nothing can fail from here on."""
        held = self._held
        material = acquired.take_material()
        if settings is not None and material is None:
            return  # it is the same as before: only programs were imported again
        now = {process.number: process for process in acquired.tls if process.pid}
        held.draining |= {number: item for number, item in held.serving.items() if number not in now}
        held.serving = now
        held.settings = settings
        held.outdated = False
        self._keep(material)
        behind = [process for process in now.values() if process.wanted != acquired.tls_number]
        if behind and material is not None:  # certificates of the plan before were renewed meanwhile
            held.number += 1
            for process in behind:
                process.use(held.number, material)
        self._complete()

    def renew(self, material: int) -> None:
        """Have other certificates used by all, whose files have changed; the memory is ours from now on."""
        self._keep(material)
        self._held.number += 1
        for process in self._held.serving.values():
            process.use(self._held.number, material)

    def suspect(self, number: int) -> None:
        """Have a process answer that says nothing about connections that it was sent."""
        for process in self._held.all():
            if process.number == number:
                process.ask()

    def children_changed(self) -> None:
        """Have those answer that were stopped, within the time in which they may go on."""
        for process in self._held.all():
            with contextlib.suppress(ChildProcessError):  # it has exited meanwhile: the next signal says so
                if os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is not None:
                    process.ask(STOPPED_TIMEOUT)

    def stop(self) -> None:
        """Start none any more: the daemon stops. They exit when the loop has."""
        self._held.settings = None

    def _keep(self, material: int | None) -> None:
        if self._held.material is not None:
            os.close(self._held.material)
        self._held.material = material

    # Processes come and go

    def _start(self, settings: TlsProcesses, material: int) -> HeldTls:
        """Start one. Raises ResourceError."""
        held = self._held
        held.last += 1
        held.secret = held.secret.at(time.time())
        try:
            process = HeldTls.start(held.last, settings, held.secret, self._poller, self)
        except OSError as problem:
            raise ResourceError(f"cannot start a TLS process: {why(problem)}") from None
        process.use(held.number, material)
        self._children.expect(process.pid, partial(self._exited, process))
        return process

    def _exited(self, process: HeldTls, exit_: Exit) -> None:
        held = self._held
        process.close()
        drained = held.draining.pop(process.number, None) is not None
        serving = held.serving.pop(process.number, None) is not None
        if exit_.status == 0 and (drained or held.settings is None):
            return
        if not (drained or process.ready):
            self._observer.tls_refused("a TLS process ended before it could use them")
        if not (serving or drained):
            return
        pause = self._backoff.failed(time.monotonic()) if serving else None
        events.tls_died(self._log, exit_.pid, exit_.status, pause)
        if pause is not None:
            self._poller.call_in(pause, self._complete)

    def _complete(self) -> None:
        """Start as many as the plan in force wants and does not have."""
        held = self._held
        while held.settings is not None and held.material is not None:
            if len(held.serving) >= held.settings.count:
                return
            try:
                process = self._start(held.settings, held.material)
            except ResourceError as problem:
                pause = self._backoff.failed(time.monotonic())
                events.tls_not_started(self._log, str(problem), pause)
                self._poller.call_in(pause, self._complete)
                return
            held.serving[process.number] = process

    # What they say

    def has_taken(self, process: HeldTls) -> None:
        """Pass on that a process is ready."""
        self._observer.tls_ready(process)

    def has_refused_material(self, process: HeldTls, reason: str) -> None:
        """Fail the plan under way; or else go on with the certificates of before."""
        if not self._observer.tls_refused(reason):
            events.certificates_refused(self._log, reason)
        process.taken = process.wanted

    def was_given_up(self, process: HeldTls, reason: str) -> None:
        """Log why a process was killed."""
        events.tls_broken(self._log, process.pid, reason)
