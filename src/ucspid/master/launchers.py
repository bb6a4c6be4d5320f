"""The launchers: one privilege profile each, kept alive, their sessions handed on when one dies.

For each launcher the master holds both ends of its channel to the loop and its table, so that
neither the loop's death nor the launcher's loses what was on its way or what runs.
"""

import contextlib
import os
import resource
import signal
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from ucspid.codec import Packed
from ucspid.errors import ResourceError, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import session_table
from ucspid.ipc.channel import Channel, pair, seqpacket
from ucspid.ipc.messages import SetProgram
from ucspid.linux import process_group
from ucspid.linux.fd_limit import why
from ucspid.linux.memfd import sealed_memory
from ucspid.master import roles
from ucspid.master.poller import Poller
from ucspid.master.programs import Program
from ucspid.master.upgrade_state import ChannelState, LauncherState, ProfileState
from ucspid.policy.backoff import Backoff
from ucspid.policy.exit_status import exit_code, how_ended
from ucspid.profile import Profile

MAX_REASON = 1000
"""Bytes of a launcher's reason for refusing its orders."""

MAX_UNREAD = 100
"""Messages, beyond one for each program, that may wait for a launcher that is sent yet another."""

MAX_LAUNCHERS = 2 * (len(os.sched_getaffinity(0)) + 1)
"""Of a profile: the loop asks for one more than there are cores, and for others when some are stuck."""


@dataclass(frozen=True, slots=True)
class Exit:
    """A child that was reaped: as wait4(2) says."""

    pid: int
    status: int
    user: int
    system: int
    max_rss: int


class LauncherObserver(Protocol):
    """What launchers tell the master of themselves."""

    def launcher_ready(self, profile: "ProfileLaunchers", launcher: "Launcher") -> None:
        """Say that a launcher has taken its privileges."""

    def launcher_refused(self, profile: "ProfileLaunchers", reason: str) -> None:
        """Say that a launcher could not take its privileges."""

    def log(self, level: str, event: str, **fields: object) -> None:
        """Log an event."""


@dataclass(slots=True, eq=False)
class Launcher:
    """One launcher, through all the processes that it has been."""

    number: int
    profile: int
    loop_end: socket.socket
    own_end: socket.socket
    memory: int
    pid: int = 0
    channel: Channel | None = None
    ready: bool = False
    introduced: bool = False
    orphans: set[int] = field(default_factory=set)
    late: dict[int, bytes] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=lambda: Backoff(0.01, 5.0, 10.0, max_failures=20))

    def to_state(self) -> LauncherState:
        """Return what from_state() takes: for the next image of the master."""
        return LauncherState(
            number=self.number,
            pid=self.pid,
            loop_end=self.loop_end.fileno(),
            own_end=self.own_end.fileno(),
            memory=self.memory,
            channel=None if self.channel is None else ChannelState.of(self.channel),
            ready=self.ready,
            introduced=self.introduced,
            orphans=list(self.orphans),
            late=[(pid, b64encode(packet).decode()) for pid, packet in self.late.items()],
        )

    @classmethod
    def from_state(cls, state: LauncherState, profile: int) -> "Launcher":
        """Return the launcher that an earlier image of the master had; its descriptors are ours now."""
        channel = state.channel
        return cls(
            state.number,
            profile,
            seqpacket(state.loop_end),
            seqpacket(state.own_end),
            state.memory,
            pid=state.pid,
            channel=None if channel is None else Channel(seqpacket(channel.descriptor), channel.packets()),
            ready=state.ready,
            introduced=state.introduced,
            orphans=set(state.orphans),
            late={pid: b64decode(packet) for pid, packet in state.late},
        )

    def leave(self) -> None:
        """Tell it in the place of a loop that has left, perhaps before it knew of this launcher."""
        Channel(self.loop_end).send(bytes([wire.LEAVE]))


