"""From accept to a session: rules, names, a slot; for services that have rules or look names up.

In this order, so that what costs least comes first: rules that need no name, the client's
limits, names (within one deadline, and without a session's slot, so that a dead resolver
fills nothing), rules that needed a name, and a slot. One that finds none free waits for it.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ucspid.admission.listener import Listener
from ucspid.admission.rules_file import Followed
from ucspid.limits import ClientLimits, Refusal, ServiceLimits, Slot
from ucspid.net.address import endpoint
from ucspid.plan import Service as Settings
from ucspid.policy.client_facts import NOTHING, Found
from ucspid.rules.networks import YamlRules
from ucspid.rules.rule import Environment, Rule, Rules

if TYPE_CHECKING:
    from ucspid.lookup.names import Names

DENIED = "denied"
NO_RULES = "no_rules"
CLOSED = "closed"
BUG = "internal_error"
"""Reasons of refusals: a rule, a rules file that could never be read, a service that goes, a bug of ours."""


DEFAULT = "default"
_OPEN = Rule(verdict="allow", env=(), where="open")


@dataclass(slots=True, eq=False)
class Arrival:
    """A connection that is not a session yet."""

    descriptor: int
    ip: str
    port: int
    listener: Listener
    began: float
    found: Found = NOTHING
    env: Environment = ()
    slot: Slot | None = None

    @property
    def remote(self) -> str:
        """Return the client's address and port as logs show them."""
        return endpoint(self.ip, self.port)


class Entering(Protocol):
    """What an entrance does to its service."""

    settings: Settings
    limits: ServiceLimits

    def refuse(self, arrival: Arrival, reason: str, message: str, rule: Rule | None = None) -> None:
        """Send a client away; its slot, if it has one, is free again. rule is the one that applies to it."""

    def begin(self, arrival: Arrival) -> None:
        """Begin the session of an arrival that has a session's slot."""

    def may_start(self) -> bool:
        """Return whether a launcher can take a start now, and the service is not throttled."""

    def begun(self) -> None:
        """Say that a connection on its way has become a session: there is room for another on its way."""

    def waits(self) -> None:
        """Have the gate look again whether it is to be held."""


