"""The number that stands for what TLS handshakes are made with: the same in all processes.

Not a method of it: the hash comes with OpenSSL's library, half a megabyte of the master, which needs none.
"""

import hashlib

from ucspid import plain
from ucspid.plan import TlsContext


def context_number(context: TlsContext) -> int:
    """Return a number of 64 bits."""
    return int.from_bytes(hashlib.sha256(plain.to_json(context).encode()).digest()[:8])
