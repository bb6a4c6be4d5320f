"""The launchers of a privilege profile: kept alive, their sessions handed on when one dies."""

import os
import resource
import time
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable
from functools import partial
from typing import Protocol

from ucspid.codec import Packed
from ucspid.errors import ResourceError
from ucspid.ipc import messages as wire
from ucspid.linux.fd_limit import why
from ucspid.master import events
from ucspid.master.children import Exit
from ucspid.master.event_log import EventLog
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.poller import Poller
from ucspid.master.programs import HeldProgram, PackedMessage
from ucspid.master.upgrade_state import ProfileState
from ucspid.plan import LauncherKey, LauncherKind, Preloaded
from ucspid.policy.exit_status import exit_code, in_words
from ucspid.records import replace

MAX_UNREAD = 100
"""Messages, beyond one for each program, that may wait for a launcher that is sent yet another."""

MAX_LAUNCHERS = 2 * (len(os.sched_getaffinity(0)) + 1)
"""Of a profile: the loop asks for one more than there are cores, and for others when some are stuck."""


class LauncherObserver(Protocol):
    """What launchers report to the master."""

    def launcher_ready(self, profile: "ProfileLaunchers", launcher: HeldLauncher) -> None:
        """Say that a launcher has taken its privileges."""

    def launcher_refused(self, profile: "ProfileLaunchers", reason: str, *, program: bool) -> None:
        """Say that a launcher could not take its privileges, or could not import its program."""

    def program_changed(self, profile: "ProfileLaunchers") -> None:
        """Say that a file has changed that a preloaded program was imported from."""