class Entrance:
    """The way into one service."""

    def __init__(self, service: Entering, names: "Names | None") -> None:
        """Begin with nobody on the way; change() says what applies."""
        self._service = service
        self._names = names
        self._followed: Followed | None = None
        self._rules: Rules | None = None
        self._looks_up = False
        self._loosest: ClientLimits | None = None
        self._closed = False
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._ready: list[Arrival] = []

    @property
    def fresh(self) -> bool:
        """Whether the rules may be used as they are; if not, refresh() looks at their file."""
        return self._followed is None or self._followed.fresh

    async def refresh(self) -> None:
        """Look whether the rules file has changed."""
        if self._followed is not None:
            await self._followed.refresh()

    def change(self, followed: Followed | None) -> None:
        """Apply the settings of the service; followed are the rules of its file, if it names one.

        Who is on the way goes on under the rules that it met.
        """
        settings = self._service.settings
        self._closed = False
        self._followed = followed
        self._rules = (
            YamlRules(settings.rules, settings.default_action) if isinstance(settings.rules, tuple) else None
        )
        self._looks_up = settings.lookup.wanted
        self._loosest = _loosest(settings)

    @property
    def ready(self) -> Sequence[Arrival]:
        """Who only waits for a slot, or for a launcher."""
        return self._ready

    @property
    def looking_up(self) -> int:
        """How many are being looked up."""
        return len(self._tasks)

    def arrived(self, arrival: Arrival) -> None:
        """Take an accepted connection on its way: at once, if nothing must be waited for."""
        try:
            self._admit(arrival)
        except Exception as bug:  # noqa: BLE001 - told to the loop's handler, which logs it
            self._give_up(arrival, bug)

    def start_ready(self) -> None:
        """Begin the sessions of arrivals that only wait to start, as far as they may."""
        while self._ready and not self._closed and self._begin(self._ready[0]):
            self._ready.pop(0)

    async def leave(self, patience: float) -> None:
        """Give those who are looked up so many seconds to get in, and send away who does not."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        self.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Send away who waits, and who is still being looked up."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        while self._ready:
            self._service.refuse(self._ready.pop(0), CLOSED, "")

    def _admit(self, arrival: Arrival) -> None:
        """Apply the rules that need no name, and the client's limits."""
        service = self._service
        rules = self._rules if self._followed is None else self._followed.rules
        if rules is None and self._followed is not None:
            service.refuse(arrival, NO_RULES, "")
            return
        early = _OPEN if rules is None else rules.decide_early(arrival.ip)
        if early is not None and self._denied(early):
            service.refuse(arrival, DENIED, early.message or "", early)
            return
        limits = None
        if rules is not None:
            limits = self._loosest if early is None else _limits(early, service.settings)
        slot = service.limits.admit(arrival.ip, arrival.began, limits, session=not self._looks_up)
        if isinstance(slot, Refusal):
            self._refuse(arrival, slot, early)
            return
        arrival.slot = slot
        self._find(arrival, rules, early)

    def _find(self, arrival: Arrival, rules: Rules | None, early: Rule | None) -> None:
        """Look names up, if the service does; in a task only if they are not known already."""
        if not self._looks_up:
            self._decide(arrival, rules, early)
            return
        local, remote = arrival.listener.end(arrival.descriptor), (arrival.ip, arrival.port)
        assert self._names is not None
        found = self._names.cached(self._service.settings.lookup, local, remote)
        if found is None:
            self._in_task(arrival, self._look_up(arrival, rules, early, local))
        else:
            arrival.found = found
            self._decide(arrival, rules, early)

    async def _look_up(
        self, arrival: Arrival, rules: Rules | None, early: Rule | None, local: tuple[str, int]
    ) -> None:
        lookup = self._service.settings.lookup
        assert self._names is not None
        arrival.found = await self._names.find(lookup, local, (arrival.ip, arrival.port))
        self._decide(arrival, rules, early)

    def _decide(self, arrival: Arrival, rules: Rules | None, early: Rule | None) -> None:
        """Apply the rules that needed a name, and go on to the session."""
        rule = early
        if rule is None:
            assert rules is not None
            assert arrival.slot is not None
            rule = rules.match(arrival.ip, arrival.found.remote_host, arrival.found.info)
            if self._denied(rule):
                self._service.refuse(arrival, DENIED, rule.message or "", rule)
                return
            refusal = self._check(arrival.slot, rule)
            if refusal is not None:
                self._refuse(arrival, refusal, rule)
                return
        arrival.env = rule.env
        if self._closed:
            self._service.refuse(arrival, CLOSED, "")
            return
        if not self._ready and self._begin(arrival):
            return
        self._ready.append(arrival)
        self.start_ready()
        if not self._ready or self._ready[-1] is not arrival:
            return
        if self._service.settings.on_full == "refuse" and self._service.limits.full:
            self._ready.pop()
            self._refuse(arrival, Refusal.FULL, rule)
        else:
            self._service.waits()

    def _check(self, slot: Slot, rule: Rule) -> Refusal | None:
        """Apply the limits of a rule that was not known when the client was admitted."""
        if self._loosest is None:
            return None
        limits = _limits(rule, self._service.settings)
        return self._service.limits.check(slot, limits, time.monotonic())

    def _begin(self, arrival: Arrival) -> bool:
        slot = arrival.slot
        assert slot is not None
        if not slot.session:
            # The gate made sure of all this for those that take a session's slot when they come in.
            if not self._service.may_start() or not self._service.limits.begin(slot):
                return False
            self._service.begun()
        self._service.begin(arrival)
        return True

    def _refuse(self, arrival: Arrival, refusal: Refusal, rule: Rule | None) -> None:
        message = None if rule is None else rule.message
        self._service.refuse(arrival, refusal.value, message or self._service.settings.refuse_message, rule)

    def _denied(self, rule: Rule) -> bool:
        default = rule.where == DEFAULT
        return (self._service.settings.default_action if default else rule.verdict) == "deny"

    def _in_task(self, arrival: Arrival, way: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(arrival, way))
        self._tasks[task] = None
        task.add_done_callback(partial(self._left, arrival, way))

    def _left(self, arrival: Arrival, way: Coroutine[None, None, None], task: asyncio.Task[None]) -> None:
        """Forget a task; one that was cancelled, perhaps before it began, has left its client to us."""
        self._tasks.pop(task, None)
        if task.cancelled():
            way.close()
            self._service.refuse(arrival, CLOSED, "")

    async def _guard(self, arrival: Arrival, way: Coroutine[None, None, None]) -> None:
        """Let no bug on the way leave a client hanging."""
        try:
            await way
        except Exception as bug:  # noqa: BLE001 - told to the loop's handler, which logs it
            self._give_up(arrival, bug)

    def _give_up(self, arrival: Arrival, bug: Exception) -> None:
        context = {"message": "a connection on its way in", "exception": bug}
        asyncio.get_running_loop().call_exception_handler(context)
        self._service.refuse(arrival, BUG, "")


def _limits(rule: Rule, settings: Settings) -> ClientLimits:
    """Return a client's limits: the rule's, where it sets them, else the service's."""
    return ClientLimits(
        settings.max_per_ip if rule.max_per_ip is None else rule.max_per_ip,
        settings.rate_per_ip if rule.rate_per_ip is None else rule.rate_per_ip,
    )


def _loosest(settings: Settings) -> ClientLimits | None:
    """Return what holds while a client's rule is not known: as many as any rule allows, no rate.

    None if no rule sets limits: then the service's own are known to hold.
    """
    rules = settings.rules if isinstance(settings.rules, tuple) else ()
    if all(spec.max_per_ip is None and spec.rate_per_ip is None for spec in rules):
        return None
    if settings.max_per_ip is None:
        return ClientLimits(None, None)
    return ClientLimits(max(settings.max_per_ip, *(spec.max_per_ip or 0 for spec in rules)), None)
