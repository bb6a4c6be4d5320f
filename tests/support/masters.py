"""A master in the test's own process, with children that are the test's.

Where the master would start a loop, a launcher, a reader or a trial, a process starts that only
sleeps, and the test has the other ends: what such a process says, and how it ends, the test says.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from plans import plan as plan_of
from plans import service
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, seqpacket
from ucspid.master import roles
from ucspid.master.children import Exit
from ucspid.master.event_log import EventLog
from ucspid.master.main import Master
from ucspid.master.poller import Poller
from ucspid.plan import Plan
from ucspid.policy.backoff import Backoff


@dataclass
class Child:
    """A process of the daemon that only sleeps, and the test's end of what it was given."""

    process: subprocess.Popen[bytes]
    channel: Channel | None = None
    outputs: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def say(self, packet: bytes) -> None:
        assert self.channel is not None
        self.channel.send(packet)

    def note(self, kind: int, number: int = 0, token: int = 0) -> None:
        self.say(wire.Note.head(kind, number, token))

    def orders(self) -> list[dict[str, Any]]:
        """Return what a loop has been sent since the last time."""
        assert self.channel is not None
        orders = []
        while (received := self.channel.receive()) and received[0]:
            order = json.loads(received[0])
            for descriptor in received[1]:
                if order["do"] == "allow_variables" and order["reason"] is None:
                    order["names"] = json.loads(os.pread(descriptor, 1 << 20, 0))
                os.close(descriptor)
            orders.append(order)
            if order["do"] == "log":
                self.note(wire.NOTE_LOGGED)
        return orders

    def write(self, output: bytes, errors: bytes = b"") -> None:
        """Print what a reader would."""
        for descriptor, data in zip(self.outputs, (output, errors), strict=True):
            os.write(descriptor, data)

    def wait_killed(self) -> None:
        """Wait until somebody has killed it; it stays there to be reaped."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        if self.channel is not None and self.channel.fileno() >= 0:
            self.channel.sock.close()
        for descriptor in self.outputs:
            os.close(descriptor)
        self.outputs.clear()

    @property
    def killed(self) -> bool:
        """Whether somebody has killed it."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def events_of(log: EventLog) -> list[str]:
    """Return the names of the events that wait in a log, and take them."""
    found: list[str] = []

    def take(event: dict[str, Any]) -> bool:
        found.append(event["event"])
        return True

    log.send(take)
    for _ in found:
        log.logged()
    return found


