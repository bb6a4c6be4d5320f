"""The control verbs deny, undeny and denied: whom an operator denies, for a time, across event loops."""

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import Any

from structlog.typing import FilteringBoundLogger

from ucspid.control.services import Services
from ucspid.errors import PeerError, ResourceError
from ucspid.ipc.ban_memory import MAX_BANS, BanMemory, StoredBan
from ucspid.net.client import Deniable, deniable
from ucspid.observe import events
from ucspid.policy.bans import ALL, MAX_SECONDS

PURGE_PAUSE = 1.0
"""Seconds at least between two looks for bans that have ended."""

_Denial = tuple[Deniable, int]


class BanVerbs:
    """The bans there are: in the table that connections meet, and in the memory that outlives the loop."""

    def __init__(self, services: Services, memory: BanMemory, log: FilteringBoundLogger) -> None:
        """Take up those of an earlier loop; before the first plan."""
        self._services = services
        self._table = services.bans
        self._memory = memory
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._bans: dict[_Denial, tuple[int, float]] = {}
        """Their places in the memory, and their ends."""
        now = time.monotonic()
        found, wrong = memory.read(now + MAX_SECONDS)
        if wrong or memory.cleared:
            events.bans_lost(log, wrong)
        for place, ban in found.items():
            self._bans[ban.network, ban.service] = place, ban.until
            self._table.add(*ban)
        self._next = math.inf
        self._look()

    # The verbs

    async def deny(self, args: dict[str, Any]) -> dict[str, Any]:
        """Deny a network's clients for some seconds; denied already, they are from now on for so long."""
        if args.keys() - {"service"} != {"network", "seconds"}:
            raise PeerError("args has the members network and seconds, and may have service")
        network, seconds = _network(args["network"]), args["seconds"]
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not known or not 0 < seconds <= MAX_SECONDS:
            raise PeerError(f"seconds is a number above 0, at most {MAX_SECONDS:.0f}")
        service = self._service(args)
        renewed = (network, service) in self._bans
        if not renewed and len(self._bans) == MAX_BANS:
            raise ResourceError(f"{MAX_BANS} networks are denied already: end some, or deny larger networks")
        now = time.monotonic()
        place = self._bans[network, service][0] if renewed else self._free_place()
        self._memory.write(place, StoredBan(network, service, now + seconds))
        self._bans[network, service] = place, now + seconds
        first = not self._table
        self._table.add(network, service, now + seconds)
        if first:
            self._restage()
        self._watch(now + seconds)
        events.client_denied(self._log, str(network), self._name(service), seconds)
        return self._described((network, service), now) | {"renewed": renewed}

    async def undeny(self, args: dict[str, Any]) -> dict[str, Any]:
        """End the bans of a network: that of a service, or all of them."""
        if args.keys() - {"service"} != {"network"}:
            raise PeerError("args has the member network, and may have service")
        network = _network(args["network"])
        service = self._service(args)
        keys = [
            key for key in self._bans if key[0] == network and ("service" not in args or key[1] == service)
        ]
        now = time.monotonic()
        ended = [self._described(key, now) for key in keys]
        for key in keys:
            self._end(key)
            events.client_undenied(self._log, str(network), self._name(key[1]))
        return {"ended": ended}

    async def denied(self, args: dict[str, Any]) -> dict[str, Any]:
        """List the bans, the one that ends first in front."""
        if args:
            raise PeerError("args has no members")
        self._purge()
        now = time.monotonic()
        ordered = sorted(self._bans, key=lambda key: self._bans[key][1])
        return {"denied": [self._described(key, now) for key in ordered]}

    def _service(self, args: dict[str, Any]) -> int:
        if "service" not in args:
            return ALL
        numbers = {service.name: number for number, service in self._services.by_number.items()}
        name = args["service"]
        if not isinstance(name, str) or name not in numbers:
            raise PeerError(f"there is no service {name!r:.40}: {', '.join(sorted(numbers))}")
        return numbers[name]

    def _name(self, number: int) -> str | None:
        """Return the name of a service; of one that the file has no more, what is left of it."""
        if number == ALL:
            return None
        service = self._services.by_number.get(number)
        return f"(number {number})" if service is None else service.name

    def _described(self, key: _Denial, now: float) -> dict[str, Any]:
        network, service = key
        left = self._bans[key][1] - now
        end = datetime.fromtimestamp(time.time() + left, UTC).isoformat(timespec="seconds")
        return {"network": str(network), "service": self._name(service), "left": round(left, 3), "until": end}

    # Their ends

    def _end(self, key: _Denial) -> None:
        place, _until = self._bans.pop(key)
        self._memory.clear(place)
        self._table.remove(*key)
        if not self._table:
            self._restage()

    def _free_place(self) -> int:
        used = {place for place, _until in self._bans.values()}
        return next(place for place in range(MAX_BANS) if place not in used)

    def _purge(self) -> None:
        """End the bans whose time is over."""
        now = time.monotonic()
        for key in [key for key, (_place, until) in self._bans.items() if until <= now]:
            self._end(key)
            events.denial_ended(self._log, str(key[0]), self._name(key[1]))

    def _watch(self, first: float) -> None:
        """Look for bans that have ended when the first of them does, if not before."""
        if self._timer is not None:
            if first >= self._next:
                return
            self._timer.cancel()
        self._next = first
        pause = max(PURGE_PAUSE, math.ceil(first - time.monotonic()))
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        self._timer = None
        self._purge()
        if self._bans:
            self._watch(min(until for _place, until in self._bans.values()))

    def _restage(self) -> None:
        """Have connections ask whether they are denied, or no more, if nobody is."""
        for service in self._services.by_number.values():
            service.bans_changed()


def _network(text: Any) -> Deniable:
    if not isinstance(text, str):
        raise PeerError("network is an address or a network, or unix:uid=NUMBER")
    try:
        return deniable(text)
    except ValueError as error:
        raise PeerError(f"network: {error}") from None
