"""The journal's native protocol: events with fields of their own, one datagram each.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL. The socket is opened before the event loop's process is
confined. It stays the same while journald is restarted: the service manager holds it.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Any

from ucspid.linux.journal_stream import leads_to_journal
from ucspid.observe.renderers import PRIORITIES, message

SOCKET = "/run/systemd/journal/socket"

MAX_VALUE = 8 << 10
"""Bytes of one field; of a longer one this is the beginning."""
MAX_ENTRY = 64 << 10
"""Bytes of an entry: a datagram has to fit the socket's buffer. Of a larger one only the message is sent."""

_FIXED = b"SYSLOG_IDENTIFIER=ucspid\n"


class Journal:
    """The journal, to which a descriptor leads."""

    def __init__(self, sock: int | None) -> None:
        """Send over a connected socket; without one, only lines go there, over the descriptor."""
        self._sock = sock

    @classmethod
    def behind(cls, fd: int, path: str = SOCKET) -> "Journal | None":
        """Return the journal, if the descriptor leads there."""
        if not leads_to_journal(fd):
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            return cls(None)
        return cls(sock.detach())

    @property
    def native(self) -> bool:
        """Whether it takes entries, and not only lines."""
        return self._sock is not None

    def write(self, lines: list[bytes]) -> int:
        """Send entries, or up to the first error; return how many bytes went out. It waits for journald."""
        assert self._sock is not None
        done = 0
        try:
            for entry in lines:
                done += os.write(self._sock, entry)
        except OSError:
            pass  # this cannot be logged; the writer counts what is lost
        return done

    @staticmethod
    def render(_sink: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
        """Return the entry of an event: a message for people, its priority, and each field."""
        head = _field("MESSAGE", message(fields)) + b"PRIORITY=%d\n" % PRIORITIES[level] + _FIXED
        entry = head + b"".join(_field(f"UCSPID_{key.upper()}", value) for key, value in fields.items())
        return entry if len(entry) <= MAX_ENTRY else head


def _field(name: str, value: Any) -> bytes:
    """Return a field; one with newlines has its length before it."""
    text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    data = text.encode("utf-8", "backslashreplace")[:MAX_VALUE]
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
