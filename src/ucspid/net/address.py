"""IP addresses and networks: one value, one parser and one way to print for all who use them.

IPv4-mapped IPv6 addresses are IPv4 everywhere, and an address is the smallest network. Called for each
connection; no I/O.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ucspid.net.inet import MAPPED, pack, unpack
from ucspid.net.unix import UnixClient

IPV4 = 32
IPV6 = 128


class Network(NamedTuple):
    """A network: the first length bits of an address of width bits (IPV4 or IPV6), as a number.

    Not for tables that clients fill, whose keys must have a hash that cannot be foreseen: see client_key().
    """

    width: int
    length: int
    bits: int

    def __str__(self) -> str:
        """Return the usual form: 192.0.2.0/24, 2001:db8::/32, 192.0.2.1."""
        value = (self.bits << (self.width - self.length)).to_bytes(self.width // 8)
        text = unpack(value if self.width == IPV6 else MAPPED + value)
        return text if self.length == self.width else f"{text}/{self.length}"


def parse_address(ip: str) -> Network:
    """Return the network that is only this address; a scope id is ignored. Raises ValueError."""
    packed = pack(ip)
    if packed.startswith(MAPPED):
        return Network(IPV4, IPV4, int.from_bytes(packed[len(MAPPED) :]))
    return Network(IPV6, IPV6, int.from_bytes(packed))


def parse_network(text: str) -> Network:
    """Return the network ADDRESS/LENGTH, or an address alone as the network that is only it.

    ValueError if it is neither, or if bits after the first LENGTH are set: it is then unclear
    whether one address or the whole network was meant.
    """
    if "%" in text:
        raise ValueError(f"{text} names an interface, which is not supported")
    address, slash, digits = text.partition("/")
    packed = pack(address)
    width = IPV6 if ":" in address else IPV4
    length = _prefix_length(digits, width) if slash else width
    free = width - length
    value = int.from_bytes(packed)
    rounded = (value >> free << free).to_bytes(len(packed))
    if rounded != packed:
        network = network_of(rounded, IPV6 - free)
        raise ValueError(f"{text} has bits set after its first {length}: {network} or {address}?")
    return network_of(packed, IPV6 - free)


def network_of(packed: bytes, length: int) -> Network:
    """Return the network of the first length bits of pack()'s 16 bytes; the others have to be 0."""
    bits = int.from_bytes(packed) >> (IPV6 - length)
    if packed.startswith(MAPPED):
        length -= IPV6 - IPV4
        return Network(IPV4, length, bits & ((1 << length) - 1))
    return Network(IPV6, length, bits)


def pack_network(network: Network) -> tuple[bytes, int]:
    """Return what network_of() takes: the network's address as 16 bytes, and its length in those."""
    value = (network.bits << (network.width - network.length)).to_bytes(network.width // 8)
    if network.width == IPV4:
        return MAPPED + value, network.length + IPV6 - IPV4
    return value, network.length


def _prefix_length(digits: str, width: int) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len("128")):
        raise ValueError(f"{digits!r} is not a prefix length")
    length = int(digits)
    if length > width:
        raise ValueError(f"prefix length {length} is over {width}")
    return length


def plain(ip: str) -> str:
    """Return ip without IPv4 mapping and scope id, IPv6 in the form of inet_ntop(3).

    An IPv4 address is returned as it is, unchecked. Raises ValueError if ip is not an address.
    """
    return unpack(pack(ip)) if ":" in ip else ip


def reverse_name(ip: str) -> str:
    """Return the name in the DNS under which an address's own name is found. Raises ValueError."""
    packed = pack(ip)
    if packed.startswith(MAPPED):
        return ".".join(map(str, reversed(packed[len(MAPPED) :]))) + ".in-addr.arpa"
    return ".".join(reversed(packed.hex())) + ".ip6.arpa"


class Networks:
    """A set of networks; asking costs one lookup for each prefix length that is in use.

    An IPv6 network that encloses the IPv4-mapped addresses, as ::/0 does, holds no IPv4
    address; one inside of them (::ffff:10.0.0.0/104) is the IPv4 network that it maps.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Take networks as text. Raises ValueError for what parse_network() does not take."""
        tables: dict[int, defaultdict[int, set[int]]] = {IPV4: defaultdict(set), IPV6: defaultdict(set)}
        for network in map(parse_network, texts):
            whole = network.bits if network.width == IPV6 else _MAPPED_BITS << network.length | network.bits
            tables[network.width][network.width - network.length].add(whole)
        self._ipv4, self._ipv6 = (tuple(table.items()) for table in tables.values())

    def __contains__(self, ip: str) -> bool:
        """Return whether ip is in one of the networks. Raises ValueError if it is not an address."""
        try:
            packed = pack(ip)
        except ValueError:
            if isinstance(ip, UnixClient):
                return False
            raise
        value = int.from_bytes(packed)
        for host_bits, networks in self._ipv4 if packed.startswith(MAPPED) else self._ipv6:
            if value >> host_bits in networks:
                return True
        return False


_MAPPED_BITS = int.from_bytes(MAPPED)
