"""The from: patterns of rules in YAML.

- `*`: everyone
- `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`: an address or a network, of either family
- `mail.example.org`: a host name
- `.example.org`: every name below a domain, not the domain itself
- `user@PATTERN`: one of these, and the client's ident server says user
- `sni:mail.example.org`, `sni:.example.org`: the name that the client asks for in a TLS handshake
- `san:client.example.org`, `san:.example.org`: a name in the client's certificate
- `sha256:HEX`: the fingerprint of the client's certificate
- `unix:`: everyone who comes over a Unix socket
- `uid:1000`, `gid:1000`: a process of that user, or with that group, which comes over a Unix socket
"""

import re
from typing import Literal, NamedTuple

from ucspid.net.address import IPV4, IPV6, Network, parse_network
from ucspid.net.unix import PREFIX, is_number

EVERYWHERE = (Network(IPV4, 0, 0), Network(IPV6, 0, 0))
"""Everyone: whoever comes over a Unix socket, too."""

_NAME = re.compile(r"\.?(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")
_MAX_NAME = 253
"""Characters of the longest host name as text (RFC 1035, 2.3.4)."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_CERTIFICATE_NAME = re.compile(rf"[!-~]{{1,{_MAX_NAME}}}")

TlsTrait = Literal["sni", "san", "sha256"]
TLS_TRAITS: tuple[TlsTrait, ...] = ("sni", "san", "sha256")
"""What a pattern begins with, before a colon, that is about a TLS handshake."""


class LocalProcess(NamedTuple):
    """Who comes over a Unix socket: all of them, those of a user, or those with a group."""

    kind: Literal["unix", "uid", "gid"]
    number: int = 0


OVER_UNIX = LocalProcess("unix")


class Pattern(NamedTuple):
    """A pattern taken apart: networks, or in lower case a host name or a domain with its leading dot.

    With a trait of TLS, where is what that must be.
    """

    user: bytes | None
    where: tuple[Network, ...] | bytes | LocalProcess
    trait: TlsTrait | None = None


def parse_pattern(text: str) -> Pattern:
    """Return what a pattern means. Raises ValueError."""
    for trait in TLS_TRAITS:
        if text.startswith(f"{trait}:"):
            return Pattern(None, _shown(trait, text.partition(":")[2]), trait)
    if (process := _process(text)) is not None:
        return Pattern(None, process)
    user, at, place = text.rpartition("@")
    if not at:
        return Pattern(None, _place(place))
    if not user or user == "*":
        raise ValueError("a user name is missing before the @")
    return Pattern(user.encode(), _place(place))


def _shown(trait: TlsTrait, text: str) -> bytes:
    """Return what a handshake must show, in lower case. Raises ValueError."""
    if trait == "sha256":
        text = text.lower().replace(":", "")
        if not _FINGERPRINT.fullmatch(text):
            raise ValueError("the fingerprint of a certificate has 64 hexadecimal digits")
    elif trait == "sni":
        text = text.removesuffix(".")
        if len(text) > _MAX_NAME or not _NAME.fullmatch(text):
            raise ValueError("neither a host name nor a .domain after sni:")
    elif not _CERTIFICATE_NAME.fullmatch(text):
        raise ValueError(f"a name in a certificate has 1 to {_MAX_NAME} characters, all of them ASCII")
    return text.lower().encode()


def _process(text: str) -> LocalProcess | None:
    """Return whom a pattern for Unix sockets means; None if it is of another kind. Raises ValueError."""
    if text == PREFIX:
        return OVER_UNIX
    if text.startswith(PREFIX) or text == PREFIX.rstrip(":"):
        raise ValueError("all who come over a Unix socket are unix:, one user of them is uid:NUMBER")
    kind, colon, number = text.partition(":")
    if not colon or kind not in ("uid", "gid"):
        return None
    if not is_number(number):
        raise ValueError(f"a number is missing after {kind}:")
    return LocalProcess("uid" if kind == "uid" else "gid", int(number))


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
