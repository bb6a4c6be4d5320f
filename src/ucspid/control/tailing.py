"""The control verb tail: events as they come."""

from typing import Any

from ucspid.control.server import Stream
from ucspid.control.services import Services
from ucspid.errors import PeerError
from ucspid.net.client import Clients, clients_of
from ucspid.observe.tails import LEVELS, TailFilter, Tails

MAX_EVENTS = 20
"""Names of events that a client may select."""

MEMBERS = frozenset({"level", "service", "ip", "events"})


class Tailing:
    """Gives clients the events that they select."""

    def __init__(self, services: Services, tails: Tails) -> None:
        """Take what has the services, and what has the events."""
        self._services = services
        self._tails = tails

    def tail(self, args: dict[str, Any]) -> Stream:
        """Begin to keep events for a client; it must be closed. Raises PeerError, ResourceError."""
        if unknown := sorted(args.keys() - MEMBERS):
            raise PeerError(f"unknown member of args: {', '.join(unknown)!r:.80}")
        level, service, ip, names = (args.get(name) for name in ("level", "service", "ip", "events"))
        if level is not None and level not in LEVELS:
            raise PeerError(f"level is one of {', '.join(LEVELS)}")
        services = {sessions.name for sessions in self._services.all_sessions()}
        if service is not None and service not in services:
            raise PeerError(f"there is no service {service!r:.40}: {', '.join(sorted(services))}")
        clients = None if ip is None else _clients(ip)
        return self._tails.add(TailFilter(LEVELS[level or "info"], _events(names), service, clients))


def _events(names: Any) -> frozenset[str] | None:
    if names is None:
        return None
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not listed or not 0 < len(names) <= MAX_EVENTS:
        raise PeerError(f"events is a list of names of events, {MAX_EVENTS} at most")
    return frozenset(names)


def _clients(ip: Any) -> Clients:
    if not isinstance(ip, str):
        raise PeerError("ip is an address or a network, unix: or unix:uid=NUMBER")
    try:
        return clients_of(ip)
    except ValueError as error:
        raise PeerError(f"ip: {error}") from None
