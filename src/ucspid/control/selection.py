"""Which sessions a control client means: by service, client's network, age or number. Pure."""

from typing import Any

from ucspid.errors import PeerError
from ucspid.net.client import Clients, clients_of
from ucspid.records import dataclass

MEMBERS = frozenset({"service", "ip", "older", "conns"})


@dataclass(frozen=True, slots=True)
class Selection:
    """What a session must meet, all of it; None is no condition. older is in seconds since accept(2)."""

    service: str | None = None
    clients: Clients | None = None
    older: float | None = None
    conns: frozenset[int] | None = None

    @property
    def everything(self) -> bool:
        """Whether there is no condition."""
        return self == Selection()

    def holds(self, service: str, ip: str, began: float, conn: int, now: float) -> bool:
        """Say whether a session is meant; began and now are on the monotonic clock."""
        return (
            (self.service is None or self.service == service)
            and (self.older is None or now - began >= self.older)
            and (self.conns is None or conn in self.conns)
            and (self.clients is None or ip in self.clients)
        )


def selection(args: dict[str, Any], services: set[str]) -> Selection:
    """Return what the members of a request select. Raises PeerError for what cannot be meant.

    services are the names that there are.
    """
    service, ip, older, conns = (args.get(name) for name in ("service", "ip", "older", "conns"))
    if service is not None and service not in services:
        raise PeerError(f"there is no service {service!r:.40}: {', '.join(sorted(services))}")
    if older is not None and not (isinstance(older, int | float) and 0 <= older < float("inf")):
        raise PeerError("older is a number of seconds")
    return Selection(service, _clients(ip), older, _numbers(conns))


def _clients(ip: Any) -> Clients | None:
    if ip is None:
        return None
    if not isinstance(ip, str):
        raise PeerError("ip is an address or a network, unix: or unix:uid=NUMBER")
    try:
        return clients_of(ip)
    except ValueError as error:
        raise PeerError(f"ip: {error}") from None


def _numbers(conns: Any) -> frozenset[int] | None:
    if conns is None:
        return None
    if not isinstance(conns, list):
        raise PeerError("conns is a list of connections, each as in UCSPID_CONN_ID")
    try:
        return frozenset(int(conn, 16) for conn in conns)
    except (TypeError, ValueError):
        raise PeerError("conns: a connection is a hexadecimal number, as in UCSPID_CONN_ID") from None
