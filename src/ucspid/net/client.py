"""Which addresses count as one client. Called for each connection; no I/O."""

from typing import Any

from ucspid.net.address import IPV4, IPV6, Network, Networks, network_of, parse_network
from ucspid.net.inet import MAPPED, pack, unpack
from ucspid.net.unix import PREFIX, UnixClient, UnixClients, UnixUser

_MAX_TEXT = 45
"""Characters of an IPv6 address; that of a client that is exempt may stand for it."""

ClientKey = str | bytes
"""What counts as one client: the text of a whole IPv4 address or of a UnixClient, or the bytes of a network.

Not a number: the hash of a str or bytes is keyed, that of an int is not, and clients choose
their addresses. Texts and bytes are never equal, and no text of an address is one of a UnixClient.
"""


Clients = Networks | UnixClients
"""Some clients: whoever is in one of these networks, or comes over a Unix socket."""


Deniable = Network | UnixUser
"""Whom an operator may deny: a network, or a user of this host."""


def deniable(text: str) -> Deniable:
    """Return whom an address, a network or unix:uid=NUMBER stands for. Raises ValueError."""
    return UnixUser.parse(text) if text.startswith(PREFIX) else parse_network(text)


def clients_of(text: str) -> Clients:
    """Return those whom an address, a network, unix: or unix:uid=NUMBER stands for. Raises ValueError."""
    return UnixClients(text) if text.startswith(PREFIX) else Networks([text])


def client_key(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> ClientKey:
    """Return what ip counts as when clients are networks of these prefix lengths.

    A client over a Unix socket is its user, whatever the prefixes are. Keys are comparable only
    among calls with the same prefixes. The text of an IPv4 address is not checked when its prefix
    is 32; apart from that, raises ValueError if ip is not an address.
    """
    if ":" not in ip:
        return ip if ipv4_prefix == IPV4 else _first_bits(pack(ip), IPV6 - IPV4 + ipv4_prefix)
    if isinstance(ip, UnixClient):
        return str(ip)
    packed = pack(ip)
    if not packed.startswith(MAPPED):
        return _first_bits(packed, ipv6_prefix)
    return client_key(unpack(packed), ipv4_prefix, ipv6_prefix)


def client_network(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> Network:
    """Return the network that client_key() takes ip for, to be shown. Raises ValueError."""
    packed = pack(ip)
    length = IPV6 - IPV4 + ipv4_prefix if packed.startswith(MAPPED) else ipv6_prefix
    return network_of(_first_bits(packed, length), length)


def client_text(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """Return what client_key() takes ip for, to be shown. Raises ValueError if ip is not an address."""
    return str(ip if isinstance(ip, UnixClient) else client_network(ip, ipv4_prefix, ipv6_prefix))


def key_text(key: ClientKey) -> str:
    """Return a key as text, for JSON; key_from() is the way back."""
    return key if isinstance(key, str) else f"={key.hex()}"


def key_from(text: Any) -> ClientKey:
    """Return the key that key_text() wrote. Raises ValueError for what it cannot have written."""
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError(f"{text!r:.60} is not a client")
    return bytes.fromhex(text[1:]) if text.startswith("=") else text


def _first_bits(packed: bytes, length: int) -> bytes:
    host_bits = IPV6 - length
    return (int.from_bytes(packed) >> host_bits << host_bits).to_bytes(len(packed))
