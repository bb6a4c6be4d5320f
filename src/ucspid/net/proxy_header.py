"""The PROXY protocol's header, versions 1 and 2: what a balancer says of the client that it speaks for.

Pure functions of bytes: parse() is called with all that has come so far, and says how long the
header is, so that no byte of the client's is ever taken with it. proxy_format has the formats.
"""

import struct
from collections.abc import Collection
from typing import NamedTuple

from ucspid.net import proxy_format as form
from ucspid.net.endpoint import parse_port
from ucspid.net.inet import MAPPED, pack, unpack

MAX_V1 = 107
"""Bytes that a line of version 1 may have, with its end."""

MAX_V2 = 4096
"""Bytes that a header of version 2 may have here. The format allows 64 KiB; balancers send some hundred."""

MAX_TEXT = 256
"""Bytes that one text about the client may have: a name, a cipher."""

_IPV6_SIZE = 16
_CRC = struct.Struct("!I")
_MAX_UNIQUE_ID = 128


class ProxyHeaderError(ValueError):
    """What came is not a header, or not one that is accepted; str() says why."""


class Ends(NamedTuple):
    """The two ends of the client's connection to the balancer: addresses in their usual form, and ports."""

    remote: tuple[str, int]
    local: tuple[str, int]


class Header(NamedTuple):
    """A whole header.

    size is its length in bytes. local: the balancer speaks for itself, as in a health check. ends is None
    where the balancer does not say who the client is: then the connection's own ends hold. variables are
    texts about the client, by the names that s6's proxy-server gives them. unique_id is the balancer's name
    for the connection.
    """

    size: int
    version: int
    local: bool = False
    ends: Ends | None = None
    variables: tuple[tuple[bytes, bytes], ...] = ()
    unique_id: bytes = b""


def parse(received: bytes, versions: Collection[int]) -> Header | None:
    """Return the header at the beginning of what has come, or None if it is not all there.

    While it is None all of received belongs to the header. Raises ProxyHeaderError as soon as it
    can be none, or one of a version that is not in versions.
    """
    if received.startswith(form.V1[: len(received)]):
        found = _parse_v1(received)
    elif received.startswith(form.SIGNATURE[: len(received)]):
        found = _parse_v2(received)
    else:
        raise ProxyHeaderError("no PROXY header")
    if found is None:
        version = 1 if received.startswith(b"P") else 2
        if received and version not in versions:
            raise ProxyHeaderError(f"a PROXY header of version {version}")
        return None
    if found.version not in versions:
        raise ProxyHeaderError(f"a PROXY header of version {found.version}")
    return found


