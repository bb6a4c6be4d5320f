"""The rates of one service: of all its clients together, and of each client by itself. No I/O."""

from collections.abc import Hashable
from typing import Any, Literal

from ucspid.net.client import key_from, key_text
from ucspid.plan import Rate, Service
from ucspid.policy import validate
from ucspid.policy.rate import TokenBucket, TokenBuckets
from ucspid.records import dataclass

MAX_CLIENTS = 16_384
"""Of how many clients a service remembers the rate, at most: about 3 MB."""


@dataclass(frozen=True, slots=True)
class NoLimits:
    """Settings of a service that admits no more connections: only its earlier sessions are counted."""

    max_connections: int = 0
    on_full: Literal["queue"] = "queue"
    max_per_ip: None = None
    rate_per_ip: None = None
    rate: None = None
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    exempt: tuple[str, ...] = ()
    rules: None = None


class ServiceRates:
    """The token buckets of a service."""

    __slots__ = ("_clients", "_settings", "all")

    def __init__(self, settings: Service | NoLimits) -> None:
        """Start with full buckets."""
        self.all: TokenBucket | None = _bucket(settings.rate)
        """Of all clients together, if the service has a rate."""
        self._settings = settings
        self._clients: dict[Rate, TokenBuckets] = {}

    def change(self, settings: Service | NoLimits) -> None:
        """Go on under new settings.

        A rate that stays the same keeps its buckets; one that changes starts with full ones, and
        so do the clients' if the prefixes change. Those of rates that no rule has any more go.
        """
        old, self._settings = self._settings, settings
        if settings.rate != old.rate:
            self.all = _bucket(settings.rate)
        regrouped = (settings.ipv4_prefix, settings.ipv6_prefix) != (old.ipv4_prefix, old.ipv6_prefix)
        if regrouped or settings.rate_per_ip != old.rate_per_ip:
            self._clients.clear()
        for rate in self._clients.keys() - _client_rates(settings):
            del self._clients[rate]

    def of_clients(self, rate: Rate) -> TokenBuckets:
        """Return the buckets of the clients that have this rate."""
        buckets = self._clients.get(rate)
        if buckets is None:
            buckets = self._clients[rate] = TokenBuckets(rate, MAX_CLIENTS)
        return buckets

    def to_state(self, now: float) -> dict[str, Any]:
        """Return what from_state() takes, in values of JSON."""
        settings = self._settings
        rates = _client_rates(settings)
        return {
            "prefixes": [settings.ipv4_prefix, settings.ipv6_prefix],
            "rate": _plain(settings.rate),
            "full_at": None if self.all is None else self.all.to_state(),
            "rate_per_ip": _plain(settings.rate_per_ip),
            "clients": [
                [_plain(rate), [[key_text(key), at] for key, at in buckets.to_state(now)]]  # type: ignore[arg-type]
                for rate, buckets in self._clients.items()
                if rate in rates
            ],
        }

    def from_state(self, state: Any, now: float) -> None:
        """Go on with the rates that to_state() was asked of, as far as they are the same.

        Which are is as in change(). Raises ValueError for what no rates can have said by now,
        and changes nothing then.
        """
        settings = self._settings
        prefixes, rate, full_at, rate_per_ip, clients = validate.members(
            state, "prefixes", "rate", "full_at", "rate_per_ip", "clients"
        )
        bucket, client_rates = _bucket(settings.rate), {}
        if bucket is not None and rate == _plain(settings.rate):
            bucket.from_state(full_at, now)
        same = prefixes == [settings.ipv4_prefix, settings.ipv6_prefix]
        if same and rate_per_ip == _plain(settings.rate_per_ip):
            rates = _client_rates(settings)
            for item in validate.items(clients, len(rates)):
                plain, pairs = validate.row(item, 2)
                for own in rates:
                    if plain == _plain(own):
                        client_rates[own] = _buckets_from(own, pairs, now)
        self.all, self._clients = bucket, client_rates


def _bucket(rate: Rate | None) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate)


def _plain(rate: Rate | None) -> list[float] | None:
    return None if rate is None else [rate.count, rate.seconds, rate.burst]


def _client_rates(settings: Service | NoLimits) -> set[Rate]:
    """Return the rates that the service and its rules set for clients."""
    rules = settings.rules if isinstance(settings.rules, tuple) else ()
    return {rate for rate in (settings.rate_per_ip, *(rule.rate_per_ip for rule in rules)) if rate}


def _buckets_from(rate: Rate, pairs: Any, now: float) -> TokenBuckets:
    state: dict[Hashable, Any] = {}
    for pair in validate.items(pairs, MAX_CLIENTS):
        key, full_at = validate.row(pair, 2)
        state[key_from(key)] = full_at
    buckets = TokenBuckets(rate, MAX_CLIENTS)
    buckets.from_state(state, now)
    return buckets
