"""What one image of the master carries into the next, when it executes itself from newer code.

Values of JSON; a descriptor is its number, which execve(2) keeps. The newer code may know more or
fewer settings of a service, but it must know this layout: STATE is its version.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator

from ucspid import plain
from ucspid.errors import ResourceError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Ending, LauncherKey, LauncherKind, Plan, TlsProcesses
from ucspid.records import dataclass

STATE = 6
"""Of this layout, and of the tables of sessions, which live on in memory (launcher.table)."""


@dataclass(kw_only=True)
class ChannelState:
    """A channel: its descriptor, and what waits to be sent, packets as base64."""

    descriptor: int
    waiting: list[tuple[str, list[int]]]

    @classmethod
    def of(cls, channel: Channel) -> "ChannelState":
        """Describe a channel."""
        waiting = [(b64encode(packet).decode(), list(others)) for packet, others in channel.waiting]
        return cls(descriptor=channel.fileno(), waiting=waiting)

    def packets(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """Return what waits."""
        return [(b64decode(packet), tuple(others)) for packet, others in self.waiting]

    def descriptors(self) -> Iterator[int]:
        """Yield the descriptors."""
        yield self.descriptor
        for _packet, others in self.waiting:
            yield from others


@dataclass(kw_only=True)
class LauncherState:
    """A launcher; late are messages of orphans' ends for it, as base64."""

    number: int
    pid: int
    loop_end: int
    own_end: int
    memory: int
    channel: ChannelState | None
    ready: bool
    introduced: bool
    orphans: list[int]
    late: list[tuple[int, str]]

    def descriptors(self) -> Iterator[int]:
        """Yield the descriptors."""
        yield from (self.loop_end, self.own_end, self.memory)
        if self.channel is not None:
            yield from self.channel.descriptors()


@dataclass(kw_only=True)
class ProfileState:
    """A profile's launchers.

    programs are (message as base64, descriptor of standard error, earlier variables as base64).
    """

    number: int
    kind: LauncherKind
    names: str
    draining: bool
    key: LauncherKey
    programs: list[tuple[str, int | None, list[str]]]
    launchers: list[LauncherState]


@dataclass(kw_only=True)
class HeldTlsState:
    """A TLS process."""

    number: int
    pid: int
    loop_end: int
    channel: ChannelState
    wanted: int
    taken: int

    def descriptors(self) -> Iterator[int]:
        """Yield the descriptors."""
        yield self.loop_end
        yield from self.channel.descriptors()


@dataclass(kw_only=True)
class TlsState:
    """The TLS processes; secret is in hexadecimal."""

    settings: TlsProcesses | None
    material: int | None
    number: int
    period: int
    secret: str
    serving: list[HeldTlsState]
    draining: list[HeldTlsState]
    last: int

    def descriptors(self) -> Iterator[int]:
        """Yield the descriptors."""
        if self.material is not None:
            yield self.material
        for process in (*self.serving, *self.draining):
            yield from process.descriptors()


@dataclass(kw_only=True)
class LoopState:
    """The event loop; pid is 0 if there is none for the moment."""

    pid: int
    channel: ChannelState | None
    introduced: list[tuple[str, int]]
    generation: int
    began: float


@dataclass(kw_only=True)
class HoldingsState:
    """What the plan in force uses; listeners are (address, service, place, number, path, descriptor).

    stderr are (number, service, user, end to read, end to write if it is open).
    others are the descriptors that Holdings names in CARRIED.
    """

    plan: Plan
    control: list[tuple[str, int]]
    listeners: list[tuple[Endpoint, str, int, int, tuple[int, int] | None, int]]
    stderr: list[tuple[int, str, int | None, int, int | None]]
    numbers: dict[str, int]
    longest: float
    gone: dict[str, Ending]
    others: dict[str, int]
    profiles: list[ProfileState]
    tls: TlsState


@dataclass(kw_only=True)
class MasterState:
    """Everything; version is that of the code that wrote it."""

    state: int
    wire: int
    version: str
    config: str
    nofile: int
    next_launcher: int
    next_profile: int
    upgrade_tokens: list[int]
    reload_tokens: list[int]
    loop: LoopState
    holdings: HoldingsState

    def descriptors(self) -> list[int]:
        """Return all descriptors that are carried."""
        held = self.holdings
        found = [*held.others.values()]
        found += [descriptor for _path, descriptor in held.control]
        found += [descriptor for *_, descriptor in held.listeners]
        for *_, reading, writing in held.stderr:
            found += (reading,) if writing is None else (reading, writing)
        for profile in held.profiles:
            for launcher in profile.launchers:
                found += launcher.descriptors()
        found += held.tls.descriptors()
        if self.loop.channel is not None:
            found += self.loop.channel.descriptors()
        return found

    def to_json(self) -> str:
        """Return it as a line of JSON; parse() is the way back."""
        return plain.to_json(self)

    def to_memory(self) -> int:
        """Return a descriptor of memory that has it. Raises OSError."""
        memory = os.memfd_create("ucspid-state", os.MFD_CLOEXEC)
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(self.to_json().encode())
        return memory


def from_memory(descriptor: int) -> MasterState:
    """Return what is in the memory, and close it. Raises as parse() does."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return parse(file.read())


def parse(text: str | bytes) -> MasterState:
    """Return the state that to_json() wrote. Raises ResourceError if it is of a version not known here."""
    data = json.loads(text)
    for what, ours in (("state", STATE), ("wire", wire.VERSION)):
        if data.get(what) != ours:
            theirs = data.get(what)
            raise ResourceError(f"needs a restart: it knows version {ours} of the {what}, not {theirs}")
    try:
        return plain.read(MasterState, data)
    except (KeyError, TypeError, ValueError) as problem:
        raise ResourceError(f"needs a restart: its state has another format ({problem})") from None
