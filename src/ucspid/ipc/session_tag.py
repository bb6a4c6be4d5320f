"""What the loop has a launcher keep with each session, so that a new loop can take it over."""

import math
import struct

from ucspid.errors import WireError
from ucspid.ipc.messages import TAG_SIZE
from ucspid.net import inet

_LAYOUT = struct.Struct("<d16sHxx32s4x")

assert _LAYOUT.size == TAG_SIZE


def pack(began: float, ip: str, port: int, service: str) -> bytes:
    """Return a tag: when the session began (monotonic seconds), its client, its service's name."""
    return _LAYOUT.pack(began, inet.pack(ip), port, service.encode())


def unpack(tag: bytes) -> tuple[float, str, int, str]:
    """Return what pack() was given. Raises WireError for what it cannot have been given."""
    began, packed, port, service = _LAYOUT.unpack(tag)
    try:
        name = service.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise WireError("a session of a service whose name is not text") from None
    if not math.isfinite(began):
        raise WireError("a session without a valid start time")
    return began, inet.unpack(packed), port, name
