"""The PROXY protocol's formats, versions 1 and 2: HAProxy's doc/proxy-protocol.txt of 2020/03/05."""

import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How a header of version 2 begins."""
V1 = b"PROXY "
"""How a line of version 1 begins."""

HEAD = struct.Struct("!12sBBH")
IPV4 = struct.Struct("!4s4sHH")
IPV6 = struct.Struct("!16s16sHH")
UNIX_SIZE = 216
TLV = struct.Struct("!BH")
SSL = struct.Struct("!BI")

LOCAL, PROXY = 0x20, 0x21
"""Commands, with the version."""
UNSPECIFIED, TCP4, TCP6, UNIX = 0x00, 0x11, 0x21, 0x31
"""Families of addresses, with the transport."""

ALPN, AUTHORITY, CRC32C, UNIQUE_ID, OF_SSL = 0x01, 0x02, 0x03, 0x05, 0x20
"""Kinds of values."""
SSL_VERSION, SSL_CN, SSL_CIPHER = 0x21, 0x22, 0x23
"""Kinds of values within the one about TLS."""
OVER_SSL, WITH_CERTIFICATE, CERTIFICATE_IN_SESSION = 0x01, 0x02, 0x04
"""What that one says of the client."""
