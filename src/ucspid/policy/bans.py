"""Which clients are denied for a time, whatever the rules say: looked up by address, or by user. Pure.

Asking costs a lookup for each prefix length that is in use, however many networks there are.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ucspid.net.address import IPV4, IPV6, pack_network
from ucspid.net.client import Deniable
from ucspid.net.inet import MAPPED, pack
from ucspid.net.unix import UnixClient, UnixUser

ALL = 0
"""In place of the number of a service: all of them. Services are numbered from 1."""

MAX_SECONDS = 365 * 86400.0
"""How long a ban may last."""

Banned = Callable[[str, float], str | None]
"""Returns the network for which a client at an address is denied at a monotonic time; None if it is not."""


class _Ban(NamedTuple):
    text: str
    until: float


class BanTable:
    """Networks whose clients are denied: by a service, or by all, until a monotonic time."""

    def __init__(self) -> None:
        """Begin with none."""
        # Keys are bytes, whose hash nobody can foresee: clients decide which of them are denied.
        self._networks: dict[int, dict[int, dict[bytes, dict[int, _Ban]]]] = {IPV4: {}, IPV6: {}}
        self._users: dict[int, dict[int, _Ban]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many bans there are."""
        return self._count

    def add(self, network: Deniable, service: int, until: float) -> None:
        """Deny the clients of a network; the same network and service have one end, the latest given."""
        if isinstance(network, UnixUser):
            services = self._users.setdefault(network.uid, {})
        else:
            packed, length = pack_network(network)
            services = self._networks[network.width].setdefault(IPV6 - length, {}).setdefault(packed, {})
        self._count += service not in services
        services[service] = _Ban(str(network), until)

    def remove(self, network: Deniable, service: int) -> None:
        """End a ban that is there. Raises KeyError."""
        if isinstance(network, UnixUser):
            services = self._users[network.uid]
            del services[service]
            self._count -= 1
            if not services:
                del self._users[network.uid]
            return
        packed, length = pack_network(network)
        lengths = self._networks[network.width]
        services = lengths[IPV6 - length][packed]
        del services[service]
        self._count -= 1
        if not services:
            del lengths[IPV6 - length][packed]
        if not lengths[IPV6 - length]:
            del lengths[IPV6 - length]

    def asking(self, service: int) -> Banned | None:
        """Return what says of a client whether a service denies it; None while nobody is denied at all."""
        return partial(self._banned, service) if self._count else None

    def _banned(self, service: int, ip: str, now: float) -> str | None:
        try:
            packed = pack(ip)
        except ValueError:
            if isinstance(ip, UnixClient):
                return _of_services(self._users.get(ip.uid), service, now)
            raise
        value = int.from_bytes(packed)
        lengths = self._networks[IPV4 if packed.startswith(MAPPED) else IPV6]
        for host_bits, networks in lengths.items():
            services = networks.get((value >> host_bits << host_bits).to_bytes(IPV6 // 8))
            if services is not None and (text := _of_services(services, service, now)) is not None:
                return text
        return None


def _of_services(services: dict[int, _Ban] | None, service: int, now: float) -> str | None:
    """Return what a service denies of that which several may; None if it does not."""
    for number in (ALL, service):
        ban = None if services is None else services.get(number)
        if ban is not None and ban.until > now:
            return ban.text
    return None
