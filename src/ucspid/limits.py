"""Counted slots: how many connections may live at once, in the daemon, a service and of a client.

The event loop asks room() before it accepts, admit() after it and before anything is spent on
the connection, and calls release() when the session has ended. Every call costs the same
however many sessions live; only change() may cost in proportion to them.
"""

import enum
from collections import Counter
from math import inf
from typing import NamedTuple

from ucspid.net.address import Networks
from ucspid.net.client import ClientKey, client_key
from ucspid.plan import Rate, Service
from ucspid.policy.service_rates import NoLimits, ServiceRates
from ucspid.records import dataclass

MAX_LOOKUPS = 256
"""How many connections of a service may be looked up, or wait for a slot after it, at a time."""


class Lack(enum.StrEnum):
    """What another connection would have to wait for."""

    DAEMON = "daemon_full"
    SERVICE = "full"
    LOOKUPS = "lookups"
    RATE = "rate"


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
    """What one connection holds until it is released; client is None for one that is exempt.

    A session counts in the service and the daemon; a connection that is still being looked up
    is none yet, and counts for its client only.
    """

    ip: str
    client: ClientKey | None
    session: bool


class ClientLimits(NamedTuple):
    """The limits of one client, as the service or a rule sets them."""

    max_per_ip: int | None
    rate_per_ip: Rate | None


