"""Both ends of the protocol between loop and launcher, in one process, with deaths at any point.

The launcher is launcher.serve.Launcher in a thread of its own, which takes one turn when it is asked to
and can die at any of POINTS; the loop's end is spawn.LauncherClient; the test is the master, which holds the
channel and the table. Only programs are not real: they are started in place of Program's start()
and reaped in place of wait4(2).
"""

import contextlib
import errno
import functools
import os
import select
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ucspid import spawn
from ucspid.admission.connection import Connection
from ucspid.ipc import messages as wire
from ucspid.ipc import session_tag
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.session_table import SIZE, Table
from ucspid.launcher import serve
from ucspid.launcher.programs import Program, Programs

SERVICE = 7
TAG = session_tag.pack(1.5, "192.0.2.1", 4000, "smtp")
FIRST_PID = (1 << 22) + 1

TIMEOUT = 60.0
"""Seconds after which a launcher does not come back from its turn."""
"""Above what the kernel gives, so that no real process is ever meant."""

POINTS = ("receive", "claim", "spawn", "spawned", "note", "noted", "send", "sent", "release", "released")
"""Where a launcher can die: before it does something, or just after."""


class Died(BaseException):
    """Ends a launcher in the middle of what it does, as SIGKILL would."""


@dataclass
class Started:
    """A program, as the kernel knows it."""

    pid: int
    connection: int
    client: int
    status: int | None = None
    reaped: bool = False


class Loop:
    """One event loop's end of the channel, and its table: the owner of its sessions."""

    name = "smtp"
    kill_timeout = 5.0

    def __init__(self, world: "World") -> None:
        self.world = world
        self.sessions: list[Connection] = []
        self.live: set[Connection] = set()
        self.ids_failed: set[int] = set()
        self.ids_served: set[int] = set()
        self.launcher = spawn.LauncherClient(1, world.loop_end.dup(), self, lambda: None)

    def counted_out(self, connection: int) -> bool:
        """Say whether this loop or an earlier one has counted a session out."""
        return connection in self.world.reported | self.ids_served

    def found(self, service: int, connection: int, tag: bytes) -> Connection:
        """Meet a session of an earlier loop."""
        assert (service, tag) == (SERVICE, TAG)
        assert connection in self.world.handed
        return self._begin(connection)

    def _begin(self, connection: int) -> Connection:
        session = Connection(self, "192.0.2.1", 4000, 1.5)
        session.hand(connection, 1.5)
        self.sessions.append(session)
        self.live.add(session)
        return session

    def connect(self, connection: int) -> bool:
        """Hand a connection over, if the kernel takes it."""
        session = self._begin(connection)
        client, servers = socket.socketpair()
        with servers:
            head = wire.Start.head(SERVICE, connection, TAG)
            taken = self.launcher.start(connection, head, servers.fileno(), session)
        if taken:
            self.world.handed[connection] = client
        else:
            self.sessions.remove(session)
            self.live.remove(session)
            client.close()
        return taken

    def started(self, session: Connection, pid: int) -> None:
        assert self.world.programs[pid].connection == session.number

    def served(self, session: Connection) -> None:
        self.live.remove(session)
        self.ids_served.add(session.number)

    def failed(self, session: Connection, _reason: int) -> None:
        self.live.remove(session)
        self.ids_failed.add(session.number)

    def die(self) -> None:
        self.world.reported |= self.ids_served
        self.launcher.close()


