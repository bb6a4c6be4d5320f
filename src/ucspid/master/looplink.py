"""The event loop as the master keeps it: started, told the plan, started again when it dies.

What it is told is JSON, with descriptors beside it (see masterlink for the other end); what it
says has a fixed layout and is not trusted, since the loop is what meets the network.
"""

import json
import os
import signal
import time
from dataclasses import asdict
from typing import Any, Protocol

from ucspid.backoff import Backoff
from ucspid.errors import ResourceError, WireError
from ucspid.master import roles
from ucspid.master.launchers import Exit, Launcher, ProfileLaunchers, how_it_died
from ucspid.master.poller import Poller
from ucspid.master.state import Holdings
from ucspid.plan import Plan, Service
from ucspid.wire import messages as wire
from ucspid.wire.channel import MAX_DESCRIPTORS, Channel, pair

MAX_HELD_EVENTS = 1000
"""Events of the master that wait while there is no loop to log them."""

MAX_FALSE_STARTS = 5
"""Deaths of the loop before it has ever taken a plan, after which the daemon gives up."""


EXIT_TIMEOUT = 5.0
"""Seconds that a loop may live on after it has closed its channel."""


class Owner(Protocol):
    """What the loop's notes mean to the master."""

    def loop_note(self, kind: int, number: int, token: int) -> None:
        """Take a note of the loop's: see wire.messages."""

    def loop_lost(self, reason: str) -> None:
        """The loop cannot be had."""


