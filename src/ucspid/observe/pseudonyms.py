"""What the log shows of clients in place of their addresses: `log: {clients: prefix}` or `hashed`.

With "prefix" an address has only its first bits left. With "hashed" it is a word that is the same for
the same address for a day (UTC). The key of that is in memory that the master holds, so that it
outlives a process of the event loop. The key of the next day is made from that of the day, and
replaces it: nobody who has it can tell what the words of the days before stand for.
"""

import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, Literal

from ucspid.net.client import client_network
from ucspid.net.unix import PREFIX

FIELDS = ("remote", "client", "network")
"""The fields of events that have a client's address, with its port or as a network."""

SIZE = 4096
"""Bytes of the memory of the key."""
IPV4_PREFIX, IPV6_PREFIX = 24, 48
"""Bits of an address that are left with "prefix"."""
MAX_KEPT = 1024
"""Addresses whose words are kept, since those of a connection are needed more than once."""

NEXT_DAY = b"ucspid-next-day"
_DAY = 86_400
_KEY = struct.Struct("<Q32s")
_WORD = 8


class DailyKey:
    """The key of the day, in memory."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory; the descriptor stays the caller's."""
        self._memory = mmap.mmap(descriptor, SIZE)

    def at(self, day: int) -> bytes:
        """Return the key of a day; there is no way back to those of earlier days."""
        its_day, key = _KEY.unpack_from(self._memory)
        if its_day == 0:
            its_day, key = day, os.urandom(32)
        while its_day < day:
            its_day, key = its_day + 1, hashlib.blake2b(key, digest_size=32, person=NEXT_DAY).digest()
        _KEY.pack_into(self._memory, 0, its_day, key)
        return bytes(key)


class Pseudonyms:
    """Shows addresses as the file wants it."""

    def __init__(
        self,
        how: Literal["prefix", "hashed"],
        key: DailyKey | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Shorten addresses, or hash them with a key."""
        self._key = key
        self._now = now
        self._day = -1
        self._shown = lru_cache(MAX_KEPT)(self._hashed if how == "hashed" else _shortened)

    def of_event(self, _sink: Any, _level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Replace the addresses of an event."""
        for name in FIELDS:
            if name in fields:
                fields[name] = self.of_text(str(fields[name]))
        return fields

    def of_text(self, text: str) -> str:
        """Return what is shown for ADDRESS:PORT, [ADDRESS]:PORT, ADDRESS or ADDRESS/BITS, or a UnixClient."""
        if text.startswith(PREFIX):
            return text
        host, colon, port = text.rpartition(":")
        if colon and host.startswith("[") and host.endswith("]"):
            shown = self.of_address(host[1:-1])
            return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
        if colon and ":" not in host:
            return f"{self.of_address(host)}:{port}"
        return self.of_address(text)

    def of_address(self, address: str) -> str:
        """Return what is shown for an address, or for a network; a user of this host is no secret of it."""
        if address.startswith(PREFIX):
            return address
        if self._key is not None and (day := int(self._now() // _DAY)) != self._day:
            self._day = day
            self._shown.cache_clear()
        return self._shown(address)

    def _hashed(self, address: str) -> str:
        assert self._key is not None
        key = self._key.at(self._day)
        return hashlib.blake2b(address.encode(), digest_size=_WORD, key=key).hexdigest()


def _shortened(address: str) -> str:
    """Return the beginning of an address; of a network that is larger than that, the network."""
    bare, slash, bits = address.partition("/")
    kept = int(bits) if slash else 128
    try:
        network = str(client_network(bare, min(IPV4_PREFIX, kept), min(IPV6_PREFIX, kept)))
    except ValueError:
        return "?"
    return network if slash else network.partition("/")[0]