class ProfileLaunchers:
    """All launchers of one profile."""

    def __init__(
        self, number: int, profile: Profile, nofile: int, poller: Poller, observer: LauncherObserver
    ) -> None:
        """Begin without a launcher; nofile is programs' soft limit of descriptors if the profile has none."""
        self.number = number
        self.launchers: dict[int, Launcher] = {}
        self.leaving = False
        self.outdated = False
        """Whether they were started by an earlier image of the master: its code is not ours."""
        self.names = ""
        self._profile = profile
        self._nofile = None if nofile == resource.RLIM_INFINITY else nofile
        self._programs: dict[int, Program] = {}
        self._poller = poller
        self._observer = observer

    def to_state(self) -> ProfileState:
        """Return what from_state() takes: for the next image of the master."""
        return ProfileState(
            number=self.number,
            names=self.names,
            leaving=self.leaving,
            profile=vars(self._profile),
            programs=[
                (_text(item.message.pack()), item.stderr, [_text(name) for name in item.earlier])
                for item in self._programs.values()
            ],
            launchers=[launcher.to_state() for launcher in self.launchers.values()],
        )

    @classmethod
    def from_state(
        cls, state: ProfileState, nofile: int, poller: Poller, observer: LauncherObserver
    ) -> tuple[Profile, "ProfileLaunchers"]:
        """Return a profile and its launchers as an earlier image of the master had them."""
        profile = Profile.from_plain(state.profile)
        launchers = cls(state.number, profile, nofile, poller, observer)
        launchers.names = state.names
        launchers.leaving = state.leaving
        launchers.outdated = True
        for packet, stderr, earlier in state.programs:
            message = SetProgram.unpack(b64decode(packet))
            launchers._programs[message.service] = Program(
                message, stderr, frozenset(map(b64decode, earlier))
            )
        for item in state.launchers:
            launcher = launchers.launchers[item.number] = Launcher.from_state(item, state.number)
            if launcher.channel is not None:
                launchers._watch(launcher)
            if not launcher.pid:
                poller.call_in(0.0, partial(launchers._restart, launcher))
        return profile, launchers

    @property
    def may_grow(self) -> bool:
        """Whether the loop may have another launcher if it asks."""
        return not self.leaving and len(self.launchers) < MAX_LAUNCHERS

    @property
    def ready(self) -> bool:
        """Whether there is a launcher at work."""
        return any(launcher.ready for launcher in self.launchers.values())

    def set_programs(self, programs: Iterable[Program], names: str) -> None:
        """Have all launchers start these programs, too; names are for ps(1) and messages.

        Connections on their way may have met an earlier plan. So whatever they need stays until
        settle(): the programs of services that are gone, and the variables of those that stay.
        """
        self.names = names
        for item in programs:
            number = item.message.service
            before = self._programs.get(number)
            if before is not None:
                item = replace(item, earlier=before.allowed.difference(item.message.names))  # noqa: PLW2901
            self._programs[number] = item
            if before is None or (before.message, before.stderr) != (item.message, item.stderr):
                self._send_all([(item.message.pack(), () if item.stderr is None else (item.stderr,))])

    def settle(self, programs: Iterable[Program]) -> None:
        """Have launchers start these programs only: no connection on its way has met an earlier plan."""
        now = {item.message.service: item for item in programs}
        gone = wire.chunks_of_numbers(self._programs.keys() - now.keys())
        messages: list[Packed] = [wire.RemovePrograms(services) for services in gone]
        for number in self._programs.keys() & now.keys():
            earlier = wire.chunks_of_names(self._programs[number].earlier)
            messages += [wire.ForbidNames(number, names) for names in earlier]
        self._programs = now
        self._send_all([(message.pack(), ()) for message in messages])

    def add(self, number: int) -> Launcher:
        """Start another launcher. Raises ResourceError."""
        try:
            loop_end, own_end = pair()
            with contextlib.ExitStack() as undo:
                undo.callback(loop_end.close)
                undo.callback(own_end.close)
                memory = sealed_memory(f"ucspid-launcher-{number}", session_table.SIZE)
                undo.callback(os.close, memory)
                launcher = Launcher(number, self.number, loop_end, own_end, memory)
                self._start(launcher)
                undo.pop_all()
        except OSError as problem:
            raise ResourceError(f"cannot start a launcher: {why(problem)}") from None
        self.launchers[number] = launcher
        return launcher

    def died(self, launcher: Launcher, exit_: Exit, children: set[int]) -> None:
        """Start it again, unless it left in peace; children are processes that may be its programs."""
        self._forget_channel(launcher)
        launcher.pid = 0
        launcher.ready = False
        if exit_.status == 0 and self.leaving:
            self._close(launcher)
            return
        launcher.orphans |= children
        pause = launcher.backoff.failed(time.monotonic())
        self._observer.log(
            "error", "process_died", role="launcher", launcher=launcher.number, pid=exit_.pid,
            **how_ended(exit_code(exit_.status)), restart_in=pause, orphans=len(launcher.orphans),
        )  # fmt: skip
        self._poller.call_in(pause, lambda: self._restart(launcher))

    def orphan_exited(self, exit_: Exit) -> bool:
        """Tell the launcher that has taken an orphan over of its end; return whether it is one of ours."""
        for launcher in self.launchers.values():
            if exit_.pid in launcher.orphans:
                launcher.orphans.discard(exit_.pid)
                packet = wire.OrphanExit(
                    exit_.pid, exit_.status, exit_.user, exit_.system, exit_.max_rss
                ).pack()
                if launcher.channel is None:
                    launcher.late[exit_.pid] = packet
                else:
                    launcher.channel.send(packet)
                    self._watch(launcher)
                return True
        return False

    def dismiss(self) -> None:
        """End launchers that never served: they have no programs."""
        for launcher in list(self.launchers.values()):
            self.kill(launcher)
            self._forget_channel(launcher)
            self._close(launcher)

    def _restart(self, launcher: Launcher) -> None:
        if launcher.number not in self.launchers:
            return
        try:
            self._start(launcher)
        except OSError as problem:
            pause = launcher.backoff.failed(time.monotonic())
            self._observer.log(
                "error", "process_not_started", role="launcher", launcher=launcher.number,
                reason=why(problem), restart_in=pause,
            )  # fmt: skip
            self._poller.call_in(pause, lambda: self._restart(launcher))

    def _start(self, launcher: Launcher) -> None:
        ours, theirs = pair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            launcher.pid = roles.start_launcher(theirs.fileno(), launcher.own_end.fileno(), launcher.memory)
            undo.pop_all()
        channel = launcher.channel = Channel(ours)
        for item in self._programs.values():
            for packet, descriptors in item.packets():
                channel.send(packet, descriptors)
        for orphans in wire.chunks_of_numbers(launcher.orphans | launcher.late.keys()):
            channel.send(wire.Orphans(orphans).pack())
        title = f"ucspid: launcher {self.names}"
        channel.send(wire.TakePrivileges(wire.VERSION, self._nofile, title, self._profile).pack())
        for packet in launcher.late.values():
            channel.send(packet)
        launcher.late.clear()
        self._watch(launcher)

    def _send_all(self, messages: Sequence[tuple[bytes, tuple[int, ...]]]) -> None:
        """Send something to all launchers whose process can be sent anything.

        One that cannot, for want of descriptors say, or that has not read for so long that it has not
        read all programs of before, is killed: its successor is sent everything.
        """
        for launcher in self.launchers.values():
            if launcher.channel is None:
                continue
            try:
                if len(launcher.channel.waiting) > MAX_UNREAD + len(self._programs):
                    self.kill(launcher)
                else:
                    for packet, descriptors in messages:
                        launcher.channel.send(packet, descriptors)
            except OSError:
                self.kill(launcher)
            self._watch(launcher)

    def _watch(self, launcher: Launcher) -> None:
        assert launcher.channel is not None
        self._poller.watch(
            launcher.channel.fileno(), lambda: self._receive(launcher), write=launcher.channel.backed_up
        )

    def _receive(self, launcher: Launcher) -> None:
        assert launcher.channel is not None
        launcher.channel.flush()
        try:
            packet = launcher.channel.receive_packet()
            if packet:
                self._take(launcher, packet)
        except WireError as problem:
            self._observer.log("error", "launcher_broken", launcher=launcher.number, reason=str(problem))
            self.kill(launcher)
        else:
            if packet == b"":
                self._forget_channel(launcher)
                return
        self._watch(launcher)

    def _take(self, launcher: Launcher, packet: bytes) -> None:
        """Take a message of a launcher, which is not trusted: it may have been subverted."""
        kind = packet[0]
        if kind == wire.Ready.KIND:
            version = wire.Ready.unpack(packet).version
            if version != wire.VERSION:
                raise WireError(f"it speaks version {version}")
            launcher.ready = launcher.introduced = True
            self._observer.launcher_ready(self, launcher)
        elif kind == wire.Refused.KIND:
            self._observer.launcher_refused(self, wire.Refused.unpack(packet).reason[:MAX_REASON])
        elif kind == wire.SignalOrphan.KIND:
            wanted = wire.SignalOrphan.unpack(packet)
            if wanted.process in launcher.orphans and wanted.number in (signal.SIGTERM, signal.SIGKILL):
                process_group.send_signal(wanted.process, wanted.number)
        else:
            raise WireError(f"it sent a message of kind {kind}")

    def kill(self, launcher: Launcher) -> None:
        """Kill a launcher's process; its programs go on, and it is started again."""
        if launcher.pid:
            os.kill(launcher.pid, signal.SIGKILL)

    def _forget_channel(self, launcher: Launcher) -> None:
        if launcher.channel is not None:
            self._poller.forget(launcher.channel.fileno())
            launcher.channel.close()
            launcher.channel = None

    def _close(self, launcher: Launcher) -> None:
        del self.launchers[launcher.number]
        launcher.loop_end.close()
        launcher.own_end.close()
        os.close(launcher.memory)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
