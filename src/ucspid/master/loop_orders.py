"""The orders that send the plan to a process of the event loop: each thing once.

They are JSON, with descriptors beside it; control.master_client is the other end.
"""

import contextlib
import os
from dataclasses import replace

from ucspid.ipc.channel import MAX_DESCRIPTORS
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.loop_process import LoopProcess
from ucspid.plan import Plan, Service, to_json


class LoopOrders:
    """The orders to one process that say what to serve."""

    def __init__(self, process: LoopProcess) -> None:
        """Begin with a process that has been sent nothing."""
        self.process = process
        self.begun = False
        """Whether it has been sent its first order."""
        self.introduced: set[tuple[str, int]] = set()
        self._services: dict[int, tuple[Service, int, list[int]]] = {}

    def begin(self, held: Holdings, config: str, began: float) -> None:
        """Send the first order: its user, its log; began is the daemon's start on the monotonic clock."""
        plan = held.plan
        assert plan is not None
        self.begun = True
        control = held.control.at(plan.control)
        self.process.send(
            "first",
            (held.counters,) if control is None else (held.counters, control.fileno()),
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

    def send_plan(self, held: Holdings, generation: int) -> None:
        """Send the plan in force, with the descriptors that the process does not have yet.

        Raises OSError where the system has no memory for it.
        """
        plan = held.plan
        assert plan is not None
        self._forget(held)
        for profile, launcher in held.all_launchers():
            if launcher.introduced:
                self.send_launcher(profile, launcher)
        for pipe in held.pipes:
            if self._introduce("stderr", pipe.number):
                self.process.send("stderr", (pipe.reading,), service=pipe.service)
        for service in plan.services:
            self._send_listeners(held, service)
        self._send_services(held, plan, generation)

    def send_launcher(self, profile: ProfileLaunchers, launcher: HeldLauncher) -> None:
        """Send a launcher's channel, if the process does not have it."""
        if self._introduce("launcher", launcher.number):
            self.process.send(
                "launcher",
                (launcher.loop_end.fileno(),),
                number=launcher.number,
                profile=profile.number,
                kind=profile.kind,
                leaving=profile.leaving,
            )

    def _send_listeners(self, held: Holdings, service: Service) -> None:
        new = [item for item in held.listeners.of(service) if self._introduce("listener", item.number)]
        for item in new:
            with contextlib.suppress(OSError):
                item.set_up(service)  # a process that was taken over may have shut it down
        for start in range(0, len(new), MAX_DESCRIPTORS):
            some = new[start : start + MAX_DESCRIPTORS]
            descriptors = tuple(item.sock.fileno() for item in some)
            self.process.send("listeners", descriptors, numbers=[item.number for item in some])

    def _send_services(self, held: Holdings, plan: Plan, generation: int) -> None:
        """Send the services of the plan, which do not fit a packet, in a memfd.

        Of services that have not changed only the number is sent, so that a reload with a thousand
        services holds no client up.
        """
        before, self._services = self._services, {}
        changed = []
        for service in plan.services:
            number, profile = held.number(service.name), held.profiles[service.profile].number
            listeners = [item.number for item in held.listeners.of(service)]
            now = self._services[number] = service, profile, listeners
            if before.get(number) != now:
                settings = _settings(service)
                changed.append(
                    {"number": number, "profile": profile, "settings": settings, "listeners": listeners}
                )
        kept = list(self._services.keys() - {item["number"] for item in changed})
        with os.fdopen(os.memfd_create("ucspid-plan", os.MFD_CLOEXEC), "w") as memory:
            gone = [[held.number(name), name, ending] for name, ending in held.gone.items()]
            common = {"max_connections": plan.max_connections, "kept": kept, "gone": gone}
            for item in (common, *changed):
                memory.write(to_json(item) + "\n")
            memory.flush()
            self.process.send("plan", (memory.fileno(),), generation=generation, level=plan.log.level)

    def _forget(self, held: Holdings) -> None:
        """Forget what it has been sent and is not there any more."""
        self.introduced &= {
            *(("launcher", launcher.number) for _profile, launcher in held.all_launchers()),
            *(("stderr", pipe.number) for pipe in held.pipes),
            *(("listener", listening.number) for listening in held.listeners),
        }

    def _introduce(self, kind: str, which: int) -> bool:
        if (kind, which) in self.introduced:
            return False
        self.introduced.add((kind, which))
        return True


def _settings(service: Service) -> Service:
    """Return what the loop is sent of a service: of its program the file, for events, and nothing else."""
    return replace(service, argv=(), env=())
