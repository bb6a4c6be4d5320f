"""The from: patterns of rules in YAML.

- `*`: everyone
- `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`: an address or a network, of either family
- `mail.example.org`: a host name
- `.example.org`: every name below a domain, not the domain itself
- `user@PATTERN`: one of these, and the client's ident server says user
"""

import re
from typing import NamedTuple

from ucspid.net.address import IPV4, IPV6, Network, parse_network

EVERYWHERE = (Network(IPV4, 0, 0), Network(IPV6, 0, 0))

_NAME = re.compile(r"\.?(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")
_MAX_NAME = 253
"""Characters of the longest host name as text (RFC 1035, 2.3.4)."""


class Pattern(NamedTuple):
    """A pattern taken apart: networks, or in lower case a host name or a domain with its leading dot."""

    user: bytes | None
    where: tuple[Network, ...] | bytes


def parse_pattern(text: str) -> Pattern:
    """Return what a pattern means. Raises ValueError."""
    user, at, place = text.rpartition("@")
    if not at:
        return Pattern(None, _place(place))
    if not user or user == "*":
        raise ValueError("a user name is missing before the @")
    return Pattern(user.encode(), _place(place))


def _place(text: str) -> tuple[Network, ...] | bytes:
    if text == "*":
        return EVERYWHERE
    name = text.removesuffix(".")
    if "/" in text or ":" in text or _ends_in_number(name):
        return (parse_network(text),)
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError("neither an address, a network, a host name nor a .domain")
    return name.lower().encode()


def _ends_in_number(name: str) -> bool:
    """Return whether the last label has digits only, as no host name's has (RFC 1123, 2.1)."""
    return name.rpartition(".")[2].isdigit()
