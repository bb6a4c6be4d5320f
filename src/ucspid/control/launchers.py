"""The launchers as the loop has them: a pool for each privilege profile, and the services waiting for it."""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from ucspid.admission.turns import Turns
from ucspid.errors import WireError
from ucspid.ipc import orders
from ucspid.observe import events
from ucspid.pool import Pool
from ucspid.recovery.takeover import Takeover
from ucspid.sessions.service import LiveService
from ucspid.spawn import STUCK_AFTER, LauncherClient

MAX_LAST_PACKETS = 1024
"""Packets that are taken of a launcher that has exited: more than a socket holds."""

MIN_LOOK = 0.25
"""Minimum seconds between two checks for stuck launchers: each check visits all of them."""

MAX_LATE = 0.5
"""Seconds that a check may be late before the loop counts as stopped: by SIGSTOP, for example."""


class LauncherMaster(Protocol):
    """What the loop may ask of the master for its launchers."""

    def more_launchers(self, profile: int) -> None:
        """Ask for another launcher of a profile."""

    def broken_launcher(self, number: int) -> None:
        """Ask for a launcher to be replaced: it does not answer, or sends garbage."""


class Launchers:
    """All launchers, by their numbers, and their pools, by the numbers of profiles."""

    def __init__(
        self, log: FilteringBoundLogger, master: LauncherMaster, takeover: Takeover, heard: Callable[[], None]
    ) -> None:
        """Start with none; takeover knows the sessions of earlier loops; heard() is called after reports."""
        self.by_number: dict[int, LauncherClient] = {}
        self.kinds: dict[int, str] = {}
        self._log = log
        self._master = master
        self._takeover = takeover
        self._heard = heard
        self._pools: dict[int, tuple[Pool, Turns]] = {}
        self._open = False
        self._look_at: float | None = None
        """When the next check for stuck launchers is due; None while no start is in flight."""

    @property
    def synced(self) -> bool:
        """Whether all have reported what they run."""
        return all(launcher.synced for launcher in self.by_number.values())

    def add(self, order: orders.AddLauncher, sock: socket.socket) -> None:
        """Add a launcher; the sessions that it already runs are taken over first."""
        self.kinds[order.number] = order.kind
        pool, turns = self.pool(order.profile)
        launcher = LauncherClient(order.number, sock, self._takeover, partial(self._changed, turns))
        launcher.pid = order.pid
        self.by_number[order.number] = launcher
        pool.add(launcher, order.kind)
        if order.draining:
            launcher.drain()
        asyncio.get_running_loop().add_reader(launcher.fileno(), self._receive, launcher)

    def lose(self, number: int) -> None:
        """Forget a launcher that has exited and is not replaced."""
        launcher = self.by_number.pop(number, None)
        self.kinds.pop(number, None)
        if launcher is None:
            return
        asyncio.get_running_loop().remove_reader(launcher.fileno())
        _hear_last(launcher)
        for pool, _turns in self._pools.values():
            pool.launchers.pop(number, None)
        launcher.lost()
        launcher.close()
        self._heard()

    def pool(self, profile: int) -> tuple[Pool, Turns]:
        """Return the pool of a profile, and the turns of the services that wait for it."""
        if profile not in self._pools:
            pool = Pool(partial(self._master.more_launchers, profile))
            pool.open = self._open
            self._pools[profile] = pool, Turns(lambda: pool.choose() is not None)
        return self._pools[profile]

    def served_by(self, number: int, services: Iterable[LiveService]) -> list[str]:
        """Return the names of the services that a launcher serves."""
        return [service.name for service in services if number in service.pool.launchers]

    def open(self) -> None:
        """Take starts from now on."""
        self._open = True
        for pool, turns in list(self._pools.values()):
            pool.open = True
            turns.go_on()

    def release(self, profiles: Iterable[int]) -> None:
        """Let launchers of all but these profiles exit with their last program."""
        for number in self._pools.keys() - profiles:
            pool, _turns = self._pools[number]
            for launcher in pool.launchers.values():
                launcher.drain()
            if not pool.launchers:
                del self._pools[number]

    def drain(self) -> None:
        """Let all exit with their last program."""
        for launcher in self.by_number.values():
            launcher.drain()

    def replace_silent(self) -> None:
        """Request replacements for launchers that have not reported what they run; their programs go on."""
        for launcher in self.by_number.values():
            if not launcher.synced:
                events.launcher_stuck(self._log, launcher.number, launcher.pid)
                self._master.broken_launcher(launcher.number)

    def watch(self) -> None:
        """Keep a timer while starts are in flight, to notice launchers that are stuck."""
        if self._look_at is None:
            self._look_later(time.monotonic(), STUCK_AFTER)

    def _look_later(self, now: float, wait: float) -> None:
        self._look_at = now + wait
        asyncio.get_running_loop().call_later(wait, self._notice_stuck)

    def _receive(self, launcher: LauncherClient) -> None:
        try:
            there = launcher.receive()
        except WireError as problem:
            events.launcher_broken(self._log, launcher.number, str(problem))
            self._master.broken_launcher(launcher.number)
        else:
            if not there:
                self.lose(launcher.number)

    def _changed(self, turns: Turns) -> None:
        if not self._takeover.balanced:
            self._heard()
        if turns.waiting:
            turns.go_on()

    def _notice_stuck(self) -> None:
        now = time.monotonic()
        assert self._look_at is not None
        late = now - self._look_at
        self._look_at = None
        for pool, turns in list(self._pools.values()):
            for launcher in pool.judge(now, late if late > MAX_LATE else 0.0):
                events.launcher_stuck(self._log, launcher.number, launcher.pid)
            turns.go_on()
        self._replace_overdue()
        times = [now + STUCK_AFTER for launcher in self.by_number.values() if launcher.overdue]
        times += [due for item in self.by_number.values() if (due := item.judged_next) is not None]
        if times:
            self._look_later(now, max(MIN_LOOK, min(times) - now))

    def _replace_overdue(self) -> None:
        """Have the launcher replaced whose start has been waiting longest for an answer.

        One at a time: of two that die at once nobody knows whose start a program was.
        """
        overdue = [launcher for launcher in self.by_number.values() if launcher.overdue]
        if overdue:
            launcher = min(overdue, key=lambda item: next(iter(item.in_flight)))
            self._master.broken_launcher(launcher.number)


def _hear_last(launcher: LauncherClient) -> None:
    """Take what a launcher sent before it exited: it may do so right after its last report."""
    poll = select.poll()
    poll.register(launcher.fileno(), select.POLLIN)
    with contextlib.suppress(WireError):
        for _ in range(MAX_LAST_PACKETS):
            if not poll.poll(0) or not launcher.receive():
                break
