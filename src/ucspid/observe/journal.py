"""The journal's native protocol: events with fields of their own, one packet each.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL. They go through a relay, ucspid/journal_relay.py.
"""

import os
from collections.abc import MutableMapping
from typing import Any

from ucspid.linux.journal_stream import leads_to_journal
from ucspid.observe.renderers import PRIORITIES, message

MAX_VALUE = 8 << 10
"""Bytes of one field; of a longer one this is the beginning."""
MAX_ENTRY = 64 << 10
"""Bytes of an entry: a datagram has to fit the socket's buffer. Of a larger one only the message is sent."""

_STDERR = 2
_MESSAGE, _PRIORITY = b"MESSAGE=", b"PRIORITY="
_FIXED = b"SYSLOG_IDENTIFIER=ucspid\n"


class Journal:
    """The journal, to which a descriptor leads."""

    def __init__(self, relay: int | None, lines: int = _STDERR) -> None:
        """Send entries over the socket of a relay; without one, only lines go there, over a descriptor."""
        self._relay = relay
        self._lines = lines

    @classmethod
    def of_stderr(cls, relay: int | None) -> "Journal | None":
        """Return the journal, if standard error leads there; relay is a socket for entries."""
        return cls(relay) if relay is not None or leads_to_journal(_STDERR) else None

    @property
    def native(self) -> bool:
        """Whether it takes entries, and not only lines."""
        return self._relay is not None

    def write(self, lines: list[bytes]) -> int:
        """Send entries, or up to the first error; return how many bytes went out. It waits for journald."""
        done = 0
        try:
            for entry in lines:
                self._send(entry)
                done += len(entry)
        except OSError:
            pass  # this cannot be logged; the writer counts what is lost
        return done

    def _send(self, entry: bytes) -> None:
        """Send an entry; its message as a line, if the relay has ended. Raises OSError."""
        if self._relay is not None:
            try:
                os.write(self._relay, entry)
            except (BrokenPipeError, ConnectionError):
                os.close(self._relay)
                self._relay = None
            else:
                return
        text, priority, _rest = entry.removeprefix(_MESSAGE).split(b"\n", 2)
        os.write(self._lines, b"<%b>%b\n" % (priority.removeprefix(_PRIORITY), text))

    @staticmethod
    def render(_sink: Any, level: str, fields: MutableMapping[str, Any]) -> bytes:
        """Return the entry of an event: a message for people, its priority, and each field."""
        text = message(fields).encode("utf-8", "backslashreplace")[:MAX_VALUE]
        head = b"%b%b\n%b%d\n%b" % (_MESSAGE, text, _PRIORITY, PRIORITIES[level], _FIXED)
        entry = head + b"".join(_field(f"UCSPID_{key.upper()}", value) for key, value in fields.items())
        return entry if len(entry) <= MAX_ENTRY else head


def _field(name: str, value: Any) -> bytes:
    """Return a field; one with newlines has its length before it."""
    text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    data = text.encode("utf-8", "backslashreplace")[:MAX_VALUE]
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