class MasterRig:
    """The master and its children."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the master's children be ours."""
        self.loops: list[Child] = []
        self.launchers: list[Child] = []
        self.readers: list[Child] = []
        self.rules_readers: list[Child] = []
        self.trials: list[Child] = []
        self.answers: list[dict[str, Any]] = []
        """What control clients were answered, of those orders that were looked at."""
        monkeypatch.setattr(roles, "start_loop", lambda channel: self._start(self.loops, channel))
        monkeypatch.setattr(
            roles, "start_launcher", lambda _kind, channel, *_: self._start(self.launchers, channel)
        )
        monkeypatch.setattr(
            roles,
            "start_reader",
            lambda _config, _material, *outputs: self._start(self.readers, outputs=outputs),
        )
        monkeypatch.setattr(
            roles,
            "start_rules_reader",
            lambda _file, _plan, *outputs: self._start(self.rules_readers, outputs=outputs),
        )
        monkeypatch.setattr(
            roles,
            "start_trial",
            lambda _state, _counts, _config, *outputs: self._start(self.trials, outputs=outputs),
        )
        monkeypatch.setattr(Backoff, "failed", lambda _backoff, _now: 0.0)
        self._signals = socket.socketpair()
        self.master: Any = Master("/etc/ucspid.yaml", None, self._signals[0].fileno(), 1024)
        self.poller: Poller = self.master.parts.poller
        self.begin: Callable[[], None] = self.master.begin

    def _start(self, kind: list[Child], channel: int | None = None, outputs: tuple[int, ...] = ()) -> int:
        child = Child(subprocess.Popen(["sleep", "1000"], process_group=0, close_fds=True))
        if channel is not None:
            child.channel = Channel(seqpacket(os.dup(channel)))
        child.outputs = [os.dup(descriptor) for descriptor in outputs[:2]]
        kind.append(child)
        return child.pid

    @property
    def loop(self) -> Child:
        """The process of the loop that was started last."""
        return self.loops[-1]

    def work(self) -> None:
        """Have the master do what there is to do, and wait for nothing."""
        for _ in range(150):
            self.poller.call_in(0.0, lambda: None)
            self.poller.run_once()

    def end(self, child: Child, status: int = 0) -> None:
        """Have a child end with a wait status, as the master sees it."""
        child.close()
        child.ended = True
        self.master.reaper.take([Exit(child.pid, status, 0, 0, 0)])
        self.master.shutdown.finish_if_drained()
        self.work()

    def read(self, plan: Plan | None = None, status: int = 0, errors: bytes = b"") -> None:
        """Have the reader that was started last print a plan, and end."""
        self.readers[-1].write(b"" if plan is None else plan.to_json().encode(), errors)
        self.end(self.readers[-1], status)

    def until(self, condition: Callable[[], object]) -> None:
        """Have the master work until something is so; pytest ends it if it never is."""
        while not condition():
            self.poller.call_in(0.01, lambda: None)
            self.poller.run_once()

    def refuse(self, launcher: Child, reason: str) -> None:
        """Have a launcher say that it cannot take its privileges."""
        launcher.say(wire.PrivilegesRefused(reason).pack())
        self.work()

    def serve(self, *names: str) -> None:
        """Start, up to a plan with services that the loop has taken."""
        self.begin()
        self.read(plan_of(*map(service, names or ("a",))))
        self.take()

    def take(self) -> None:
        """Have new launchers be ready and the loop take the plan in force."""
        for launcher in self.launchers:
            if not launcher.ended:
                launcher.say(wire.Ready(wire.VERSION).pack())
        self.work()
        self.loop.note(wire.NOTE_READY, wire.VERSION)
        self.loop.note(wire.NOTE_TAKEN, self.generation)
        self.work()

    def succeed(self) -> None:
        """Have the successor of the loop be ready, the one before exit, and the plan be taken."""
        before = self.loops[-2]
        self.loop.note(wire.NOTE_READY, wire.VERSION)
        self.work()
        self.end(before)
        self.take()

    @property
    def generation(self) -> int:
        generation: int = self.master.parts.loop.generation
        return generation

    def events(self, loop: Child | None = None) -> list[str]:
        """Return the names of the events that the loop has been given to log since the last time."""
        orders = (loop or self.loop).orders()
        self.answers += [order for order in orders if order["do"] == "answer"]
        return [order["event"] for order in orders if order["do"] == "log"]

    def answered(self, loop: Child | None = None) -> dict[int, Any]:
        """Return what control clients were answered: by token the result, or the text of the error."""
        self.events(loop)
        return {order["token"]: order["result"] or order["error"] for order in self.answers}

    def close(self) -> None:
        """End all children."""
        master = self.master
        for profile, _launcher in master.reaper.launchers():
            profile.dismiss()
        loop, held = master.parts.loop, master.parts.held
        for orders in (loop.current, loop.succession.successor):
            if orders is not None:
                orders.process.channel.close()
        master.changeover.stop()
        master.variables.cancel()
        held.close()
        master.parts.children.close()
        for child in [*self.loops, *self.launchers, *self.readers, *self.rules_readers, *self.trials]:
            child.process.kill()
            child.process.wait()
            child.close()
        for sock in self._signals:
            sock.close()


@contextlib.contextmanager
def mastering(monkeypatch: pytest.MonkeyPatch) -> Iterator[MasterRig]:
    """Have a master that has not begun yet."""
    rig = MasterRig(monkeypatch)
    try:
        yield rig
    finally:
        rig.close()
