"""The variables that a connection's program is told, by the UCSPI contract (ucspi-tcp's tcp-environ).

PROTO is TCP for IPv6 too and an IPv6 address stands in TCPREMOTEIP, because programs of the
qmail family test for PROTO=TCP; an IPv4-mapped address is shown as IPv4. Names that are
not looked up are not set.
"""

NAMES = (
    "PROTO",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "UCSPID_CONN_ID",
)
"""All that a connection may set; a launcher refuses others."""


def variables(local: bytes, remote_ip: str, remote_port: int, connection: int) -> bytes:
    """Return NAME=VALUE strings with NUL between them; local comes from local_variables()."""
    remote = f"TCPREMOTEIP={remote_ip}\0TCPREMOTEPORT={remote_port}\0UCSPID_CONN_ID={connection:x}"
    return local + remote.encode()


def local_variables(ip: str, port: int) -> bytes:
    """Return the part that is the same for all connections to one local address."""
    return f"PROTO=TCP\0TCPLOCALIP={ip}\0TCPLOCALPORT={port}\0".encode()
