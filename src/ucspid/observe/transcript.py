"""What tcpserver -v says of its connections, byte for byte: `log: {format: tcpserver}`.

The lines of one service, or of several together:

    tcpserver: status: 1/40
    tcpserver: pid 4711 from 192.0.2.7
    tcpserver: ok 4711 mx.example.org:198.51.100.1:25 client.example.net:192.0.2.7:joe:40312
    tcpserver: end 4711 status 0
    tcpserver: status: 0/40

A client that gets no program has no process here. In its place it is given a number above those of
processes, so that its lines belong together all the same.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from ucspid.observe.pseudonyms import Pseudonyms
from ucspid.policy.client_facts import ClientFacts
from ucspid.tools.messages import reason

NOT_A_PROCESS = 1 << 22
"""Numbers above this one are given to no process: PID_MAX_LIMIT of Linux, proc(5)."""

MAX_FIELD = 100
"""Bytes of a field; of one that is as long, or longer, this is the beginning."""

DENIED = 100 << 8
DROPPED = 111 << 8
"""Wait statuses of tcpserver's own process for a connection: a rule denied it; something was lacking."""

NOTHING, WARNINGS, ALL = range(3)
LEVELS = {"debug": ALL, "info": ALL, "warning": WARNINGS, "error": WARNINGS, "none": NOTHING}

_SAFE = bytes(byte if 33 <= byte <= 126 and byte not in b"%:" else ord("?") for byte in range(256))  # noqa: PLR2004
_DROPPING = b"tcpserver: warning: dropping connection, "


class LoggedEnds(NamedTuple):
    """The two ends of a connection, with what is known of them."""

    local: tuple[str, int]
    remote: tuple[str, int]
    found: ClientFacts


class Transcript:
    """Writes the lines."""

    def __init__(
        self, put: Callable[[bytes], None], level: str, pseudonyms: Pseudonyms | None = None
    ) -> None:
        """Write with put(), from a level of the log on; pseudonyms are shown in place of addresses."""
        self._put = put
        self._pseudonyms = pseudonyms
        self._alone = False
        self._numbers = itertools.count(NOT_A_PROCESS + 1)
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write from this level of the log on."""
        self._level = LEVELS[level]

    def go_on_alone(self) -> None:
        """Say only what a connection's own process would: tcpserver is gone, which says status and end."""
        self._alone = True

    def _status(self, live: int, limit: int) -> bytes:
        return b"" if self._alone else b"tcpserver: status: %d/%d\n" % (live, limit)

    def _end(self, pid: int, status: int) -> bytes:
        return b"" if self._alone else b"tcpserver: end %d status %d\n" % (pid, status)

    @property
    def logs_connections(self) -> bool:
        """Whether there are lines for connections that go well."""
        return self._level == ALL

    def status(self, live: int, limit: int) -> None:
        """Say how many connections of a service there are, and how many there may be."""
        if self._level == ALL:
            self._put(self._status(live, limit))

    def started(self, pid: int, ends: LoggedEnds | None) -> None:
        """Say that a program runs for a client."""
        if self._level == ALL and ends is not None:
            self._put(self._pid(pid, ends) + self._verdict(b"ok", pid, ends))

    def ended(self, pid: int, status: int, live: int, limit: int) -> None:
        """Say that a program has ended, with its wait status; so many connections are left."""
        if self._level == ALL:
            self._put(self._end(pid, status) + self._status(live, limit))

    def not_started(
        self, pid: int, ends: LoggedEnds | None, program: str, number: int, places: tuple[int, int]
    ) -> None:
        """Say that a program could not be started: an errno. pid is 0 if it had no process.

        places are the connections that are left, and how many there may be.
        """
        lines = b""
        if self._level == ALL and ends is not None:
            pid = pid or next(self._numbers)
            lines = self._pid(pid, ends) + self._verdict(b"ok", pid, ends)
        if self._level >= WARNINGS:
            name = program.encode("utf-8", "surrogateescape")
            lines += _DROPPING + b"unable to run %b: %b\n" % (name, _why(number))
        if self._level == ALL:
            lines += self._end(pid, DROPPED) + self._status(*places)
        if lines:
            self._put(lines)

    def refused(self, ends: LoggedEnds, note: str, places: tuple[int, int]) -> None:
        """Say that a client got no program: a rule denied it, or what note says."""
        if self._level == ALL:
            live, limit = places
            pid = next(self._numbers)
            self._put(
                self._status(min(live + 1, limit), limit)
                + self._pid(pid, ends)
                + self._verdict(b"deny", pid, ends, f" {note}".encode() if note else b"")
                + self._end(pid, DENIED)
                + self._status(live, limit)
            )

    def unreadable(self, ends: LoggedEnds, file: str, number: int, places: tuple[int, int]) -> None:
        """Say that a client got no program since its rules cannot be read: an errno."""
        lines = (
            _DROPPING
            + b"unable to read %b: %b\n" % (file.encode("utf-8", "surrogateescape"), _why(number))
        )  # fmt: skip
        if self._level == ALL:
            live, limit = places
            pid = next(self._numbers)
            lines = self._status(min(live + 1, limit), limit) + self._pid(pid, ends) + lines
            lines += self._end(pid, DROPPED) + self._status(live, limit)
        if self._level >= WARNINGS:
            self._put(lines)

    def _pid(self, pid: int, ends: LoggedEnds) -> bytes:
        return b"tcpserver: pid %d from %b\n" % (pid, self._shown(ends))

    def _shown(self, ends: LoggedEnds) -> bytes:
        ip = ends.remote[0]
        return (ip if self._pseudonyms is None else self._pseudonyms.of_address(ip)).encode()

    def _verdict(self, verdict: bytes, pid: int, ends: LoggedEnds, note: bytes = b"") -> bytes:
        (local_ip, local_port), (_ip, port), found = ends
        host = found.remote_host if self._pseudonyms is None else b""  # names tell addresses
        return b"tcpserver: %b %d %b:%b:%d %b:%b:%b:%d%b\n" % (
            verdict, pid,
            _field(found.local_host), local_ip.encode(), local_port,
            _field(host), self._shown(ends), _field(found.info), port,
            note,
        )  # fmt: skip


def _field(value: bytes | None) -> bytes:
    """Return a name as one field, without what could be taken for the end of it."""
    if value is None:
        return b""
    safe = value[:MAX_FIELD].translate(_SAFE)
    return safe + b"..." if len(value) >= MAX_FIELD else safe


def _why(number: int) -> bytes:
    return reason(OSError(number, ""))
