"""PROXY protocol headers as balancers send them, made from their parts: independent of the parser."""

import ipaddress
import struct

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
AUTHORITY, CRC32C, UNIQUE_ID, SSL, NETNS, ALPN = 0x02, 0x03, 0x05, 0x20, 0x30, 0x01


def v1(source: str, destination: str, source_port: int = 4321, port: int = 25) -> bytes:
    """Return a line of version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {source_port} {port}\r\n".encode()


def tlv(kind: int, value: bytes) -> bytes:
    """Return one value of version 2."""
    return struct.pack("!BH", kind, len(value)) + value


def ssl(
    version: bytes = b"TLSv1.3", cipher: bytes = b"", name: bytes = b"", *, verified: bool = True
) -> bytes:
    """Return the value that describes TLS."""
    texts = ((0x21, version), (0x23, cipher), (0x22, name))
    inner = b"".join(tlv(kind, text) for kind, text in texts if text)
    return tlv(SSL, struct.pack("!BI", 0x07, 0 if verified else 1) + inner)


def addresses(source: str, destination: str, source_port: int = 4321, port: int = 25) -> bytes:
    """Return the addresses of version 2."""
    both = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return both + struct.pack("!HH", source_port, port)


def v2(body: bytes = b"", family: int = 0x11, command: int = 0x21) -> bytes:
    """Return a header of version 2: addresses and values are the body."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tcp4(*values: bytes, source: str = "192.0.2.7", destination: str = "198.51.100.1") -> bytes:
    """Return a header of version 2 for a client over IPv4."""
    return v2(addresses(source, destination) + b"".join(values))
