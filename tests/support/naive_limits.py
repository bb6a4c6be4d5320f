"""The limits of a service by the simplest means: everything is counted again each time."""

from collections import Counter
from ipaddress import ip_address, ip_network
from math import inf

import plans
from ucspid.limits import Refusal, Slot
from ucspid.plan import Rate, Service

SERVICE = plans.service("smtp")


class Tokens:
    """A bucket as defined."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.tokens = float(rate.burst)
        self.then = 0.0

    def missing(self, now: float) -> float:
        """Return the seconds until a token is there."""
        grown = (now - self.then) * self.rate.count / self.rate.seconds
        self.tokens, self.then = min(self.rate.burst, self.tokens + grown), now
        return max(0.0, (1 - self.tokens) * self.rate.seconds / self.rate.count)


def tokens(rate: Rate | None) -> Tokens | None:
    return None if rate is None else Tokens(rate)


class Naive:
    """The limits of one service, by counting everything again each time."""

    def __init__(self, settings: Service) -> None:
        self.settings = settings
        self.sessions: list[tuple[Slot, str]] = []
        self.waiting: list[tuple[Slot, str]] = []
        self.rate = tokens(settings.rate)
        self.client_rates: dict[str, Tokens] = {}

    def change(self, settings: Service) -> None:
        old, self.settings = self.settings, settings
        if settings.rate != old.rate:
            self.rate = tokens(settings.rate)
        grouping = (old.rate_per_ip, old.ipv4_prefix, old.ipv6_prefix)
        if grouping != (settings.rate_per_ip, settings.ipv4_prefix, settings.ipv6_prefix):
            self.client_rates = {}

    def client(self, ip: str) -> str | None:
        address = ip_address(ip.partition("%")[0])
        address = (address.version == 6 and address.ipv4_mapped) or address
        if any(address in ip_network(network) for network in self.settings.exempt):
            return None
        prefix = self.settings.ipv4_prefix if address.version == 4 else self.settings.ipv6_prefix
        return str(ip_network(f"{address}/{prefix}", strict=False))

    def clients(self) -> Counter[str | None]:
        return Counter(self.client(ip) for _, ip in self.sessions + self.waiting)

    def client_rate(self, client: str) -> Tokens | None:
        rate = self.settings.rate_per_ip
        return None if rate is None else self.client_rates.setdefault(client, Tokens(rate))

    def full(self, *, daemon_full: bool) -> bool:
        return daemon_full or len(self.sessions) >= self.settings.max_connections

    def refusal(self, ip: str, now: float, *, full: bool) -> Refusal | None:
        client, limit = self.client(ip), self.settings.max_per_ip
        if full:
            return Refusal.FULL
        if client is not None:
            if limit is not None and self.clients()[client] >= limit:
                return Refusal.PER_IP
            bucket = self.client_rate(client)
            if bucket is not None and bucket.missing(now) > 0.0:
                return Refusal.RATE_PER_IP
        if self.rate is not None and self.rate.missing(now) > 0.0:
            return Refusal.RATE
        return None

    def take_tokens(self, ip: str) -> None:
        client = self.client(ip)
        for bucket in (self.rate, client and self.client_rate(client)):
            if isinstance(bucket, Tokens):
                bucket.tokens -= 1

    def room(self, now: float, *, daemon_full: bool) -> float:
        if daemon_full:
            return inf
        if self.settings.on_full == "refuse":
            return 0.0
        if len(self.sessions) >= self.settings.max_connections:
            return inf
        return self.rate.missing(now) if self.rate else 0.0
