"""One launcher as the master holds it: both ends of its channel to the loop, its table, its process.

The ends and the table stay when its process dies, so that nothing is lost that was on its way or that
runs: the next process goes on with them.
"""

import contextlib
import os
import signal
import socket
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Protocol

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc import session_table
from ucspid.ipc.channel import Channel, pair, seqpacket
from ucspid.linux import process_group
from ucspid.linux.memfd import sealed_memory
from ucspid.master import roles
from ucspid.master.children import Exit
from ucspid.master.poller import Poller
from ucspid.master.programs import PackedMessage
from ucspid.master.upgrade_state import ChannelState, LauncherState
from ucspid.plan import LauncherKind
from ucspid.policy.backoff import Backoff

MAX_REASON = 1000
"""Characters of a launcher's reason for refusing its orders."""

MAX_TRACEBACK = 8000
"""Characters of the reason why a launcher cannot import its program."""

REFUSALS: dict[int, tuple[type[wire.PrivilegesRefused | wire.CannotLoad], int]] = {
    wire.PrivilegesRefused.KIND: (wire.PrivilegesRefused, MAX_REASON),
    wire.CannotLoad.KIND: (wire.CannotLoad, MAX_TRACEBACK),
}
"""Messages after which a launcher exits, by their kinds, and how much of a reason is taken."""


class LauncherListener(Protocol):
    """Hears what a launcher says."""

    def is_ready(self, launcher: "HeldLauncher") -> None:
        """Take note that it has taken its privileges."""

    def has_refused(self, reason: str, *, program: bool) -> None:
        """Take note that it cannot take its privileges, or cannot import its program."""

    def has_changed(self) -> None:
        """Take note that a file has changed that its program was imported from."""

    def is_broken(self, launcher: "HeldLauncher", reason: str) -> None:
        """Take note that it has sent what none sends; it has been killed."""