class Turns:
    """Stands for the launcher's poll(2): waits until it is asked to take a turn, and then never waits."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.modify, self.unregister = (
            self._poll.register, self._poll.modify, self._poll.unregister,
        )  # fmt: skip
        self.go = threading.Semaphore(0)
        self.rests = threading.Semaphore(0)
        self.doomed = False

    def poll(self) -> list[tuple[int, int]]:
        self.rests.release()
        self.go.acquire()
        if self.doomed:
            raise Died
        return self._poll.poll(0)


class DyingTable(Table):
    """The table, with deaths before and after each write."""

    __slots__ = ("process",)

    process: "LauncherProcess"

    def claim(self, connection: int, service: int, tag: bytes) -> int:
        self.process.pass_by("receive")
        slot = super().claim(connection, service, tag)
        self.process.pass_by("claim")
        return slot

    def started(self, slot: int, process: int) -> None:
        self.process.pass_by("note")
        super().started(slot, process)
        self.process.pass_by("noted")

    def release(self, slot: int) -> None:
        self.process.pass_by("release")
        super().release(slot)
        self.process.pass_by("released")


class DyingChannel(Channel):
    """The launcher's end of the loop's channel, with deaths before and after each packet."""

    __slots__ = ("process",)

    process: "LauncherProcess"

    def send(self, packet: bytes, descriptors: tuple[int, ...] = ()) -> None:
        self.process.pass_by("send")
        super().send(packet, descriptors)
        self.process.pass_by("sent")


class FakeProgram:
    """In place of launcher.programs.Program."""

    def __init__(self, process: "LauncherProcess") -> None:
        self.process = process

    def start(self, client: int, _others: Sequence[int], _variables: bytes) -> int:
        world = self.process.world
        if world.no_more_processes:
            raise OSError(errno.EAGAIN, "no more processes")
        self.process.pass_by("spawn")
        pid = FIRST_PID + len(world.programs)
        connection = max(world.claimed)
        assert connection not in {program.connection for program in world.programs.values()}
        world.programs[pid] = Started(pid, connection, os.dup(client))
        self.process.children.add(pid)
        self.process.pass_by("spawned")
        return pid


def reap(process: "LauncherProcess") -> None:
    """Have the launcher at work reap what the world says has ended."""
    for program in process.ended():
        program.reaped = True
        process.children.discard(program.pid)
        assert program.status is not None
        process.launcher.sessions.ended(program.pid, program.status, (1, 2, 3))


class LauncherProcess:
    """One process of the launcher: a thread."""

    def __init__(self, world: "World", orphans: set[int], dies_at: tuple[str, int]) -> None:
        self.world = world
        self.children: set[int] = set()
        self.problem: BaseException | None = None
        self.dies_at, self.chances = dies_at
        self.turns = Turns()
        self.master, theirs = map(Channel, pair())
        self.sigchld, self._wakes = os.pipe()
        table = DyingTable(world.memory)
        table.process = self
        loop = DyingChannel(world.own_end.dup())
        loop.process = self
        self._channels = theirs, loop
        self.launcher = serve.Launcher(theirs, loop, table, self.sigchld, Programs(Program))
        self.launcher.sessions.reap = functools.partial(reap, self)  # type: ignore[method-assign]
        self.launcher._poll = cast("Any", self.turns)
        self.launcher.programs.by_service[SERVICE] = cast("Program", FakeProgram(self))
        self._thread = threading.Thread(target=self._run, args=(orphans,), daemon=True)
        self._thread.start()
        assert self.turns.rests.acquire(timeout=TIMEOUT), self.problem

    def _run(self, orphans: set[int]) -> None:
        try:
            self.launcher.sessions.take_over(orphans)
            self.launcher.run()
        except BaseException as problem:  # noqa: BLE001 - for the test to judge
            self.problem = problem
        self.turns.rests.release()

    def turn(self) -> bool:
        """Have it take one turn; return whether it lives."""
        assert self.problem is None, f"it has ended already: {self.problem!r}"
        self.turns.go.release()
        assert self.turns.rests.acquire(timeout=TIMEOUT), self.problem
        return self.problem is None

    def pass_by(self, point: str) -> None:
        """Die here, if this is the place and the time."""
        if point == self.dies_at:
            self.chances -= 1
            if self.chances < 0:
                raise Died

    def ended(self) -> list[Started]:
        """Return its programs that have ended and that nobody has waited for."""
        programs = [self.world.programs[pid] for pid in self.children]
        return [program for program in programs if program.status is not None and not program.reaped]

    def wake(self) -> None:
        os.write(self._wakes, b"!")

    def bury(self) -> None:
        """Close what the kernel closes of a dead process."""
        self._thread.join()
        for channel in (self.master, *self._channels):
            channel.sock.close()
        os.close(self.sigchld)
        os.close(self._wakes)


class World:
    """The master, the kernel, and the one launcher of a profile with its loop."""

    def __init__(self, *, small_buffers: bool) -> None:
        self.loop_end, self.own_end = pair()
        if small_buffers:
            for end in (self.loop_end, self.own_end):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.memory = os.memfd_create("table")
        os.ftruncate(self.memory, SIZE)
        self.no_more_processes = False
        self.programs: dict[int, Started] = {}
        self.handed: dict[int, socket.socket] = {}
        self.reported: set[int] = set()
        """Connections whose end was reported to a loop that has ended."""
        self.orphans: set[int] = set()
        self.late: dict[int, bytes] = {}
        self.loop: Loop | None = Loop(self)
        self.process: LauncherProcess | None = None
        self.restart("", 0)

    @property
    def claimed(self) -> list[int]:
        """Connections in the table that have no process yet."""
        table = Table(self.memory)
        return [table.read(slot)[0] for slot in table.taken() if table.read(slot)[1] == 0]

    def alive(self) -> dict[int, int]:
        """Return the process of each connection whose program runs."""
        return {item.connection: item.pid for item in self.programs.values() if item.status is None}

    # What the master does

    def restart(self, dies_at: str, chances: int) -> None:
        """Start a launcher, as master.launchers does."""
        self.process = LauncherProcess(self, self.orphans | self.late.keys(), (dies_at, chances))
        for packet in self.late.values():
            self.process.master.send(packet)
        self.late.clear()
        self.notice_death()

    def notice_death(self) -> None:
        """Take over the programs of a launcher that has died, and wait for those that have ended."""
        process = self.process
        if process is None or process.problem is None:
            return
        assert isinstance(process.problem, Died), process.problem
        process.bury()
        self.process = None
        self.orphans |= process.children
        for program in list(self.programs.values()):
            if program.pid in self.orphans and program.status is not None:
                self._reap_orphan(program)

    def kill_launcher(self) -> None:
        assert self.process is not None
        self.process.turns.doomed = True
        self.turn()

    def turn(self) -> None:
        """Have the launcher take a turn, and take from it what it says to the master."""
        assert self.process is not None
        self.process.turn()
        self.notice_death()
        while packet := self._hear_launcher():
            wanted = wire.SignalOrphan.unpack(packet)
            assert wanted.process in self.orphans or self.programs[wanted.process].status is not None
            self.end(wanted.process, wanted.number)

    def _hear_launcher(self) -> bytes | None:
        return None if self.process is None else self.process.master.receive_packet()

    # What the kernel does

    def end(self, pid: int, status: int) -> None:
        """End a program."""
        program = self.programs[pid]
        if program.status is not None:
            return
        program.status = status
        os.close(program.client)
        if pid in self.orphans:
            self._reap_orphan(program)
        elif self.process is not None:
            self.process.wake()

    def _reap_orphan(self, program: Started) -> None:
        program.reaped = True
        self.orphans.discard(program.pid)
        assert program.status is not None
        packet = wire.OrphanExit(program.pid, program.status, 1, 2, 3).pack()
        if self.process is None:
            self.late[program.pid] = packet
        else:
            self.process.master.send(packet)

    def kill(self, pid: int, number: int) -> None:
        """In place of the launcher's kill(2): only ever at its own children."""
        assert self.process is not None
        assert pid in self.process.children
        if number == signal.SIGKILL:
            self.end(pid, number)

    def send_late(self, end: socket.socket, packet: bytes, times: int) -> None:
        """Send what somebody who is no more has said, as far as there is room."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(times):
                end.send(packet, socket.MSG_DONTWAIT)

    # The end

    def settle(self) -> Loop:
        """Let all that is under way arrive, with nobody dying; return the loop."""
        self.no_more_processes = False
        if self.process is not None:
            self.process.dies_at = ""
        if self.process is None:
            self.restart("", 0)
        if self.loop is None:
            self.loop = Loop(self)
        quiet = 0
        while quiet < 2:
            assert self.process is not None
            before = self._waiting()
            self.turn()
            assert self.loop.launcher.receive()
            quiet = quiet + 1 if not before and not self._waiting() else 0
        return self.loop

    def _waiting(self) -> list[Any]:
        """Return what is still under way."""
        assert self.process is not None
        assert self.loop is not None
        ends: list[Any] = [self.loop_end, self.own_end, self.process._channels[0], self.process.sigchld]
        readable = select.select(ends, [], [], 0)[0]
        backed_up = [self.loop.launcher._channel, self.process._channels[1], self.process.master]
        return [*readable, *(channel for channel in backed_up if channel.backed_up)]

    def close(self) -> None:
        for program in self.alive().values():
            self.end(program, 0)
        if self.process is not None:
            self.kill_launcher()
        if self.loop is not None:
            self.loop.die()
        for sock in (self.loop_end, self.own_end, *self.handed.values()):
            sock.close()
        os.close(self.memory)


def slots(memory: int) -> dict[int, int]:
    """Return connection and process of each slot that is taken; no connection has two."""
    table = Table(memory)
    rows = [table.read(slot)[:2] for slot in table.taken()]
    assert len(dict(rows)) == len(rows)
    return dict(rows)
