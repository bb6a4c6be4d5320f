"""Client addresses: which of them count as one client, and which belong to a set of networks.

IPv4-mapped IPv6 addresses are IPv4 everywhere, and scope ids do not count. Called for each
connection; no I/O.
"""

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from ucspid.net.inet import MAPPED, pack, unpack

BITS = 128
IPV4_BITS = 32
_LONGEST_TEXT = 45
"""Characters of an IPv6 address; that of a client that is exempt may stand for it."""

ClientKey = str | bytes
"""What counts as one client: the text of a whole IPv4 address, or the 16 bytes of a network.

Not a number: the hash of a str or bytes is keyed, that of an int is not, and clients choose
their addresses. The texts are shorter than 16 characters, so the two kinds never meet.
"""


def client_key(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> ClientKey:
    """Return what ip counts as when clients are networks of these prefix lengths.

    Keys are comparable only among calls with the same prefixes. The text of an IPv4 address
    is not checked when its prefix is 32; apart from that, raises ValueError if ip is not an
    address.
    """
    if ":" not in ip:
        return ip if ipv4_prefix == IPV4_BITS else _network(pack(ip), BITS - IPV4_BITS + ipv4_prefix)
    packed = pack(ip)
    if not packed.startswith(MAPPED):
        return _network(packed, ipv6_prefix)
    return client_key(unpack(packed), ipv4_prefix, ipv6_prefix)


def key_text(key: ClientKey) -> str:
    """Return a key as text, for JSON; key_from() is the way back."""
    return key if isinstance(key, str) else f"={key.hex()}"


def key_from(text: Any) -> ClientKey:
    """Return the key that key_text() wrote. Raises ValueError for what it cannot have written."""
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise ValueError(f"{text!r:.60} is no client")
    return bytes.fromhex(text[1:]) if text.startswith("=") else text


def _network(packed: bytes, prefix: int) -> bytes:
    host_bits = BITS - prefix
    return (int.from_bytes(packed) >> host_bits << host_bits).to_bytes(len(packed))


def plain(ip: str) -> str:
    """Return ip without IPv4 mapping and scope id, IPv6 in the form of inet_ntop(3).

    An IPv4 address is returned as it is. Raises ValueError if ip is not an address.
    """
    return unpack(pack(ip)) if ":" in ip else ip


def endpoint(ip: str, port: int) -> str:
    """Return an address and port as logs and answers show them: 192.0.2.7:25, [2001:db8::7]:25.

    The one way to do so: IPv4-mapped addresses are shown as IPv4, and scope ids not at all. Raises
    ValueError if ip is not an address.
    """
    if ":" in ip:
        ip = plain(ip)
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def network_text(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """Return what client_key() takes ip for, to be read: 192.0.2.7, 192.0.2.0/24, 2001:db8::/64.

    Raises ValueError if ip is not an address.
    """
    ip = plain(ip)
    prefix, bits = (ipv6_prefix, BITS) if ":" in ip else (ipv4_prefix, IPV4_BITS)
    if prefix == bits:
        return ip
    return f"{unpack(_network(pack(ip), BITS - bits + prefix))}/{prefix}"


class Networks:
    """A set of IP networks; asking costs one lookup for each prefix length that is in use.

    An IPv6 network that encloses the IPv4-mapped addresses, as ::/0 does, holds no IPv4
    address; one inside of them (::ffff:10.0.0.0/104) is the IPv4 network that it maps.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Take networks as text; bits behind the prefix are ignored.

        Raises ValueError if one is not a network.
        """
        ipv4: defaultdict[int, set[int]] = defaultdict(set)
        ipv6: defaultdict[int, set[int]] = defaultdict(set)
        for text in texts:
            network = ip_network(text, strict=False)
            packed = pack(str(network.network_address))
            host_bits = network.max_prefixlen - network.prefixlen
            mapped = packed.startswith(MAPPED) and host_bits <= IPV4_BITS
            (ipv4 if mapped else ipv6)[host_bits].add(int.from_bytes(packed) >> host_bits)
        self._ipv4 = tuple(ipv4.items())
        self._ipv6 = tuple(ipv6.items())

    def __contains__(self, ip: str) -> bool:
        """Return whether ip is in one of the networks. Raises ValueError if it is not an address."""
        packed = pack(ip)
        value = int.from_bytes(packed)
        for host_bits, networks in self._ipv4 if packed.startswith(MAPPED) else self._ipv6:
            if value >> host_bits in networks:
                return True
        return False
