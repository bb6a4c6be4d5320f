"""The PROXY protocol's header as it is sent to a server, from the variables of a client's connection.

Imported by launchers. The formats are those that proxy_header reads.
"""

from collections.abc import Mapping

from ucspid.net import proxy_format as form
from ucspid.net.inet import MAPPED, pack, unpack

_LONGEST = 255
"""Bytes of a text that is sent; a longer one is not, as none of its kind is so long."""


def header(version: str, variables: Mapping[str, str]) -> bytes:
    """Return the header of version v1 or v2; nothing for off. variables are those of UCSPI."""
    if version == "off":
        return b""
    ends = _ends(variables)
    return _line(ends) if version == "v1" else _binary(ends, variables)


class _BothEnds:
    """Both ends of the client's connection, of one family."""

    def __init__(self, addresses: tuple[bytes, bytes], ports: tuple[int, int]) -> None:
        self.is_ipv4 = all(address.startswith(MAPPED) for address in addresses)
        self.addresses = tuple(address[len(MAPPED) :] if self.is_ipv4 else address for address in addresses)
        self.ports = ports


def _ends(variables: Mapping[str, str]) -> _BothEnds | None:
    """Return both ends; None if they are not known."""
    try:
        addresses = pack(variables["TCPREMOTEIP"]), pack(variables["TCPLOCALIP"])
        ports = int(variables["TCPREMOTEPORT"]), int(variables["TCPLOCALPORT"])
    except (KeyError, ValueError):
        return None
    return _BothEnds(addresses, ports)


def _line(ends: _BothEnds | None) -> bytes:
    if ends is None:
        return form.V1 + b"UNKNOWN\r\n"
    family = "TCP4" if ends.is_ipv4 else "TCP6"
    remote, local = (_ipv4(address) if ends.is_ipv4 else _ipv6(address) for address in ends.addresses)
    return form.V1 + f"{family} {remote} {local} {ends.ports[0]} {ends.ports[1]}\r\n".encode()


def _ipv4(address: bytes) -> str:
    return unpack(MAPPED + address)


def _ipv6(address: bytes) -> str:
    """Return an address as IPv6, an IPv4-mapped one too: it stands beside one that is not."""
    text = unpack(address)
    return text if ":" in text else f"::ffff:{text}"


def _binary(ends: _BothEnds | None, variables: Mapping[str, str]) -> bytes:
    """Return a header of version 2.

    One without addresses has the command PROXY too: with LOCAL, a server would take it for a health check.
    """
    family, body = form.UNSPECIFIED, b""
    if ends is not None:
        family = form.TCP4 if ends.is_ipv4 else form.TCP6
        layout = form.IPV4 if ends.is_ipv4 else form.IPV6
        body = layout.pack(*ends.addresses, *ends.ports)
    body += _described(variables)
    return form.HEAD.pack(form.SIGNATURE, form.PROXY, family, len(body)) + body


def _described(variables: Mapping[str, str]) -> bytes:
    """Return what is known of TLS between the client and us, or the balancer before us."""
    asked_for = _text(form.ALPN, variables, "SSL_ALPN_PROTOCOL") + _text(
        form.AUTHORITY, variables, "SSL_TLS_SNI_SERVERNAME"
    )
    if "SSL_PROTOCOL" not in variables:
        return asked_for
    name = _text(form.SSL_CN, variables, "SSL_PEER_CERT_CN")
    has_certificate = bool(name) or "SSL_PEER_CERT_HASH" in variables
    client = form.OVER_SSL
    if has_certificate:  # only those that were verified are accepted
        client |= form.WITH_CERTIFICATE | form.CERTIFICATE_IN_SESSION
    inner = (
        form.SSL.pack(client, not has_certificate)
        + _text(form.SSL_VERSION, variables, "SSL_PROTOCOL")
        + _text(form.SSL_CIPHER, variables, "SSL_CIPHER")
        + name
    )
    return asked_for + form.TLV.pack(form.OF_SSL, len(inner)) + inner


def _text(kind: int, variables: Mapping[str, str], name: str) -> bytes:
    """Return the value of a variable; nothing if it is not set, or too long."""
    value = variables.get(name, "").encode("utf-8", "surrogateescape")
    return form.TLV.pack(kind, len(value)) + value if 0 < len(value) <= _LONGEST else b""