class LoopLink:
    """The master's side of the loop, through all the processes that it has been."""

    def __init__(self, config: str, held: Holdings, poller: Poller, owner: Owner) -> None:
        """Begin without a process."""
        self.pid = 0
        self.generation = 0
        self.taken = False
        self.draining = False
        self.leaving = False
        self._at_once = False
        self._config = config
        self._held = held
        self._poller = poller
        self._owner = owner
        self._began = time.monotonic()
        self._channel: Channel | None = None
        self._hung_up = False
        self._introduced: set[tuple[str, int | str]] = set()
        self._told: dict[int, tuple[Service, int, list[int]]] = {}
        self._told_first = False
        self._events: list[dict[str, Any]] = []
        self._backoff = Backoff(0.01, 5.0, 10.0)
        self._false_starts = 0

    # Its process

    def start(self) -> None:
        """Start a process, and tell it everything if there is a plan. Raises ResourceError."""
        ours, theirs = pair()
        with theirs:
            try:
                self.pid = roles.start_loop(theirs.fileno())
            except OSError as problem:
                ours.close()
                raise ResourceError(f"cannot start the event loop: {problem.strerror}") from None
        self._channel = Channel(ours)
        self._hung_up = False
        self._introduced.clear()
        self._told.clear()
        self._told_first = False
        self._watch()
        if self._held.plan is not None:
            self.tell_plan()

    def died(self, exit_: Exit) -> None:
        """Start it again; what it knew is told to the new one."""
        assert self._channel is not None
        if not self._hung_up:
            self._poller.forget(self._channel.fileno())
        self._channel.sock.close()
        self._channel = None
        self._told_first = False
        self.pid = 0
        if self.draining and exit_.status == 0 and not self.leaving:
            for _profile, launcher in self._held.all_launchers():
                launcher.leave()
            return
        self._false_starts += not self.taken
        if self._false_starts >= MAX_FALSE_STARTS:
            self._owner.loop_lost(f"the event loop does not start: {how_it_died(exit_.status)}")
            return
        pause = 0.0 if self.leaving else self._backoff.failed(time.monotonic())
        if not self.leaving:
            died = {"role": "loop", "pid": exit_.pid, **how_it_died(exit_.status), "restart_in": pause}
            self.log("error", "process_died", **died)
        self.leaving = False
        self._poller.call_in(pause, self._restart)

    def _restart(self) -> None:
        try:
            self.start()
        except ResourceError as problem:
            pause = self._backoff.failed(time.monotonic())
            self.log("error", "process_not_started", role="loop", reason=str(problem), restart_in=pause)
            self._poller.call_in(pause, self._restart)

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    # What it is told

    def tell_plan(self) -> None:
        """Tell the plan in force, with the descriptors that the process does not have yet."""
        if self._channel is None:
            return
        plan = self._held.plan
        assert plan is not None
        self._tell_first()
        for profile, launcher in self._held.all_launchers():
            if launcher.introduced:
                self.tell_launcher(profile, launcher)
        for name, (reading, _writing) in self._held.stderr.items():
            if self._introduce("stderr", name):
                self._tell("stderr", (reading,), service=name)
        for service in plan.services:
            self._tell_listeners(service)
        self._tell_services(plan)
        if self.draining:
            self.drain(at_once=self._at_once)

    def tell_launcher(self, profile: ProfileLaunchers, launcher: Launcher) -> None:
        """Tell of a launcher, if the process does not know it."""
        if self._told_first and self._introduce("launcher", launcher.number):
            self._tell(
                "launcher",
                (launcher.loop_end.fileno(),),
                number=launcher.number,
                profile=profile.number,
                leaving=profile.leaving,
            )

    def launcher_gone(self, number: int) -> None:
        """Tell that a launcher has left."""
        if self._told_first:
            self._tell("launcher_gone", number=number)

    def drain(self, *, at_once: bool) -> None:
        """Have it accept nothing more, and let or make its sessions end."""
        self.draining = True
        self._at_once = at_once
        if self._told_first:
            self._tell("drain", at_once=at_once)

    def leave(self) -> None:
        """Have the process end, to be replaced by one with other privileges or another log."""
        self.leaving = self._channel is not None
        self._tell("leave")

    def reloaded(self, token: int, **answer: Any) -> None:
        """Answer a reload that a control client asked for."""
        if self._told_first:
            self._tell("reloaded", token=token, **answer)

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Have an event logged; it waits while there is no loop."""
        self._events.append({"level": level, "event": event, "fields": fields})
        if len(self._events) > MAX_HELD_EVENTS:
            del self._events[0]
        self._tell_events()

    def _tell_first(self) -> None:
        """Tell a new process as whom to run and how to log."""
        if self._told_first:
            return
        plan, control = self._held.plan, self._held.control
        assert plan is not None
        self._told_first = True
        self._tell(
            "first",
            () if control is None else (control.fileno(),),
            log=asdict(plan.log),
            uid=plan.uid,
            gid=plan.gid,
            groups=plan.groups,
            nameservers=plan.nameservers,
            owner=os.geteuid(),
            config=self._config,
            began=self._began,
        )
        self._tell_events()

    def _tell_events(self) -> None:
        if self._told_first:
            for event in self._events:
                self._tell("log", **event)
            self._events.clear()

    def _tell_listeners(self, service: Service) -> None:
        new = [item for item in self._held.listeners_of(service) if self._introduce("listener", item.number)]
        for start in range(0, len(new), MAX_DESCRIPTORS):
            some = new[start : start + MAX_DESCRIPTORS]
            descriptors = tuple(item.sock.fileno() for item in some)
            self._tell("listeners", descriptors, numbers=[item.number for item in some])

    def _tell_services(self, plan: Plan) -> None:
        """Tell everything that fits no packet, in memory that is passed: the services of the plan.

        Of those that the process has as they are, only the number, so that a reload costs the
        clients of a thousand services no wait.
        """
        before, self._told = self._told, {}
        changed = []
        for service in plan.services:
            number, profile = self._held.number(service.name), self._held.profiles[service.profile].number
            listeners = [item.number for item in self._held.listeners_of(service)]
            told = self._told[number] = service, profile, listeners
            if before.get(number) != told:
                settings = _settings(service)
                changed.append(
                    {"number": number, "profile": profile, "settings": settings, "listeners": listeners}
                )
        kept = list(self._told.keys() - {item["number"] for item in changed})
        text = json.dumps({"max_connections": plan.max_connections, "changed": changed, "kept": kept})
        with os.fdopen(os.memfd_create("ucspid-plan", os.MFD_CLOEXEC), "wb") as memory:
            memory.write(text.encode())
            memory.flush()
            self._tell("plan", (memory.fileno(),), generation=self.generation, level=plan.log.level)

    def _introduce(self, kind: str, which: int | str) -> bool:
        if (kind, which) in self._introduced:
            return False
        self._introduced.add((kind, which))
        return True

    def _tell(self, order: str, descriptors: tuple[int, ...] = (), **fields: Any) -> None:
        if self._channel is not None:
            packet = json.dumps({"do": order, **fields}, separators=(",", ":")).encode()
            self._channel.send(packet, descriptors)
            self._watch()

    # What it says

    def _watch(self) -> None:
        assert self._channel is not None
        if not self._hung_up:
            self._poller.watch(self._channel.fileno(), self._ready, write=self._channel.backed_up)

    def _ready(self) -> None:
        assert self._channel is not None
        self._channel.flush()
        try:
            packet = self._channel.receive_packet()
            if packet:
                self._take(packet)
            elif packet == b"":
                self._hang_up(self._channel)
        except WireError as problem:
            self.log("error", "loop_broken", reason=str(problem))
            self.kill()
        if self._channel is not None:
            self._watch()

    def _hang_up(self, channel: Channel) -> None:
        """Listen no more to a loop that has closed its channel: it is about to exit, or it is subverted."""
        self._hung_up = True
        self._poller.forget(channel.fileno())
        pid = self.pid
        self._poller.call_in(EXIT_TIMEOUT, lambda: self.kill() if self.pid == pid else None)

    def _take(self, packet: bytes) -> None:
        kind, number, token = wire.unpack(wire.NOTE_HEAD, packet)
        if kind == wire.NOTE_TAKEN:
            self.taken = True
        self._owner.loop_note(kind, number, token)


def _settings(service: Service) -> dict[str, Any]:
    """Return what the loop is told of a service: not its program and environment."""
    return asdict(service) | {"executable": "", "argv": (), "env": ()}
