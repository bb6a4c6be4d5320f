"""The address part of a tcprules rule: what it stands for, and which keys a client has.

Keys that name a network, in a text or in a compiled file, whichever tool compiled it:

    1.2.3.              the first octets of an IPv4 address (tcprules)
    2001:db8:           the first groups of an IPv6 address (the IPv6 patch of ucspi-tcp)
    1.2.3.0/24          any prefix of either family (text)
    _a0c…  ^`0a…        the same as stored by ucspi-tcp6: one character for each bit

IPv6 addresses are read in any form, expanded ones of ucspi-tcp6 included. All other keys are
taken byte for byte.
"""

import itertools
from collections.abc import Iterator

from ucspid.net.address import IPV4, IPV6, Network, network_of, parse_network
from ucspid.net.inet import pack

_LETTERS = b"abcdefghijklmnopqrstuvwxyz123456"
"""ucspi-tcp6's character for each bit of an IPv4 prefix that is 1; one that is 0 is "0"."""
_ZERO = ord("0")
_DIGITS = bytes(_ZERO if byte == _ZERO else ord("1") for byte in range(256))
"""Translation of a stored prefix to binary digits: whatever is not "0" is a 1."""

Target = Network | bytes
"""What a key stands for: a network, or all clients that have a certain exact key."""


def before_prefixes(address: bytes, host: bytes | None, info: bytes | None) -> Iterator[bytes]:
    """Yield the keys of a client that come before the networks it is in, in order."""
    if info is not None:
        yield info + b"@" + address
        if host is not None:
            yield info + b"@=" + host
    yield address
    if host is not None:
        yield b"=" + host


def after_prefixes(host: bytes | None) -> Iterator[bytes]:
    """Yield the keys of a client that come after the networks it is in, in order."""
    if host is not None:
        for suffix in suffixes(host):
            yield b"=" + suffix
        yield b"="
    yield b""


def suffixes(host: bytes) -> Iterator[bytes]:
    """Yield the domains that a name is in, each with its leading dot, the longest first."""
    dot = host.find(b".")
    while dot >= 0:
        yield host[dot:]
        dot = host.find(b".", dot + 1)


def names_host(key: bytes) -> bool:
    """Return whether a key is for a host name, with a user or without."""
    return key.startswith(b"=") or b"@=" in key


def parse(key: bytes) -> Target:
    """Return what a key stands for. Raises ValueError for one that was meant as a network and is not one.

    The clients' own keys are in the form that before_prefixes() gets: dotted IPv4, canonical IPv6.
    """
    if names_host(key):
        return key
    network = _from_bits(key)
    if network is not None:
        return network
    head, at, tail = key.rpartition(b"@")
    network = _network(tail)
    if network is None:
        return key
    if network.length == network.width:
        return head + at + str(network).partition("/")[0].encode()
    if not at:
        return network
    if tail.endswith(b"."):
        return key  # tcprules accepts it, though no client has this key
    raise ValueError("a user can be combined with one address or host, not with a network")


def stored(key: bytes, target: Target) -> bytes:
    """Return the key under which a compiled file holds the rule that was written with this one.

    It is the key itself, except for what tcprules does not know: that is stored as ucspi-tcp6
    stores it.
    """
    if isinstance(target, Network):
        return key if key.endswith(b".") else _to_bits(target)
    head, at, tail = target.rpartition(b"@")
    if b":" in tail and not names_host(target):
        return head + at + _expand(tail.decode())
    return target


def _network(text: bytes) -> Network | None:
    """Return the network or the single address that a key names, None if it is not of that kind."""
    if b"/" in text:
        return parse_network(text.decode("latin-1"))
    if b":" in text:
        return _ipv6(text.decode("latin-1"))
    octets = text.count(b".")
    if text.endswith(b".") and octets in range(1, 4):
        return _octets(text.decode("latin-1"), octets)
    return None


def _octets(text: str, octets: int) -> Network | None:
    try:
        return parse_network(f"{text}{'.'.join(['0'] * (4 - octets))}/{8 * octets}")
    except ValueError:
        return None  # tcprules accepts it, though no address begins so


def _ipv6(text: str) -> Network:
    if not text.endswith(":"):
        return parse_network(text)
    if "::" in text:
        raise ValueError(f"{text} can be read as an address or as a prefix: write {text}/LENGTH")
    groups = text.count(":")
    return parse_network(f"{text}{':'.join(['0'] * (8 - groups))}/{16 * groups}")


def _to_bits(network: Network) -> bytes:
    digits = f"{network.bits:0{network.length}b}" if network.length else ""
    if network.width == IPV4:
        ones = zip(digits, _LETTERS, strict=False)
        return b"_" + bytes(_ZERO if digit == "0" else letter for digit, letter in ones)
    letters = itertools.count(0x60)
    return b"^" + bytes(_ZERO if digit == "0" else next(letters) for digit in digits)


def _from_bits(key: bytes) -> Network | None:
    """Return the network whose stored form a key is, None if it is not one."""
    width = {b"_": IPV4, b"^": IPV6}.get(key[:1])
    length = len(key) - 1
    if width is None or length > width:
        return None
    network = Network(width, length, int(key[1:].translate(_DIGITS) or b"0", 2))
    if _to_bits(network) != key:
        return None
    if width == IPV4:
        return network
    return network_of((network.bits << (IPV6 - length)).to_bytes(IPV6 // 8), length)


def _expand(ip: str) -> bytes:
    """Return an IPv6 address as ucspi-tcp6 stores it, all of it in upper case."""
    digits = pack(ip).hex().upper()
    return ":".join(digits[at : at + 4] for at in range(0, len(digits), 4)).encode()
