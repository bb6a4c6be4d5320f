"""One TLS process as the master holds it: its channel, and the loop's end of its channel to the loop."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Protocol

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair, seqpacket
from ucspid.master import roles
from ucspid.master.poller import Poller, Timer
from ucspid.master.upgrade_state import ChannelState, HeldTlsState, TlsState
from ucspid.plan import TlsProcesses
from ucspid.records import dataclass, field
from ucspid.tls.ticket_keys import SECRET_SIZE, TicketSecret

MAX_REASON = 1000
"""Characters of the reason why certificates cannot be used."""

MAX_UNREAD = 100
"""Messages that may wait for a process to read them."""


ANSWER_TIMEOUT = 5.0
"""Seconds that a process may take for an answer, which takes it no longer than a turn."""


class TlsListener(Protocol):
    """Hears what a TLS process says."""

    def has_taken(self, process: "HeldTls") -> None:
        """Take note that it uses the certificates that it was sent last."""

    def has_refused_material(self, process: "HeldTls", reason: str) -> None:
        """Take note that it cannot use the certificates that it was sent last."""

    def was_given_up(self, process: "HeldTls", reason: str) -> None:
        """Take note why it is killed: it has sent what none sends, or does not answer."""


class HeldTls:
    """One process, from its start to its end."""

    def __init__(
        self,
        number: int,
        pid: int,
        loop_end: socket.socket,
        channel: Channel,
        poller: Poller,
        listener: TlsListener,
    ) -> None:
        """Own both ends, and hear what it says."""
        self.number = number
        self.pid = pid
        self.loop_end = loop_end
        self.wanted = 0
        """The number of the certificates that it was sent last."""
        self.taken = 0
        """The number of those that it uses."""
        self._channel = channel
        self._poller = poller
        self._listener = listener
        self._heard = True
        """Whether its end of the channel is open."""
        self._asked: Timer | None = None
        """Kills it unless it has answered by then."""
        self._due = 0.0
        self._watch()

    @classmethod
    def start(
        cls,
        number: int,
        settings: TlsProcesses,
        secret: TicketSecret,
        poller: Poller,
        listener: TlsListener,
    ) -> "HeldTls":
        """Start one, and send it whom to run as. Raises OSError."""
        (ours, theirs), (loop_end, own_end) = pair(), pair()
        with theirs, own_end:
            try:
                pid = roles.start_tls(theirs.fileno(), own_end.fileno())
            except OSError:
                ours.close()
                loop_end.close()
                raise
        process = cls(number, pid, loop_end, Channel(ours), poller, listener)
        process._send(
            wire.TakeTlsRights(
                version=wire.VERSION,
                uid=settings.uid,
                gid=settings.gid,
                groups=settings.groups,
                period=secret.period,
                secret=secret.secret.hex(),
            ).pack()
        )
        return process

    def to_state(self) -> HeldTlsState:
        """Return what from_state() takes: for the next image of the master."""
        return HeldTlsState(
            number=self.number,
            pid=self.pid,
            loop_end=self.loop_end.fileno(),
            channel=ChannelState.of(self._channel),
            wanted=self.wanted,
            taken=self.taken,
        )

    @classmethod
    def from_state(cls, state: HeldTlsState, poller: Poller, listener: TlsListener) -> "HeldTls":
        """Return the process that an earlier image of the master had; its descriptors are ours now."""
        channel = Channel(seqpacket(state.channel.descriptor), state.channel.packets())
        process = cls(state.number, state.pid, seqpacket(state.loop_end), channel, poller, listener)
        process.wanted, process.taken = state.wanted, state.taken
        return process

    @property
    def ready(self) -> bool:
        """Whether it uses the certificates that it was sent last."""
        return self.taken == self.wanted > 0

    def use(self, number: int, memory: int) -> None:
        """Send it certificates in memory."""
        self.wanted = number
        self._send(wire.UseMaterial(number).pack(), (memory,))

    def ask(self, seconds: float = ANSWER_TIMEOUT) -> None:
        """Have it answer within some seconds, or sooner if it was asked before; else it is killed."""
        due = time.monotonic() + seconds
        if not self.taken or (self._asked is not None and self._due <= due):
            return
        if self._asked is None:
            self._send(wire.Ping().pack())
        else:
            self._asked.cancel()
        self._due = due
        self._asked = self._poller.call_in(seconds, lambda: self._overdue(seconds))

    def _overdue(self, seconds: float) -> None:
        self._asked = None
        if time.monotonic() - self._due > seconds:
            self.ask(seconds)  # this process was stopped, too
        elif self.pid:
            self._listener.was_given_up(self, f"it has not answered for {seconds:g} s")
            self.kill()

    def drain(self) -> None:
        """Have it exit when its last connection has ended: no more come."""
        self._send(wire.Drain().pack())

    def _send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send a packet; a process that cannot be sent it, or does not read, is killed: another follows."""
        try:
            if not self._heard or self._channel.backlog > MAX_UNREAD:
                self.kill()
            else:
                self._channel.send(packet, descriptors)
        except OSError:
            self.kill()
        self._watch()

    def kill(self) -> None:
        """Kill it; it has not been reaped yet."""
        if self.pid:  # kill(2): 0 would be our own process group
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Forget a process that has ended."""
        self.pid = 0
        self._answered()
        self._hear_no_more()
        self._channel.close()
        self.loop_end.close()

    def _answered(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _watch(self) -> None:
        if self._heard:
            self._poller.watch(self._channel.fileno(), self._receive, write=self._channel.backed_up)

    def _hear_no_more(self) -> None:
        """Do without its messages: a channel that has ended would be reported again and again."""
        if self._heard:
            self._heard = False
            self._poller.forget(self._channel.fileno())

    def _receive(self) -> None:
        self._channel.flush()
        try:
            packet = self._channel.receive_packet()
            if packet:
                self._take(packet)
        except WireError as problem:
            self._listener.was_given_up(self, str(problem))
            self.kill()
            packet = b""
        if packet == b"":
            self._hear_no_more()  # its exit will be reported
        else:
            self._watch()

    def _take(self, packet: bytes) -> None:
        """Take a message, which is not trusted: the process meets what the network sends."""
        kind = packet[0]
        if kind == wire.Ready.KIND:
            if (version := wire.Ready.unpack(packet).version) != wire.VERSION:
                raise WireError(f"it speaks version {version}")
        elif kind == wire.Pong.KIND:
            self._answered()
        elif kind == wire.MaterialTaken.KIND:
            if wire.MaterialTaken.unpack(packet).number == self.wanted and not self.ready:
                self.taken = self.wanted
                self._listener.has_taken(self)
        elif kind == wire.MaterialRefused.KIND:
            refused = wire.MaterialRefused.unpack(packet)
            # If not, it was sent others since, or has answered: one that is taken over might fill the log.
            if refused.number == self.wanted and not self.ready:
                self._listener.has_refused_material(self, refused.reason[:MAX_REASON])
        else:
            raise WireError(f"it sent a message of kind {kind}")


@dataclass(slots=True)
class TlsHoldings:
    """The TLS processes, and what each new one needs."""

    settings: TlsProcesses | None = None
    """How many there are to be, and as whom; None for none."""
    material: int | None = None
    """Memory with the certificates in force."""
    number: int = 0
    """How often certificates were sent so far."""
    secret: TicketSecret = field(
        default_factory=lambda: TicketSecret.first(os.urandom(SECRET_SIZE), time.time())
    )
    serving: dict[int, HeldTls] = field(default_factory=dict)
    """By number, those that get connections."""
    draining: dict[int, HeldTls] = field(default_factory=dict)
    """Those that have been replaced, and exit with their last connection."""
    outdated: bool = False
    """Whether those that serve were started by an earlier image of the master: their code is not ours."""
    last: int = 0
    """The number of the last that was started."""
    ends: dict[str, float] = field(default_factory=dict)
    """When the first certificate of a service ends, by the service's name, in seconds since 1970."""

    def all(self) -> Iterator[HeldTls]:
        """Yield each process."""
        yield from self.serving.values()
        yield from self.draining.values()

    def to_state(self) -> TlsState:
        """Return what TlsKeeper takes: for the next image of the master."""
        return TlsState(
            settings=self.settings,
            material=self.material,
            number=self.number,
            period=self.secret.period,
            secret=self.secret.secret.hex(),
            serving=[process.to_state() for process in self.serving.values()],
            draining=[process.to_state() for process in self.draining.values()],
            last=self.last,
        )