class ServiceLimits:
    """The limits of one service, and the slots that its connections hold.

    admit() never exceeds a limit, whatever room() said before. After change() or restore() more
    sessions may live than the limits allow; then nobody is admitted until enough have ended.
    """

    __slots__ = ("_clients", "_daemon", "_exempt", "_own", "_sessions", "_settings", "_slots", "rates")

    def __init__(self, daemon: Limits, settings: Service | NoLimits) -> None:
        """Start without sessions and with full token buckets."""
        self._daemon = daemon
        self._settings = settings
        self._own = _own(settings)
        self._slots: dict[Slot, None] = {}  # not a set: an empty one takes three times the memory
        self._sessions = 0
        self._clients: dict[ClientKey, int] = {}
        self._exempt = _exempt(settings)
        self.rates = ServiceRates(settings)

    @property
    def live(self) -> int:
        """The number of connections that hold a slot: sessions, and those being looked up."""
        return len(self._slots)

    @property
    def sessions(self) -> int:
        """The number of sessions, as they count in the daemon."""
        return self._sessions

    @property
    def max_connections(self) -> int:
        """How many sessions there may be."""
        return self._settings.max_connections

    @property
    def full(self) -> bool:
        """Whether no other session may begin."""
        return self._sessions >= self._settings.max_connections or self._daemon.full

    def change(self, settings: Service | NoLimits) -> None:
        """Go on under new settings with the sessions that live.

        The rates go on as ServiceRates.change() says. If the prefixes or the exempt networks change,
        the sessions are counted anew, in time proportional to their number.
        """
        old, self._settings = self._settings, settings
        self._own = _own(settings)
        self.rates.change(settings)
        regrouped = (settings.ipv4_prefix, settings.ipv6_prefix) != (old.ipv4_prefix, old.ipv6_prefix)
        if regrouped or settings.exempt != old.exempt:
            self._exempt = _exempt(settings)
            self._recount()

    def room(self, now: float) -> float:
        """Return the seconds until the next connection should be accepted; lack() says for want of what.

        0.0 is now, infinity is when a slot is released: in the service, or in the daemon if
        that is full. With on_full: refuse only a full daemon delays; admit() refuses the rest.
        Connections that are being looked up take no session's slot, so that a dead resolver
        fills none; there may be MAX_LOOKUPS of them.
        """
        daemon = self._daemon
        if daemon.live >= daemon.max_connections or len(self._slots) - self._sessions >= MAX_LOOKUPS:
            return inf
        if self._settings.on_full == "refuse":
            return 0.0
        if self._sessions >= self._settings.max_connections:
            return inf
        rate = self.rates.all
        return 0.0 if rate is None else rate.wait(now)

    def lack(self) -> Lack:
        """Return what the next connection waits for where room() is not 0.0."""
        if self._daemon.full:
            return Lack.DAEMON
        if self._sessions >= self._settings.max_connections and self._settings.on_full == "queue":
            return Lack.SERVICE
        return Lack.LOOKUPS if len(self._slots) - self._sessions >= MAX_LOOKUPS else Lack.RATE

    def may_begin(self) -> Lack | None:
        """Return what a session would wait for whose connection was admitted already, None if nothing."""
        if self._daemon.full:
            return Lack.DAEMON
        return Lack.SERVICE if self._sessions >= self._settings.max_connections else None

    def admit(
        self, ip: str, now: float, limits: ClientLimits | None = None, *, session: bool = True
    ) -> Slot | Refusal:
        """Take a slot in the daemon and the service, and a token of each rate; or nothing at all.

        limits are the client's, if a rule sets them. Without session the connection counts for
        its client only, until begin() makes it a session.

        The reasons are tried in the order of Refusal, but a client's own limits come before the
        service's rate. A refused connection takes no token: neither the service's, or one client
        could starve the others, nor the client's, so that it is let in again as soon as its
        bucket allows, however often it knocks meanwhile. Exempt clients have no limits of
        their own. Raises ValueError if ip is not an address.
        """
        if session and self.full:
            return Refusal.FULL
        client = self._client(ip)
        most, rate = limits or self._own
        buckets = None
        if client is not None:
            if most is not None and self._clients.get(client, 0) >= most:
                return Refusal.PER_IP
            if rate is not None:
                buckets = self.rates.of_clients(rate)
                if not buckets.ready(client, now):
                    return Refusal.RATE_PER_IP
        if self.rates.all is not None and not self.rates.all.take(now):
            return Refusal.RATE
        if buckets is not None:
            buckets.take(client, now)
        return self._hold(ip, client, session=session)

    def check(self, slot: Slot, limits: ClientLimits, now: float) -> Refusal | None:
        """Say whether a connection that was admitted under other limits is within these as well.

        It takes a token of their rate if it is. For limits that are known only once the client's
        name is.
        """
        if slot.client is None:
            return None
        if limits.max_per_ip is not None and self._clients[slot.client] > limits.max_per_ip:
            return Refusal.PER_IP
        if limits.rate_per_ip is not None and not self.rates.of_clients(limits.rate_per_ip).take(
            slot.client, now
        ):
            return Refusal.RATE_PER_IP
        return None

    def begin(self, slot: Slot) -> bool:
        """Make a connection that was admitted without one a session; return False if all is full."""
        if self.full:
            return False
        slot.session = True
        self._sessions += 1
        self._daemon.live += 1
        return True

    def restore(self, ip: str) -> Slot:
        """Take a slot for a session found running, even above the limits; it takes no token.

        Raises ValueError if ip is not an address.
        """
        return self._hold(ip, self._client(ip), session=True)

    def release(self, slot: Slot) -> None:
        """Give back a slot of admit() or restore(). Raises KeyError if it is not held."""
        del self._slots[slot]
        if slot.session:
            self._sessions -= 1
            self._daemon.live -= 1
        if slot.client is not None:
            self._uncount(slot.client)

    def differences(self) -> list[str]:
        """Count what holds a slot from scratch; return in words where the running numbers differ."""
        found = []
        sessions = sum(slot.session for slot in self._slots)
        if sessions != self._sessions:
            found.append(f"counts {self._sessions} sessions where {sessions} hold slots")
        held = Counter(slot.client for slot in self._slots if slot.client is not None)
        for client in held.keys() | self._clients.keys():
            counted = self._clients.get(client, 0)
            if counted != held[client]:
                found.append(f"counts {counted} connections of {client!r} where {held[client]} hold slots")
        return found

    def _client(self, ip: str) -> ClientKey | None:
        if self._exempt is not None and ip in self._exempt:
            return None
        return client_key(ip, self._settings.ipv4_prefix, self._settings.ipv6_prefix)

    def _hold(self, ip: str, client: ClientKey | None, *, session: bool) -> Slot:
        slot = Slot(ip, client, session)
        self._slots[slot] = None
        if session:
            self._sessions += 1
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


def _exempt(settings: Service | NoLimits) -> Networks | None:
    return Networks(settings.exempt) if settings.exempt else None


def _own(settings: Service | NoLimits) -> ClientLimits:
    return ClientLimits(settings.max_per_ip, settings.rate_per_ip)