def _parse_v1(received: bytes) -> Header | None:
    end = received.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(received) >= MAX_V1:
            raise ProxyHeaderError(f"a line of more than {MAX_V1} bytes")
        if b"\n" in received:
            raise ProxyHeaderError("a line that does not end with CR LF")
        return None
    size = end + 2
    try:
        words = received[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyHeaderError("a line that is not ASCII") from None
    if len(words) > 1 and words[1] == "UNKNOWN":
        return Header(size, 1)
    match words:
        case [_, "TCP4" | "TCP6" as family, source, destination, source_port, destination_port]:
            remote = _address(source, family), _port(source_port)
            return Header(
                size, 1, ends=Ends(remote, (_address(destination, family), _port(destination_port)))
            )
    raise ProxyHeaderError("a line that is not of the form PROXY TCP4|TCP6 ADDRESS ADDRESS PORT PORT")


def _address(text: str, family: str) -> str:
    if (":" in text) != (family == "TCP6") or "%" in text:
        raise ProxyHeaderError(f"an address that is not of {family}")
    try:
        return unpack(pack(text))
    except ValueError:
        raise ProxyHeaderError("an address that is none") from None


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError:
        raise ProxyHeaderError("a port that is none") from None


def _parse_v2(received: bytes) -> Header | None:
    if len(received) < form.HEAD.size:
        return None
    _, command, family, length = form.HEAD.unpack_from(received)
    size = form.HEAD.size + length
    if command not in (form.LOCAL, form.PROXY):
        raise ProxyHeaderError(f"command {command:#x}")
    if size > MAX_V2:
        raise ProxyHeaderError(f"a header of {size} bytes, at most {MAX_V2} are accepted")
    if len(received) < size:
        return None
    header = received[:size]
    if command == form.LOCAL:
        return Header(size, 2, local=True)
    ends, tlvs_at = _ends(header, family)
    variables, unique_id = _described(header, tlvs_at)
    return Header(size, 2, ends=ends, variables=variables, unique_id=unique_id)


def _ends(header: bytes, family: int) -> tuple[Ends | None, int]:
    """Return the ends, and where what follows them begins."""
    if family == form.UNSPECIFIED:
        return None, form.HEAD.size
    layout = {form.TCP4: form.IPV4, form.TCP6: form.IPV6}.get(family)
    if layout is None and family != form.UNIX:
        raise ProxyHeaderError(f"a family of addresses {family:#x}: neither TCP nor Unix")
    after = form.HEAD.size + (form.UNIX_SIZE if layout is None else layout.size)
    if after > len(header):
        raise ProxyHeaderError("a header without room for its addresses")
    if layout is None:
        return None, after
    source, destination, source_port, destination_port = layout.unpack_from(header, form.HEAD.size)
    return Ends((_text_of(source), source_port), (_text_of(destination), destination_port)), after


def _text_of(address: bytes) -> str:
    return unpack(address if len(address) == _IPV6_SIZE else MAPPED + address)


def _described(header: bytes, at: int) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Return the variables, and the unique id. A header with a checksum is checked."""
    variables: dict[bytes, bytes] = {}
    unique_id = b""
    for kind, begin, end in _tlvs(header, at, len(header)):
        value = header[begin:end]
        if kind == form.CRC32C:
            zeroed = header[:begin] + bytes(len(value)) + header[end:]
            if len(value) != _CRC.size or _CRC.unpack(value)[0] != crc32c(zeroed):
                raise ProxyHeaderError("a header whose checksum is wrong")
        elif kind == form.ALPN:
            variables[b"SSL_ALPN_PROTOCOL"] = _checked(value)
        elif kind == form.AUTHORITY:
            variables[b"SSL_TLS_SNI_SERVERNAME"] = _checked(value)
        elif kind == form.UNIQUE_ID:
            if len(value) > _MAX_UNIQUE_ID:
                raise ProxyHeaderError(f"a unique id of more than {_MAX_UNIQUE_ID} bytes")
            unique_id = value
        elif kind == form.OF_SSL:
            variables |= _of_ssl(header, begin, end)
    return tuple(variables.items()), unique_id


def _of_ssl(header: bytes, begin: int, end: int) -> dict[bytes, bytes]:
    if end - begin < form.SSL.size:
        raise ProxyHeaderError("a description of TLS that is cut off")
    client, unverified = form.SSL.unpack_from(header, begin)
    found: dict[bytes, bytes] = {}
    if not client & form.OVER_SSL:
        return found
    for kind, first, last in _tlvs(header, begin + form.SSL.size, end):
        if kind == form.SSL_VERSION:
            found[b"SSL_PROTOCOL"] = _checked(header[first:last])
        elif kind == form.SSL_CIPHER:
            found[b"SSL_CIPHER"] = _checked(header[first:last])
        elif kind == form.SSL_CN and not unverified:
            found[b"SSL_PEER_CERT_CN"] = _checked(header[first:last])
    return found


def _tlvs(header: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """Return kind, begin and end of each value."""
    found = []
    while at < end:
        if at + form.TLV.size > end:
            raise ProxyHeaderError("a value that is cut off")
        kind, length = form.TLV.unpack_from(header, at)
        begin = at + form.TLV.size
        at = begin + length
        if at > end:
            raise ProxyHeaderError("a value that is cut off")
        found.append((kind, begin, at))
    return found


def _checked(value: bytes) -> bytes:
    """Return a text that may go into an environment and a log."""
    if len(value) > MAX_TEXT:
        raise ProxyHeaderError(f"a text of more than {MAX_TEXT} bytes")
    if not value.decode("utf-8", "replace").isprintable():
        raise ProxyHeaderError("a text with control characters")
    return value


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC of RFC 3720, appendix B.4 (Castagnoli)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
