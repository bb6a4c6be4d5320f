"""What the loop has a launcher keep with each session, so that a new loop can take it over."""

import math
import struct

from ucspid.errors import WireError
from ucspid.ipc.messages import TAG_SIZE
from ucspid.net import inet
from ucspid.net.unix import UnixClient

_LAYOUT = struct.Struct("<d16sHBx32s4x")
_UNIX_CLIENT = struct.Struct("<III4x")
_IP, _UNIX = 0, 1
"""Kinds of clients."""

assert _LAYOUT.size == TAG_SIZE


def pack(began: float, ip: str, port: int, service: str) -> bytes:
    """Return a tag: when the session began (monotonic seconds), its client, its service's name."""
    if ":" in ip and isinstance(ip, UnixClient):
        return _LAYOUT.pack(began, _UNIX_CLIENT.pack(ip.uid, ip.gid, ip.pid), 0, _UNIX, service.encode())
    return _LAYOUT.pack(began, inet.pack(ip), port, _IP, service.encode())


def unpack(tag: bytes) -> tuple[float, str, int, str]:
    """Return what pack() was given. Raises WireError for what it cannot have been given."""
    began, packed, port, kind, service = _LAYOUT.unpack(tag)
    try:
        name = service.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise WireError("a session of a service whose name is not text") from None
    if not math.isfinite(began):
        raise WireError("a session without a valid start time")
    if kind == _UNIX:
        return began, UnixClient.of(*_UNIX_CLIENT.unpack(packed)), 0, name
    if kind != _IP:
        raise WireError(f"a session of a client of kind {kind}")
    return began, inet.unpack(packed), port, name
