"""Networks indexed so that finding those of an address costs the same however many there are."""

from collections.abc import Iterator

from ucspid.net.address import IPV4, IPV6, Network


class PrefixIndex:
    """Rule numbers by network: one dict for each prefix length in use, the longest first.

    A lookup takes one step for each distinct length, so at most 33 (IPv4) or 129 (IPv6).
    """

    def __init__(self) -> None:
        """Make an empty index."""
        self._tables: dict[int, dict[int, dict[int, int]]] = {IPV4: {}, IPV6: {}}

    def add(self, network: Network, number: int) -> None:
        """Add a rule; of several for one network the first that was added stays."""
        tables = self._tables[network.width]
        if network.length not in tables:
            tables[network.length] = {}
            self._tables[network.width] = tables = dict(sorted(tables.items(), reverse=True))
        tables[network.length].setdefault(network.bits, number)

    def longest(self, address: Network) -> int | None:
        """Return the rule of the smallest network that an address is in, None if there is none."""
        return next(self._found(address), None)

    def lowest(self, address: Network, default: int) -> int:
        """Return the lowest rule number of all networks that an address is in."""
        return min(self._found(address), default=default)

    def _found(self, address: Network) -> Iterator[int]:
        for length, table in self._tables[address.width].items():
            number = table.get(address.bits >> (address.width - length))
            if number is not None:
                yield number
