"""One process of the event loop, as the master speaks with it: what it has been told already.

What it is told is JSON, with descriptors beside it; masterlink is the other end.
"""

import contextlib
import json
import os
import signal
from dataclasses import replace
from typing import Any

from ucspid.errors import ResourceError
from ucspid.ipc.channel import MAX_DESCRIPTORS, Channel, pair
from ucspid.master import roles
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import Launcher, ProfileLaunchers
from ucspid.plan import Plan, Service, to_json


class LoopProcess:
    """A process that is one of the event loop's, and its channel."""

    def __init__(self, pid: int, channel: Channel) -> None:
        """Describe a process that has been told nothing yet."""
        self.pid = pid
        self.channel = channel
        self.ready = False
        """Whether it has imported everything, and only waits to be told."""
        self.hung_up = False
        """Whether nothing more is heard of it: it has closed its end of the channel, or is killed."""
        self.told_first = False
        self.killed = False
        """Whether it is about to end: what it is told now nobody hears."""
        self.introduced: set[tuple[str, int]] = set()
        self.outdated = False
        """Whether it was started by an earlier image of the master: its code is not ours."""
        self._told: dict[int, tuple[Service, int, list[int]]] = {}

    @classmethod
    def start(cls) -> "LoopProcess":
        """Start one. Raises ResourceError."""
        try:
            ours, theirs = pair()
        except OSError as problem:
            raise ResourceError(f"cannot start the event loop: {problem.strerror}") from None
        with theirs:
            try:
                return cls(roles.start_loop(theirs.fileno()), Channel(ours))
            except OSError as problem:
                ours.close()
                raise ResourceError(f"cannot start the event loop: {problem.strerror}") from None

    @property
    def unheard(self) -> int:
        """How many orders wait for it, beyond one for each thing that it has been told of."""
        return self.channel.backlog - len(self.introduced)

    def kill(self) -> None:
        """Kill the process, which has not been reaped yet."""
        self.killed = True
        if self.pid:  # kill(2): 0 would be our own process group
            os.kill(self.pid, signal.SIGKILL)

    def tell(self, order: str, descriptors: tuple[int, ...] = (), **fields: Any) -> None:
        """Give an order; it waits if the process is slow to read."""
        packet = json.dumps({"do": order, **fields}, separators=(",", ":")).encode()
        self.channel.send(packet, descriptors)

    def tell_first(self, held: Holdings, config: str, began: float) -> None:
        """Tell as whom to run and how to log."""
        plan = held.plan
        assert plan is not None
        self.told_first = True
        self.tell(
            "first",
            (held.counters,) if held.control is None else (held.counters, held.control.fileno()),
            log={"format": plan.log.format, "level": plan.log.level},
            uid=plan.uid,
            gid=plan.gid,
            groups=plan.groups,
            nameservers=plan.nameservers,
            looks_up=plan.looks_up,
            asks_dns=plan.asks_dns,
            asks_ident=plan.asks_ident,
            owner=os.geteuid(),
            config=config,
            began=began,
        )

    def tell_plan(self, held: Holdings, generation: int) -> None:
        """Tell the plan in force, with the descriptors that the process does not have yet."""
        plan = held.plan
        assert plan is not None
        self._forget(held)
        for profile, launcher in held.all_launchers():
            if launcher.introduced:
                self.tell_launcher(profile, launcher)
        for pipe in held.log_pipes():
            if self._introduce("stderr", pipe.number):
                self.tell("stderr", (pipe.reading,), service=pipe.service)
        for service in plan.services:
            self._tell_listeners(held, service)
        self._tell_services(held, plan, generation)

    def tell_launcher(self, profile: ProfileLaunchers, launcher: Launcher) -> None:
        """Tell of a launcher, if the process does not know it."""
        if self._introduce("launcher", launcher.number):
            self.tell(
                "launcher",
                (launcher.loop_end.fileno(),),
                number=launcher.number,
                profile=profile.number,
                leaving=profile.leaving,
            )

    def _tell_listeners(self, held: Holdings, service: Service) -> None:
        new = [item for item in held.listeners_of(service) if self._introduce("listener", item.number)]
        for item in new:
            with contextlib.suppress(OSError):
                item.set_up(service)  # a process that was taken over may have shut it down
        for start in range(0, len(new), MAX_DESCRIPTORS):
            some = new[start : start + MAX_DESCRIPTORS]
            descriptors = tuple(item.sock.fileno() for item in some)
            self.tell("listeners", descriptors, numbers=[item.number for item in some])

    def _tell_services(self, held: Holdings, plan: Plan, generation: int) -> None:
        """Tell everything that fits no packet, in memory that is passed: the services of the plan.

        Of those that the process has as they are, only the number, so that a reload costs the
        clients of a thousand services no wait.
        """
        before, self._told = self._told, {}
        changed = []
        for service in plan.services:
            number, profile = held.number(service.name), held.profiles[service.profile].number
            listeners = [item.number for item in held.listeners_of(service)]
            told = self._told[number] = service, profile, listeners
            if before.get(number) != told:
                settings = _settings(service)
                changed.append(
                    {"number": number, "profile": profile, "settings": settings, "listeners": listeners}
                )
        kept = list(self._told.keys() - {item["number"] for item in changed})
        with os.fdopen(os.memfd_create("ucspid-plan", os.MFD_CLOEXEC), "w") as memory:
            for item in ({"max_connections": plan.max_connections, "kept": kept}, *changed):
                memory.write(to_json(item) + "\n")
            memory.flush()
            self.tell("plan", (memory.fileno(),), generation=generation, level=plan.log.level)

    def _forget(self, held: Holdings) -> None:
        """Forget what it has been told of and is not there any more."""
        self.introduced &= {
            *(("launcher", launcher.number) for _profile, launcher in held.all_launchers()),
            *(("stderr", pipe.number) for pipe in held.log_pipes()),
            *(("listener", listening.number) for listening in held.listeners.values()),
        }

    def _introduce(self, kind: str, which: int) -> bool:
        if (kind, which) in self.introduced:
            return False
        self.introduced.add((kind, which))
        return True


def _settings(service: Service) -> Service:
    """Return what the loop is told of a service: of its program the file, for events, and nothing else."""
    return replace(service, argv=(), env=())