class HeldLauncher:
    """One launcher, through all the processes that it has been."""

    def __init__(
        self,
        number: int,
        ends: tuple[socket.socket, socket.socket],
        memory: int,
        poller: Poller,
        listener: LauncherListener,
    ) -> None:
        """Own the loop's and the launcher's end of its channel, and the memory of its table."""
        self.number = number
        self.loop_end, self.own_end = ends
        self.memory = memory
        self.pid = 0
        self.channel: Channel | None = None
        self.ready = False
        self.introduced = False
        """Whether the loop may know it: it was ready once."""
        self.orphans: set[int] = set()
        self.late: dict[int, bytes] = {}
        """Ends of orphans that no process has been sent yet."""
        self.backoff = Backoff(0.01, 5.0, 10.0, max_failures=20)
        self._poller = poller
        self._listener = listener

    @classmethod
    def open(cls, number: int, poller: Poller, listener: LauncherListener) -> "HeldLauncher":
        """Return a new launcher, without a process. Raises OSError."""
        ends = pair()
        try:
            memory = sealed_memory(f"ucspid-launcher-{number}", session_table.SIZE)
        except OSError:
            for end in ends:
                end.close()
            raise
        return cls(number, ends, memory, poller, listener)

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
    def from_state(cls, state: LauncherState, poller: Poller, listener: LauncherListener) -> "HeldLauncher":
        """Return the launcher that an earlier image of the master had; its descriptors are ours now."""
        ends = seqpacket(state.loop_end), seqpacket(state.own_end)
        launcher = cls(state.number, ends, state.memory, poller, listener)
        launcher.pid, launcher.ready, launcher.introduced = state.pid, state.ready, state.introduced
        launcher.orphans = set(state.orphans)
        launcher.late = {pid: b64decode(packet) for pid, packet in state.late}
        if state.channel is not None:
            launcher.listen(Channel(seqpacket(state.channel.descriptor), state.channel.packets()))
        return launcher

    # Its process

    def start(
        self, kind: LauncherKind, programs: Iterable[PackedMessage], orders: wire.TakePrivileges
    ) -> None:
        """Start a process, and send it all that it has to know. Raises OSError if there is none.

        One that cannot be sent all of it, for want of descriptors say, is killed.
        """
        ours, theirs = pair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            self.pid = roles.start_launcher(kind, theirs.fileno(), self.own_end.fileno(), self.memory)
            undo.pop_all()
        channel = Channel(ours)
        orphans = wire.chunks_of_numbers(self.orphans | self.late.keys())
        first = [*programs, *((wire.Orphans(some).pack(), ()) for some in orphans), (orders.pack(), ())]
        try:
            for packet, descriptors in first:
                channel.send(packet, descriptors)
            for packet in self.late.values():
                channel.send(packet)
            self.late.clear()
        except OSError:
            self.kill()
        self.listen(channel)

    def kill(self) -> None:
        """Kill the process, which has not been reaped; its programs go on, and it is started again."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> None:
        """Take note that there is no process any more."""
        self.pid = 0
        self.ready = False
        self._forget_channel()

    def close(self) -> None:
        """Close everything: no process will follow."""
        self._forget_channel()
        self.loop_end.close()
        self.own_end.close()
        os.close(self.memory)

    def drain(self) -> None:
        """Send it Drain in the place of a loop that has ended, perhaps before it knew of this launcher."""
        Channel(self.loop_end).send(wire.Drain().pack())

    # What it is sent

    def send(self, messages: Iterable[PackedMessage], max_waiting: int) -> None:
        """Send messages to its process, if there is one.

        One that cannot be sent them, for want of descriptors say, or that has so many still to read, is
        killed: the next is sent everything.
        """
        if self.channel is None:
            return
        try:
            if self.channel.backlog > max_waiting:
                self.kill()
            else:
                for packet, descriptors in messages:
                    self.channel.send(packet, descriptors)
        except OSError:
            self.kill()
        self._watch()

    def orphan_exited(self, exit_: Exit) -> bool:
        """Send how an orphan has ended; return whether it is one of this launcher's."""
        if exit_.pid not in self.orphans:
            return False
        self.orphans.discard(exit_.pid)
        ended = wire.OrphanExit(exit_.pid, exit_.status, exit_.user, exit_.system, exit_.max_rss)
        if self.channel is None:
            self.late[exit_.pid] = ended.pack()
        else:
            self.channel.send(ended.pack())
            self._watch()
        return True

    # What it says

    def listen(self, channel: Channel) -> None:
        """Hear what its process says over a channel."""
        self.channel = channel
        self._watch()

    def _watch(self) -> None:
        if self.channel is not None:  # whoever heard its last message may have closed it
            self._poller.watch(self.channel.fileno(), self._receive, write=self.channel.backed_up)

    def _receive(self) -> None:
        assert self.channel is not None
        self.channel.flush()
        try:
            packet = self.channel.receive_packet()
            if packet:
                self._take(packet)
        except WireError as problem:
            self._listener.is_broken(self, str(problem))
            self.kill()
        else:
            if packet == b"":
                self._forget_channel()
                return
        self._watch()

    def _take(self, packet: bytes) -> None:
        """Take a message of a launcher, which is not trusted: it may have been taken over."""
        kind = packet[0]
        if kind == wire.Ready.KIND:
            if (version := wire.Ready.unpack(packet).version) != wire.VERSION:
                raise WireError(f"it speaks version {version}")
            self.ready = self.introduced = True
            self._listener.is_ready(self)
        elif kind in REFUSALS:
            cls, most = REFUSALS[kind]
            self._listener.has_refused(cls.unpack(packet).reason[:most], program=cls is wire.CannotLoad)
        elif packet == wire.Changed().pack():
            self._listener.has_changed()
        elif kind == wire.SignalOrphan.KIND:
            wanted = wire.SignalOrphan.unpack(packet)
            if wanted.process in self.orphans and wanted.number in (signal.SIGTERM, signal.SIGKILL):
                process_group.send_signal(wanted.process, wanted.number)
        else:
            raise WireError(f"it sent a message of kind {kind}")

    def _forget_channel(self) -> None:
        if self.channel is not None:
            self._poller.forget(self.channel.fileno())
            self.channel.close()
            self.channel = None
