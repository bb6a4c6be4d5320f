"""The master: starts the other processes of the daemon, holds what must outlive them, reloads, stops.

It runs with the privileges that it was started with, so it reads nothing that the network
has a hand in: not the clients' sockets, and of the loop's words only fixed layouts. It has no
threads and no asyncio; signals arrive as data.
"""

import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path

from ucspid import linux
from ucspid.changes import changes
from ucspid.descriptors import raise_limit
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.launcher import table
from ucspid.master.beginning import beginning
from ucspid.master.family import adopted, descendants
from ucspid.master.launchers import Exit, Launcher, ProfileLaunchers, Program
from ucspid.master.looplink import LoopLink
from ucspid.master.notify import notify, reloading
from ucspid.master.poller import Poller, Timer
from ucspid.master.reload import Reload
from ucspid.master.state import Acquired, Holdings
from ucspid.plan import Plan, Profile
from ucspid.wire import messages as wire

SIGNALS: set[int] = {signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
_STDERR = 2
LAST_RESORT = 10.0
"""Seconds beyond all timeouts of services after which a stop kills what is left."""


def run(config: str, ready_fd: int | None) -> int:
    """Run the daemon on a configuration file until it is told to stop; return the exit status.

    Writes a newline to ready_fd and closes it when all listeners listen. Returns 0 after an
    orderly stop, 100 for a file that is wrong, 111 where the system refused something.
    """
    _open_standard_descriptors()
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    signalfd = linux.open_signalfd(SIGNALS)
    linux.set_title("ucspid: master")
    linux.become_subreaper()
    return Master(str(Path(config).absolute()), ready_fd, signalfd, raise_limit()).run()


def _open_standard_descriptors() -> None:
    """Have 0, 1 and 2 in use, so that nothing else gets these numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


class Master:
    """The daemon as a whole."""

    def __init__(self, config: str, ready_fd: int | None, signalfd: int, nofile: int) -> None:
        """Hold nothing yet; nofile is the soft limit of descriptors that the daemon was started with."""
        self._config = config
        self._ready_fd = ready_fd
        self._signalfd = signalfd
        self._nofile = nofile
        self._poller = Poller()
        self._held = Holdings()
        self._loop = LoopLink(config, self._held, self._poller, self)
        self._reload: Reload | None = None
        self._tokens: list[int] = []
        self._again: list[int] | None = None
        self._answer: tuple[list[int], list[str]] | None = None
        self._launcher_numbers = itertools.count(1)
        self._profile_numbers = itertools.count(1)
        self._stop_timer: Timer | None = None
        self._exit: int | None = None

    def run(self) -> int:
        """Start, work, stop; return the exit status."""
        self._poller.watch(self._signalfd, self._signals)
        try:
            self._loop.start()
        except ResourceError as problem:
            _say(problem)
            return EXIT_SYSTEM
        self._begin_reload([])
        while self._exit is None:
            self._poller.run_once()
        self._held.close()
        return self._exit

    # Signals and children

    def _signals(self) -> None:
        for number in linux.read_signals(self._signalfd):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP:
                self._begin_reload([])
            else:
                self._stop()

    def _reap(self) -> None:
        """Take the exits of children: roles first, so that orphans have an owner when they end."""
        exits = []
        while (exit_ := _reap_one()) is not None:
            exits.append(exit_)
        ended = {exit_.pid for exit_ in exits} - self._roles()
        for exit_ in [exit_ for exit_ in exits if not self._role_exited(exit_, ended)]:
            any(profile.orphan_exited(exit_) for profile in self._held.all_profiles())
        if self._loop.draining:
            self._finish_if_done()

    def _roles(self) -> set[int]:
        """Return the processes that are no programs."""
        roles = {self._loop.pid, *(launcher.pid for _profile, launcher in self._all_launchers())}
        return roles if self._reload is None else roles | {self._reload.reader_pid}

    def _role_exited(self, exit_: Exit, ended: set[int]) -> bool:
        if exit_.pid == self._loop.pid:
            self._loop.died(exit_)
            return True
        if self._reload is not None and self._reload.exited(exit_):
            return True
        for profile, launcher in self._all_launchers():
            if launcher.pid == exit_.pid:
                profile.died(launcher, exit_, self._orphans(launcher, ended))
                if launcher.number not in profile.launchers:
                    self._loop.launcher_gone(launcher.number)
                    self._held.forget_left()
                return True
        return False

    def _orphans(self, dead: Launcher, ended: set[int]) -> set[int]:
        """Return the programs of a launcher that has just died, among all children and those that ended.

        Its table names them, but for one that it may have been starting: that can be any child
        that no launcher's table names. Tables are written by launchers, and one may have been
        subverted: what it names of another's it gets only if that one does not name it.
        """
        children = adopted() | ended
        others, named = {self._loop.pid}, set()
        for _profile, launcher in self._all_launchers():
            others.add(launcher.pid)
            if launcher is not dead:
                others |= launcher.orphans
                named |= table.processes(launcher.memory)
        return children - others - (named - table.processes(dead.memory))

    def _all_launchers(self) -> list[tuple[ProfileLaunchers, Launcher]]:
        new = [] if self._reload is None else self._reload.new_launchers()
        return [*self._held.all_launchers(), *new]

    # What launchers and the loop tell

    def launcher_ready(self, profile: ProfileLaunchers, launcher: Launcher) -> None:
        """Tell the loop of the launcher, or go on with the reload that waits for it."""
        if profile in self._held.all_profiles():
            self._loop.tell_launcher(profile, launcher)
        elif self._reload is not None:
            self._reload.launcher_ready()

    def launcher_refused(self, profile: ProfileLaunchers, reason: str) -> None:
        """Fail the reload that waits for the launcher; one that served before is tried again."""
        if self._reload is None or not self._reload.launcher_refused(profile, reason):
            self.log("error", "launcher_refused", services=profile.names, reason=reason)

    def loop_note(self, kind: int, number: int, token: int) -> None:
        """Take a note of the loop's, which is not trusted: it may have been subverted."""
        if kind == wire.NOTE_TAKEN and number == self._loop.generation:
            self._plan_taken()
        elif kind == wire.NOTE_MORE:
            self._more_launchers(number)
        elif kind == wire.NOTE_BROKEN:
            for profile, launcher in self._held.all_launchers():
                if launcher.number == number:
                    profile.kill(launcher)
        elif kind == wire.NOTE_RELOAD:
            self._begin_reload([token])

    def loop_lost(self, reason: str) -> None:
        """End: there is no loop to be had."""
        _say(reason)
        self._kill_everything(EXIT_SYSTEM)

    def log(self, level: str, event: str, **fields: object) -> None:
        """Have the loop log an event."""
        self._loop.log(level, event, **fields)

    def _more_launchers(self, number: int) -> None:
        for profile in self._held.all_profiles():
            if profile.number == number and profile.may_grow:
                try:
                    profile.add(next(self._launcher_numbers))
                except ResourceError as problem:
                    self.log("error", "process_not_started", role="launcher", reason=str(problem))

    # Reload

    def _begin_reload(self, tokens: list[int]) -> None:
        """Read the file again and go over to it; one that comes during another follows it."""
        if self._loop.draining:
            self._tell_tokens(tokens, ResourceError("the daemon stops"))
        elif self._reload is not None or self._answer is not None:
            self._again = (self._again or []) + tokens
        else:
            if self._held.plan is not None:
                reloading()
            self._tokens = tokens
            try:
                self._reload = Reload(self._config, self._held, self._poller, self._start_profile, self._read)
            except ResourceError as problem:
                self._read(problem)

    def _start_profile(self, profile: Profile, programs: list[Program], names: str) -> ProfileLaunchers:
        number = next(self._profile_numbers)
        launchers = ProfileLaunchers(number, profile, self._nofile, self._poller, self)
        launchers.set_programs(programs, names)
        launchers.add(next(self._launcher_numbers))
        return launchers

    def _read(self, result: tuple[Plan, Acquired] | UcspidError) -> None:
        self._reload = None
        if not isinstance(result, UcspidError):
            self._go_over(*result)
        elif self._held.plan is None:
            _say(result)
            self._kill_everything(EXIT_USAGE if isinstance(result, ConfigError) else EXIT_SYSTEM)
        else:
            self.log("error", "reload_failed", reason="\n".join(beginning(str(result).splitlines())))
            self._tell_tokens(self._tokens, result)
            self._reload_ended()

    def _go_over(self, plan: Plan, acquired: Acquired) -> None:
        """Nothing can fail from here on: the new plan is in force."""
        old = self._held.plan
        self._answer = self._tokens, beginning(changes(old, plan))
        self._held.go_over(plan, acquired)
        self._loop.generation += 1
        if old is not None and _loop_settings(old) != _loop_settings(plan):
            self._answer_clients()
            self._loop.leave()
        else:
            self._loop.tell_plan()

    def _answer_clients(self) -> None:
        """Answer before the loop leaves: those who wait are its clients, the next one does not know them."""
        assert self._answer is not None
        tokens, lines = self._answer
        self._answer = [], lines
        for token in tokens:
            self._loop.reloaded(token, ok=True, changes=lines)

    def _plan_taken(self) -> None:
        """The loop serves the new plan: let go of what only the old one had."""
        if self._answer is None:
            return
        self._held.release_old()
        _tokens, lines = self._answer
        self.log("info", "reloaded" if self._loop.generation > 1 else "started", changes=lines)
        self._answer_clients()
        self._answer = None
        if self._ready_fd is not None:
            with contextlib.suppress(OSError):  # whoever waited for it is gone
                os.write(self._ready_fd, b"\n")
            os.close(self._ready_fd)
            self._ready_fd = None
        self._reload_ended()

    def _reload_ended(self) -> None:
        if not self._loop.draining:
            assert self._held.plan is not None
            notify("READY=1", f"STATUS={len(self._held.plan.services)} services")
        if self._again is not None:
            tokens, self._again = self._again, None
            self._begin_reload(tokens)

    def _tell_tokens(self, tokens: list[int], problem: UcspidError) -> None:
        kind = "config" if isinstance(problem, ConfigError) else "system"
        error = "\n".join(beginning(str(problem).splitlines()))
        for token in tokens:
            self._loop.reloaded(token, ok=False, kind=kind, error=error)

    # The end

    def _stop(self) -> None:
        """Drain; told again, be quick about it."""
        self._cancel_reload()
        if self._held.plan is None:
            self._kill_everything(0)
            return
        first = not self._loop.draining
        self._held.close_listeners()
        self._loop.drain(at_once=not first)
        if not first:
            return
        notify("STOPPING=1")
        for profile in self._held.all_profiles():
            profile.leaving = True
        patience = self._held.longest + LAST_RESORT
        self._stop_timer = self._poller.call_in(patience, lambda: self._kill_everything(0))

    def _cancel_reload(self) -> None:
        """Let go of what was acquired for a plan that will not be."""
        if self._reload is not None:
            self._reload.cancel()
            self._reload = None
            self._tell_tokens([*self._tokens, *(self._again or [])], ResourceError("the daemon stops"))
            self._again = None

    def _finish_if_done(self) -> None:
        if not self._loop.pid and not self._all_launchers():
            self._exit = 0

    def _kill_everything(self, status: int) -> None:
        """End without ceremony: nothing runs that is worth waiting for, or it does not end."""
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._exit = status


def _say(problem: object) -> None:
    """Print what there is no loop to log: the daemon does not start."""
    for line in str(problem).splitlines():
        sys.stderr.write(f"ucspid: {line}\n")


def _reap_one() -> Exit | None:
    try:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid == 0:
        return None
    return Exit(pid, status, int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss)


def _loop_settings(plan: Plan) -> tuple[object, ...]:
    """Return what a process of the loop takes at its start and cannot change."""
    return plan.uid, plan.gid, plan.groups, plan.control, plan.nameservers, plan.log.format
