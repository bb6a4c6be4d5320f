"""Networks indexed so that finding those of an address costs the same however many there are."""

from collections.abc import Iterator

from ucspid.rules.addresses import Address, Network


class PrefixIndex:
    """Rule numbers by network: one dict for each prefix length in use, the longest first.

    A lookup takes one step for each distinct length, so at most 33 (IPv4) or 129 (IPv6).
    """

    def __init__(self) -> None:
        """Make an empty index."""
        self._tables: dict[int, dict[int, dict[int, int]]] = {32: {}, 128: {}}

    def add(self, network: Network, number: int) -> None:
        """Add a rule; of several for one network the first that was added stays."""
        tables = self._tables[network.width]
        if network.length not in tables:
            tables[network.length] = {}
            self._tables[network.width] = tables = dict(sorted(tables.items(), reverse=True))
        tables[network.length].setdefault(network.bits, number)

    def longest(self, ip: Address) -> int | None:
        """Return the rule of the longest prefix of an address, None if there is none."""
        return next(self._found(ip), None)

    def lowest(self, ip: Address, default: int) -> int:
        """Return the lowest rule number of all networks that the address is in."""
        return min(self._found(ip), default=default)

    def _found(self, ip: Address) -> Iterator[int]:
        value = int(ip)
        for length, table in self._tables[ip.max_prefixlen].items():
            number = table.get(value >> (ip.max_prefixlen - length))
            if number is not None:
                yield number
