"""The master: starts the other processes of the daemon, holds what must outlive them, reloads, stops.

It runs with the privileges that it was started with, so it reads nothing that the network
has a hand in: not the clients' sockets, and of what the loop says only fixed layouts. It has no
threads and no asyncio; signals arrive as data.
"""

import signal

from ucspid import __version__
from ucspid.errors import EXIT_SYSTEM, ResourceError
from ucspid.ipc import messages as wire
from ucspid.linux import prctl
from ucspid.master import events
from ucspid.master.certificates import CertificateFollower
from ucspid.master.changeover import Changeover
from ucspid.master.children import Children
from ucspid.master.event_log import EventLog
from ucspid.master.fdstore import Passed
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.held_tls import HeldTls
from ucspid.master.holdings import Holdings
from ucspid.master.internal_errors import InternalErrors
from ucspid.master.launcher_starter import LauncherStarter
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.leftovers import Leftovers
from ucspid.master.listener_table import ListenerTable
from ucspid.master.loop_notes import LoopNotes
from ucspid.master.loop_supervisor import LoopSupervisor
from ucspid.master.notify import Readiness
from ucspid.master.parts import Given, Parts
from ucspid.master.poller import Poller
from ucspid.master.reaper import Reaper
from ucspid.master.renewals import Renewals
from ucspid.master.rule_variables import RuleVariables
from ucspid.master.settling import Settling
from ucspid.master.shutdown import Shutdown
from ucspid.master.text import print_error
from ucspid.master.tls_keeper import TlsKeeper
from ucspid.master.upgrade_state import STATE, MasterState
from ucspid.master.watchdog import Watchdog
from ucspid.master.web import WebSupervisor

