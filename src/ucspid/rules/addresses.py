"""Addresses and networks of clients: one form for each, IPv4-mapped IPv6 being IPv4."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

Address = IPv4Address | IPv6Address

_MAPPED = 0xFFFF
"""The first 96 bits of ::ffff:0:0/96, the addresses that stand for IPv4 (RFC 4291, 2.5.5.2)."""


class Network(NamedTuple):
    """A network: the first length bits of an address of width bits (32 or 128), as a number."""

    width: int
    length: int
    bits: int

    def __str__(self) -> str:
        """Return the usual form: 192.0.2.0/24, 2001:db8::/32."""
        value = self.bits << (self.width - self.length)
        return f"{IPv4Address(value) if self.width == 32 else IPv6Address(value)}/{self.length}"  # noqa: PLR2004


def client_address(text: str) -> Address:
    """Return the address in the form in which rules count it; ValueError if it is none."""
    return plain(ip_address(text))


def plain(ip: Address) -> Address:
    """Return the address without a scope, and as IPv4 if it is an IPv4-mapped one."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.scope_id is not None:
            return IPv6Address(int(ip))
    return ip


def parse_network(text: str) -> Network:
    """Return the network ADDRESS/LENGTH, or an address alone as the network that is only it.

    ValueError if it is neither, or if bits after the first LENGTH are set: it is then unclear
    whether one address or the whole network was meant. (inet_pton serves because it is strict
    about the form and, at 100,000 rules, ten times as fast as the ipaddress module.)
    """
    address, slash, digits = text.partition("/")
    width, value = _packed(address)
    length = _prefix_length(digits, width) if slash else width
    bits = value >> (width - length)
    network = Network(width, length, bits)
    if bits << (width - length) != value:
        raise ValueError(f"{text} has bits set after its first {length}: {network} or {address}?")
    if width == 128 and length >= 96 and bits >> (length - 96) == _MAPPED:  # noqa: PLR2004
        return Network(32, length - 96, bits & ((1 << (length - 96)) - 1))
    return network


def _packed(text: str) -> tuple[int, int]:
    """Return the width of an address and its value."""
    family, width = (socket.AF_INET6, 128) if ":" in text else (socket.AF_INET, 32)
    try:
        return width, int.from_bytes(socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IPv{6 if ':' in text else 4} address") from None


def _prefix_length(digits: str, width: int) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len("128")):
        raise ValueError(f"{digits!r} is not a prefix length")
    length = int(digits)
    if length > width:
        raise ValueError(f"prefix length {length} is over {width}")
    return length
