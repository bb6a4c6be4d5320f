"""The orders that send the plan to a process of the event loop: each thing once.

They are JSON, with descriptors beside it; control.master_client is the other end.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping

from ucspid.ipc import orders
from ucspid.ipc.channel import MAX_DESCRIPTORS
from ucspid.master.children import Children
from ucspid.master.held_launcher import HeldLauncher
from ucspid.master.held_tls import HeldTls
from ucspid.master.holdings import Holdings
from ucspid.master.launchers import ProfileLaunchers
from ucspid.master.loop_process import LoopProcess
from ucspid.master.relays import start_relay
from ucspid.plain import to_json
from ucspid.plan import Plan, PlanFrame, PlannedService, Service
from ucspid.records import replace

SendOrder = Callable[[orders.Order, tuple[int, ...]], None]
"""Sends an order, with descriptors beside it."""

SentService = tuple[int, Service, tuple[int, ...]]
"""A service, as the plan has it, between the numbers of its profile and of its listeners."""


class LoopOrders:
    """The orders to one process that say what to serve."""

    def __init__(self, process: LoopProcess) -> None:
        """Begin with a process that has been sent nothing."""
        self.process = process
        self.begun = False
        """Whether it has been sent its first order."""
        self._introduced: dict[str, set[int]] = {
            kind: set() for kind in ("launcher", "tls", "stderr", "listener")
        }
        """The numbers of what it has been sent, by kind."""
        self._services: dict[int, SentService] = {}

    def begin(self, held: Holdings, config: str, began: float, children: Children) -> None:
        """Send the first order: its user, its log; began is the daemon's start on the monotonic clock.

        If the log goes to the journal, a relay for that is started: it is one of the children.
        """
        plan = held.plan
        assert plan is not None
        self.begun = True
        control = held.control.at(plan.control)
        relay = start_relay(plan, children)
        order = orders.Begin(
            log_format=plan.log.format,
            log_level=plan.log.level,
            log_clients=plan.log.clients,
            log_started=plan.log.connection_started,
            log_relay=relay is not None,
            stop=plan.stop,
            control_group=plan.control_group,
            control_mode=plan.control_mode,
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
        sockets = [sock for sock in (relay, control) if sock is not None]
        memory = (held.counters, held.bans, held.log_key)
        self.process.send(order, (*memory, *(sock.fileno() for sock in sockets)))
        if relay is not None:
            relay.close()

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
        for process in held.tls.serving.values():
            self.send_tls(process)
        for pipe in held.pipes:
            if self._introduce("stderr", pipe.number):
                self.process.send(orders.AddPipe(service=pipe.service), (pipe.reading,))
        for service in plan.services:
            self._send_listeners(held, service)
        self._send_services(held, plan, generation)
        if held.tls.ends:
            send_expiries(self.process.send, held.tls.ends)

    def send_launcher(self, profile: ProfileLaunchers, launcher: HeldLauncher) -> None:
        """Send a launcher's channel, if the process does not have it."""
        if self._introduce("launcher", launcher.number):
            order = orders.AddLauncher(
                number=launcher.number,
                pid=launcher.pid,
                profile=profile.number,
                kind=profile.kind,
                draining=profile.draining,
            )
            self.process.send(order, (launcher.loop_end.fileno(),))

    def send_tls(self, process: HeldTls) -> None:
        """Send the channel of a TLS process that has its certificates, if the loop's does not have it."""
        if process.taken and self._introduce("tls", process.number):
            self.process.send(
                orders.AddTls(number=process.number, pid=process.pid), (process.loop_end.fileno(),)
            )

    def _send_listeners(self, held: Holdings, service: Service) -> None:
        new = [item for item in held.listeners.of(service) if self._introduce("listener", item.number)]
        for item in new:
            with contextlib.suppress(OSError):
                item.restore(service)
        for start in range(0, len(new), MAX_DESCRIPTORS):
            some = new[start : start + MAX_DESCRIPTORS]
            descriptors = tuple(item.sock.fileno() for item in some)
            order = orders.AddListeners(numbers=tuple(item.number for item in some))
            self.process.send(order, descriptors)

    def _send_services(self, held: Holdings, plan: Plan, generation: int) -> None:
        """Send the services of the plan, which do not fit a packet, in a memfd.

        Of services that have not changed only the number is sent, so that a reload with a thousand
        services holds no client up.
        """
        before, self._services = self._services, {}
        for service in plan.services:
            number, profile = held.number(service.name), held.profiles[service.launcher_key].number
            listeners = tuple(item.number for item in held.listeners.of(service))
            self._services[number] = profile, service, listeners
        changed = [number for number, item in self._services.items() if not _same(before.get(number), item)]
        frame = PlanFrame(
            max_connections=plan.max_connections,
            kept=tuple(self._services.keys() - {*changed}),
            gone=tuple((held.number(name), name, ending) for name, ending in held.gone.items()),
        )
        with os.fdopen(os.memfd_create("ucspid-plan", os.MFD_CLOEXEC), "w") as memory:
            memory.write(to_json(frame) + "\n")
            for number in changed:
                memory.write(to_json(_planned(number, *self._services[number])) + "\n")
            memory.flush()
            order = orders.TakePlan(generation=generation, log_level=plan.log.level)
            self.process.send(order, (memory.fileno(),))

    def _forget(self, held: Holdings) -> None:
        """Forget what it has been sent and is not there any more."""
        for number in self._introduced["tls"] - held.tls.serving.keys():
            self.process.send(orders.RemoveTls(number=number))
        self._introduced["tls"] &= held.tls.serving.keys()
        self._introduced["launcher"] &= {launcher.number for _profile, launcher in held.all_launchers()}
        self._introduced["stderr"] &= {pipe.number for pipe in held.pipes}
        self._introduced["listener"] &= {listening.number for listening in held.listeners}

    def _introduce(self, kind: str, which: int) -> bool:
        introduced = self._introduced[kind]
        if which in introduced:
            return False
        introduced.add(which)
        return True

    def introduced(self) -> list[tuple[str, int]]:
        """Return what remember() takes: kind and number of each thing that the process has been sent."""
        return [(kind, number) for kind, numbers in self._introduced.items() for number in numbers]

    def remember(self, introduced: Iterable[tuple[str, int]]) -> None:
        """Go on with a process that an earlier image of the master has sent these things."""
        for kind, number in introduced:
            self._introduce(kind, number)


def send_expiries(send: SendOrder, ends: Mapping[str, float]) -> None:
    """Send when certificates end, by the names of services. Raises OSError without memory for it."""
    with os.fdopen(os.memfd_create("ucspid-expiries", os.MFD_CLOEXEC), "w") as memory:
        json.dump(ends, memory)
        memory.flush()
        send(orders.TakeExpiries(), (memory.fileno(),))


def _same(sent: SentService | None, now: SentService) -> bool:
    """Return whether the loop need not be sent a service again."""
    if sent is None or (sent[0], sent[2]) != (now[0], now[2]):
        return False
    return sent[1] == now[1] or _settings(sent[1]) == _settings(now[1])


def _planned(number: int, profile: int, service: Service, listeners: tuple[int, ...]) -> PlannedService:
    return PlannedService(number=number, profile=profile, settings=_settings(service), listeners=listeners)


def _settings(service: Service) -> Service:
    """Return what the loop is sent of a service: of its program the file and the name, for events."""
    return replace(service, argv=service.argv[:1], env=())