SIGNALS: set[int] = {
    signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip


class Master:
    """The daemon as a whole."""

    def __init__(
        self,
        config: str,
        ready_fd: int | None,
        signalfd: int,
        nofile: int,
        before: MasterState | None = None,
        given: Given | None = None,
    ) -> None:
        """Hold nothing yet, or what an earlier image of this process did, if its state is given.

        config is the path of the file, or the name of what is given in its place. nofile is the soft limit
        of descriptors that the daemon was started with.
        """
        self._signalfd, self._before = signalfd, before
        errors = InternalErrors(self._went_wrong)
        poller, log, children = Poller(errors.caught), EventLog(), Children()
        starter = LauncherStarter(nofile, poller, log, self, before)
        if given is not None:
            held = Holdings(listeners=ListenerTable(Passed([("", sock) for sock in given.listening])))
        elif before is None:
            held = Holdings(listeners=ListenerTable(Passed.from_environment()))
        else:
            held = Holdings.from_state(before.holdings, starter.take_over)
        loop = LoopSupervisor(config, held, poller, log, self, children)
        tls = TlsKeeper(held.tls, children, poller, log, self)
        readiness = Readiness(ready_fd, b"\n" if given is None else given.ready)
        self.parts = parts = Parts(
            config,
            None if given is None else given.plan,
            poller,
            children,
            log,
            held,
            Settling(held, poller),
            loop,
            starter,
            tls,
            CertificateFollower(children, poller, log, held.tls, tls.renew, loop.send),
            readiness,
            WebSupervisor(held, poller, log, children, loop),
            Watchdog(held, loop, poller, readiness),
            Leftovers(poller),
        )
        self.shutdown = Shutdown(parts, self._drained)
        self.changeover = Changeover(parts, before, self.to_state, self.shutdown.kill_everything)
        self.variables = RuleVariables(held, loop, parts.children, poller)
        self.renewals = Renewals(poller, self.changeover.renew)
        self._notes = LoopNotes(parts, self.changeover, self.variables, self.shutdown.exit_alone)
        self.reaper = Reaper(parts, self.changeover, errors)

    def run(self) -> int:
        """Start, work, stop; return the exit status."""
        self.begin()
        while self.exit is None:
            self.parts.poller.run_once()
        self.parts.held.close()
        self.parts.children.close()
        return self.exit

    @property
    def exit(self) -> int | None:
        """The exit status, once the daemon is to end."""
        return self.shutdown.exit

    def begin(self) -> None:
        """Start the event loop, or take over the previous one, and read the file."""
        self.parts.poller.watch(self._signalfd, self._read_signals)
        try:
            if self._before is None:
                self.parts.loop.start()
            else:
                self.parts.tls.from_state(self._before.holdings.tls)
                self.parts.certificates.follow(self._before.holdings.plan)
                self.parts.loop.from_state(self._before.loop)
        except ResourceError as problem:
            print_error(problem)
            self.shutdown.exit = EXIT_SYSTEM
        else:
            self.changeover.reload()

    def to_state(self) -> MasterState:
        """Return everything that the next image of this process is to know."""
        parts, clients = self.parts, self.changeover.reports.clients
        next_launcher, next_profile = parts.starter.next_numbers()
        return MasterState(
            state=STATE,
            wire=wire.VERSION,
            version=__version__,
            config=parts.config,
            nofile=parts.starter.nofile,
            next_launcher=next_launcher,
            next_profile=next_profile,
            upgrade_tokens=clients.for_upgrade,
            reload_tokens=clients.for_next_reload,
            loop=parts.loop.to_state(),
            holdings=parts.held.to_state(),
        )

    # Signals

    def _read_signals(self) -> None:
        for number in prctl.read_signals(self._signalfd):
            self.signalled(number)

    def signalled(self, number: int) -> None:
        """Handle a signal; SIGUSR1 does nothing."""
        if number == signal.SIGCHLD:
            self.reaper.reap()
            self.parts.watchdog.child_changed()
            self.parts.tls.children_changed()
            self.shutdown.finish_if_drained()
        elif number == signal.SIGHUP:
            self.changeover.reload()
        elif number == signal.SIGUSR2:
            self.changeover.upgrade()
        elif number in (signal.SIGINT, signal.SIGTERM):
            self._stop()

    # What launchers and the loop say

    def launcher_ready(self, profile: ProfileLaunchers, launcher: HeldLauncher) -> None:
        """Send the launcher's channel to the loop, or go on with the plan that waits for the launcher."""
        if profile in self.parts.held.all_profiles():
            self.parts.loop.introduce(lambda loop: loop.send_launcher(profile, launcher))
        elif self.changeover.preparation is not None:
            self.changeover.preparation.launcher_ready()

    def launcher_refused(self, profile: ProfileLaunchers, reason: str, *, program: bool) -> None:
        """Fail the plan that waits for the launcher; one that served before is tried again."""
        preparation = self.changeover.preparation
        if preparation is None or not preparation.launcher_refused(profile, reason, program=program):
            events.launcher_refused(self.parts.log, profile.names, reason)

    def tls_ready(self, process: HeldTls) -> None:
        """Send the channel of a TLS process to the loop, or go on with the plan that waits for it."""
        if process.number in self.parts.held.tls.serving:
            self.parts.loop.introduce(lambda loop: loop.send_tls(process))
        if self.changeover.preparation is not None:
            self.changeover.preparation.launcher_ready()

    def tls_refused(self, reason: str) -> bool:
        """Fail the plan that waits for a TLS process; return whether one does."""
        preparation = self.changeover.preparation
        return preparation is not None and preparation.tls_refused(reason)

    def program_changed(self, profile: ProfileLaunchers) -> None:
        """Import the program again when whoever changes its files has had time to change all of them."""
        self.renewals.want(profile.number)

    def loop_note(self, kind: int, number: int, token: int) -> None:
        """Take a note of the loop's. Raises WireError for what no loop sends."""
        self._notes.take(kind, number, token)

    def loop_gone(self) -> None:
        """Forget the control clients of a process that has ended."""
        self.changeover.reports.clients.forget()

    def loop_hands_over(self) -> None:
        """Answer the control clients of a loop process that is about to exit."""
        self.changeover.loop_hands_over()

    def loop_not_replaced(self, reason: str) -> None:
        """Report the plan in force as overdue: the previous process goes on under the previous plan."""
        self.changeover.overdue(reason)

    def loop_lost(self, reason: str) -> None:
        """End: no event loop can be started."""
        print_error(reason)
        self.shutdown.kill_everything(EXIT_SYSTEM)

    # The end

    def _stop(self) -> None:
        """Drain; the second time, end the sessions now."""
        again = self.changeover.draining
        self.changeover.stop()
        self.variables.cancel()
        self.parts.certificates.cancel()
        self.shutdown.stop(again=again)

    def _drained(self) -> bool:
        """Return whether the last process of the daemon has ended, and it drains."""
        parts = self.parts
        ended = not (parts.loop.pids or self.reaper.launchers() or any(parts.held.tls.all()))
        return self.changeover.draining and ended and parts.web.gone

    def _went_wrong(self, trace: str) -> None:
        """Log a bug of the master; end the daemon if it does not serve yet."""
        if self.parts.held.plan is None:
            print_error(trace)
            self.shutdown.kill_everything(EXIT_SYSTEM)
        else:
            events.internal_error(self.parts.log, trace)
