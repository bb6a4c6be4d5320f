"""Counted slots: how many connections may live at once, in the daemon, a service and of a client.

The event loop asks room() before it accepts, admit() after it and before anything is spent on
the connection, and calls release() when the session has ended. Every call costs the same
however many sessions live; only change() may cost in proportion to them.
"""

import enum
from dataclasses import dataclass
from math import inf

from ucspid.address import ClientKey, Networks, client_key
from ucspid.plan import Rate, Service
from ucspid.rate import TokenBucket, TokenBuckets

MAX_CLIENTS = 16_384
"""Of how many clients a service remembers the rate, at most: about 3 MB."""


class Refusal(enum.StrEnum):
    """Why a connection is refused."""

    FULL = "full"
    PER_IP = "per_ip"
    RATE_PER_IP = "rate_per_ip"
    RATE = "rate"


@dataclass(slots=True)
class Limits:
    """The slots of the whole daemon; max_connections may be set at any time, even below live."""

    max_connections: int
    live: int = 0

    @property
    def full(self) -> bool:
        """Whether no service may take another connection."""
        return self.live >= self.max_connections


@dataclass(slots=True, eq=False)
class Slot:
    """What one session holds until it is released; client is None for one that is exempt."""

    ip: str
    client: ClientKey | None


class ServiceLimits:
    """The limits of one service, and the slots that its sessions hold.

    admit() never exceeds a limit, whatever room() said before. After change() or restore()
    more sessions may live than the limits allow; then nobody is admitted until enough have
    ended.
    """

    def __init__(self, daemon: Limits, settings: Service) -> None:
        """Start without sessions and with full token buckets."""
        self._daemon = daemon
        self._settings = settings
        self._slots: set[Slot] = set()
        self._clients: dict[ClientKey, int] = {}
        self._exempt = _exempt(settings)
        self._rate = _bucket(settings.rate)
        self._client_rates = _buckets(settings.rate_per_ip)

    @property
    def live(self) -> int:
        """The number of slots that are held."""
        return len(self._slots)

    def change(self, settings: Service) -> None:
        """Go on under new settings with the sessions that live.

        A rate that stays the same keeps its buckets; one that changes starts with full ones, and
        so do the clients' if the prefixes change. Then, or if the exempt networks change, the
        sessions are counted anew, in time proportional to their number.
        """
        old, self._settings = self._settings, settings
        regrouped = (settings.ipv4_prefix, settings.ipv6_prefix) != (old.ipv4_prefix, old.ipv6_prefix)
        if settings.rate != old.rate:
            self._rate = _bucket(settings.rate)
        if regrouped or settings.rate_per_ip != old.rate_per_ip:
            self._client_rates = _buckets(settings.rate_per_ip)
        if regrouped or settings.exempt != old.exempt:
            self._exempt = _exempt(settings)
            self._recount()

    def room(self, now: float) -> float:
        """Return the seconds until the next connection should be accepted.

        0.0 is now, infinity is when a slot is released: in the service, or in the daemon if
        that is full. With on_full: refuse only a full daemon delays; admit() refuses the rest.
        """
        if self._daemon.full:
            return inf
        if self._settings.on_full == "refuse":
            return 0.0
        if len(self._slots) >= self._settings.max_connections:
            return inf
        return 0.0 if self._rate is None else self._rate.wait(now)

    def admit(self, ip: str, now: float) -> Slot | Refusal:
        """Take a slot in the daemon and the service, and a token of each rate; or nothing at all.

        The reasons are tried in the order of Refusal, but a client's own limits come before the
        service's rate. A refused connection takes no token: neither the service's, or one client
        could starve the others, nor the client's, so that it is let in again as soon as its
        bucket allows, however often it knocks meanwhile. Exempt clients have no limits of
        their own. Raises ValueError if ip is not an address.
        """
        if len(self._slots) >= self._settings.max_connections or self._daemon.full:
            return Refusal.FULL
        client = self._client(ip)
        refusal = self._refusal(client, now)
        if refusal is not None:
            return refusal
        if self._rate is not None:
            self._rate.take(now)
        if self._client_rates is not None and client is not None:
            self._client_rates.take(client, now)
        return self._hold(ip, client)

    def restore(self, ip: str) -> Slot:
        """Take a slot for a session found running, even above the limits; it takes no token.

        Raises ValueError if ip is not an address.
        """
        return self._hold(ip, self._client(ip))

    def release(self, slot: Slot) -> None:
        """Give back a slot of admit() or restore(). Raises KeyError if it is not held."""
        self._slots.remove(slot)
        self._daemon.live -= 1
        if slot.client is not None:
            self._uncount(slot.client)

    def _client(self, ip: str) -> ClientKey | None:
        if self._exempt is not None and ip in self._exempt:
            return None
        return client_key(ip, self._settings.ipv4_prefix, self._settings.ipv6_prefix)

    def _refusal(self, client: ClientKey | None, now: float) -> Refusal | None:
        if client is not None:
            limit = self._settings.max_per_ip
            if limit is not None and self._clients.get(client, 0) >= limit:
                return Refusal.PER_IP
            if self._client_rates is not None and not self._client_rates.ready(client, now):
                return Refusal.RATE_PER_IP
        if self._rate is not None and self._rate.wait(now) > 0.0:
            return Refusal.RATE
        return None

    def _hold(self, ip: str, client: ClientKey | None) -> Slot:
        slot = Slot(ip, client)
        self._slots.add(slot)
        self._daemon.live += 1
        if client is not None:
            self._clients[client] = self._clients.get(client, 0) + 1
        return slot

    def _uncount(self, client: ClientKey) -> None:
        count = self._clients[client]
        if count == 1:
            del self._clients[client]
        else:
            self._clients[client] = count - 1

    def _recount(self) -> None:
        self._clients.clear()
        for slot in self._slots:
            client = slot.client = self._client(slot.ip)
            if client is not None:
                self._clients[client] = self._clients.get(client, 0) + 1


def _exempt(settings: Service) -> Networks | None:
    return Networks(settings.exempt) if settings.exempt else None


def _bucket(rate: Rate | None) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate)


def _buckets(rate: Rate | None) -> TokenBuckets | None:
    return None if rate is None else TokenBuckets(rate, MAX_CLIENTS)
