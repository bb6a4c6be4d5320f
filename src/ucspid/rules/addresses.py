"""Networks as rules count them: IPv4-mapped IPv6 is IPv4, and an address is the smallest network."""

from typing import NamedTuple

from ucspid.net.inet import MAPPED, pack, unpack

IPV4 = 32
IPV6 = 128


class Network(NamedTuple):
    """A network: the first length bits of an address of width bits (IPV4 or IPV6), as a number."""

    width: int
    length: int
    bits: int

    def __str__(self) -> str:
        """Return the usual form: 192.0.2.0/24, 2001:db8::/32."""
        value = (self.bits << (self.width - self.length)).to_bytes(self.width // 8)
        return f"{unpack(value if self.width == IPV6 else MAPPED + value)}/{self.length}"


def parse_address(ip: str) -> Network:
    """Return the network that is only this address; a scope id is ignored. Raises ValueError."""
    return network_of(pack(ip), IPV6)


def parse_network(text: str) -> Network:
    """Return the network ADDRESS/LENGTH, or an address alone as the network that is only it.

    ValueError if it is neither, or if bits after the first LENGTH are set: it is then unclear
    whether one address or the whole network was meant.
    """
    if "%" in text:
        raise ValueError("an address in a rule has no scope")
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


def _prefix_length(digits: str, width: int) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len("128")):
        raise ValueError(f"{digits!r} is not a prefix length")
    length = int(digits)
    if length > width:
        raise ValueError(f"prefix length {length} is over {width}")
    return length