class ProfileLaunchers:
    """All launchers of one profile."""

    def __init__(
        self,
        number: int,
        key: LauncherKey,
        nofile: int,
        poller: Poller,
        log: EventLog,
        observer: LauncherObserver,
        kind: LauncherKind = "python",
    ) -> None:
        """Begin without a launcher; nofile is programs' soft limit of descriptors if the profile has none."""
        self.number = number
        self.key = key
        self.kind = kind
        self.launchers: dict[int, HeldLauncher] = {}
        self.draining = False
        self.outdated = False
        """Whether they were started by an earlier image of the master: its code is not ours."""
        self.names = ""
        """Of the services, for ps(1) and messages."""
        self._nofile = None if nofile == resource.RLIM_INFINITY else nofile
        self._programs: dict[int, HeldProgram] = {}
        self._poller = poller
        self._log = log
        self._observer = observer

    def to_state(self) -> ProfileState:
        """Return what from_state() takes: for the next image of the master."""
        return ProfileState(
            number=self.number,
            kind=self.kind,
            names=self.names,
            draining=self.draining,
            key=self.key,
            programs=[
                (_text(item.message.pack()), item.stderr, [_text(name) for name in item.earlier])
                for item in self._programs.values()
            ],
            launchers=[launcher.to_state() for launcher in self.launchers.values()],
        )

    @classmethod
    def from_state(
        cls, state: ProfileState, nofile: int, poller: Poller, log: EventLog, observer: LauncherObserver
    ) -> "ProfileLaunchers":
        """Return the launchers of a profile as an earlier image of the master had them."""
        launchers = cls(state.number, state.key, nofile, poller, log, observer, state.kind)
        launchers.names = state.names
        launchers.draining = state.draining
        launchers.outdated = True
        for packet, stderr, earlier in state.programs:
            message = wire.SetProgram.unpack(b64decode(packet))
            launchers._programs[message.service] = HeldProgram(
                message, stderr, frozenset(map(b64decode, earlier))
            )
        for item in state.launchers:
            launcher = launchers.launchers[item.number] = HeldLauncher.from_state(item, poller, launchers)
            if not launcher.pid:
                poller.call_in(0.0, partial(launchers._restart, launcher))
        return launchers

    @property
    def may_grow(self) -> bool:
        """Whether the loop may have another launcher if it asks."""
        return not self.draining and len(self.launchers) < MAX_LAUNCHERS

    @property
    def ready(self) -> bool:
        """Whether there is a launcher at work."""
        return any(launcher.ready for launcher in self.launchers.values())

    def is_renewed(self, numbers: Collection[int] | None) -> bool:
        """Whether it has a program to import again, and its number is among these, if any are given."""
        service = self.key.service
        if service is None or service.preloaded.own:
            return False
        return numbers is None or self.number in numbers

    # Programs

    def set_programs(self, programs: Iterable[HeldProgram], names: str) -> None:
        """Have all launchers start these programs, too; names are those of the services.

        Connections on their way may have met an earlier plan. So whatever they need stays until
        settle(): the programs of services that are gone, and the variables of those that stay.
        """
        self.names = names
        changed = []
        for item in programs:
            number = item.message.service
            before = self._programs.get(number)
            if before is not None:
                item = replace(item, earlier=before.allowed.difference(item.message.names))  # noqa: PLW2901
            self._programs[number] = item
            if before is None or (before.message, before.stderr) != (item.message, item.stderr):
                changed.append(item.set_message())
        self._send(changed)

    def settle(self, programs: Iterable[HeldProgram]) -> None:
        """Have launchers start these programs only: no connection on its way has met an earlier plan."""
        now = {item.message.service: item for item in programs}
        gone = wire.chunks_of_numbers(self._programs.keys() - now.keys())
        messages: list[Packed] = [wire.RemovePrograms(services) for services in gone]
        for number in self._programs.keys() & now.keys():
            earlier = wire.chunks_of_names(self._programs[number].earlier)
            messages += [wire.ForbidNames(number, names) for names in earlier]
        self._programs = now
        self._send([(message.pack(), ()) for message in messages])

    def _send(self, messages: list[PackedMessage]) -> None:
        for launcher in self.launchers.values():
            launcher.send(messages, MAX_UNREAD + len(self._programs))

    # Launchers come and go

    def add(self, number: int) -> HeldLauncher:
        """Start another launcher. Raises ResourceError."""
        try:
            launcher = HeldLauncher.open(number, self._poller, self)
            try:
                self._start(launcher)
            except OSError:
                launcher.close()
                raise
        except OSError as problem:
            raise ResourceError(f"cannot start a launcher: {why(problem)}") from None
        self.launchers[number] = launcher
        return launcher

    def died(self, launcher: HeldLauncher, exit_: Exit, children: set[int]) -> None:
        """Start it again, unless it exited after draining; children may be its programs."""
        launcher.ended()
        if exit_.status == 0 and self.draining:
            self._remove(launcher)
            return
        launcher.orphans |= children
        if self.key.service is not None and not launcher.introduced:
            how = in_words(exit_code(exit_.status))
            reason = f"the interpreter ended before the program was imported: {how}"
            self._observer.launcher_refused(self, reason, program=True)
        pause = launcher.backoff.failed(time.monotonic())
        orphans = len(launcher.orphans)
        events.launcher_died(self._log, launcher.number, exit_.pid, exit_.status, pause, orphans)
        self._poller.call_in(pause, partial(self._restart, launcher))

    def orphan_exited(self, exit_: Exit) -> bool:
        """Have the launcher that has taken an orphan over know of its end; return whether one has."""
        return any(launcher.orphan_exited(exit_) for launcher in self.launchers.values())

    def dismiss(self) -> None:
        """End launchers that never served: they have no programs."""
        for launcher in list(self.launchers.values()):
            launcher.kill()
            self._remove(launcher)

    def _remove(self, launcher: HeldLauncher) -> None:
        del self.launchers[launcher.number]
        launcher.close()

    def _start(self, launcher: HeldLauncher) -> None:
        programs = [message for item in self._programs.values() for message in item.messages()]
        # Launchers of an earlier plan have none any more: their successors are for the sessions alone.
        if self.key.service is not None and programs:
            programs.append((_preload(self.key.service.preloaded).pack(), ()))
        title = f"ucspid: launcher {self.names}"
        launcher.start(
            self.kind, programs, wire.TakePrivileges(wire.VERSION, self._nofile, title, self.key.profile)
        )

    def _restart(self, launcher: HeldLauncher) -> None:
        if launcher.number not in self.launchers:
            return
        try:
            self._start(launcher)
        except OSError as problem:
            pause = launcher.backoff.failed(time.monotonic())
            events.launcher_not_restarted(self._log, launcher.number, why(problem), pause)
            self._poller.call_in(pause, partial(self._restart, launcher))

    # What launchers say

    def is_ready(self, launcher: HeldLauncher) -> None:
        """Pass on that a launcher has taken its privileges."""
        self._observer.launcher_ready(self, launcher)

    def has_refused(self, reason: str, *, program: bool) -> None:
        """Pass on why a launcher has not taken its privileges, or has not imported its program."""
        self._observer.launcher_refused(self, reason, program=program)

    def has_changed(self) -> None:
        """Pass on that the program of a launcher has changed, if anybody wants to know."""
        if self.key.service is not None and self.key.service.preloaded.watch and not self.draining:
            self._observer.program_changed(self)

    def is_broken(self, launcher: HeldLauncher, reason: str) -> None:
        """Log that a launcher has sent what none sends."""
        events.launcher_broken(self._log, launcher.number, reason)


def _preload(preloaded: Preloaded) -> wire.Preload:
    modules = tuple(name.encode("utf-8", "surrogateescape") for name in preloaded.modules)
    return wire.Preload(preloaded.watch, preloaded.own, preloaded.script, preloaded.module, modules)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
