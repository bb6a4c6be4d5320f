"""An IP address as text and as 16 bytes, through the C library's own parser.

Pure functions, and the only module of the policy that imports socket: inet_pton(3) takes a
tenth of the time that the ipaddress module takes, and accepts exactly what accept(2) reports.
"""

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

MAPPED = bytes(10) + b"\xff\xff"
"""How the 16 bytes of an IPv4 address begin: the prefix ::ffff:0:0/96 (RFC 4291, section 2.5.5.2)."""


def pack(ip: str) -> bytes:
    """Return the 16 bytes of an address, an IPv4 address as IPv4-mapped IPv6.

    A scope id (fe80::1%eth0) is cut off. Raises ValueError if ip is not an address.
    """
    try:
        if ":" in ip:
            return inet_pton(AF_INET6, ip.partition("%")[0])
        return MAPPED + inet_pton(AF_INET, ip)
    except (OSError, ValueError):
        raise ValueError(f"not an IP address: {ip!r}") from None


def unpack(packed: bytes) -> str:
    """Return the text of pack()'s 16 bytes: IPv4 in dotted form, IPv6 as inet_ntop(3) writes it.

    Raises ValueError if they are not 16.
    """
    if packed.startswith(MAPPED):
        return inet_ntop(AF_INET, packed[len(MAPPED) :])
    return inet_ntop(AF_INET6, packed)
