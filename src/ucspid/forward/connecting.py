"""Connecting to the first target that answers."""

import _socket
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ucspid.forward.race import Race
from ucspid.forward.targets import Destination, alternating

MAX_ADDRESSES = 16
"""Of one name; further ones are not tried."""

_TIME = struct.Struct("@qq")
_MICROSECONDS = 1_000_000


class Candidate(NamedTuple):
    """An address of a target to try; family is AF_INET, AF_INET6 or AF_UNIX."""

    target: Destination
    family: int
    address: tuple[Any, ...] | str

    def __str__(self) -> str:
        """Return the target, and beside a name which of its addresses it is."""
        if isinstance(self.address, str) or self.address[0] == self.target.host:
            return str(self.target)
        return f"{self.target} [{self.address[0]}]"


class Connected(NamedTuple):
    """The socket of the target that has answered; it does not block."""

    sock: socket.socket
    candidate: Candidate


class NobodyAnswersError(Exception):
    """No target could be connected to; str() says of each why."""


def connect(targets: Sequence[Destination], timeout: float) -> Connected:
    """Return a connection to the first of the targets that answers. Raises NobodyAnswersError.

    Names are resolved when their turn comes: that may block for as long as name servers are waited for, and
    is not counted as time of the attempts.
    """
    attempts = _Attempts(targets, timeout)
    try:
        while (connected := attempts.turn()) is None:
            pass
    finally:
        attempts.close()
    return connected


class _Attempts:
    """Attempts that are under way, and why others have failed."""

    def __init__(self, targets: Sequence[Destination], timeout: float) -> None:
        self._timeout = timeout
        self._race = Race(time.monotonic(), timeout)
        self._last = targets[-1]
        self._candidates = self._resolved(targets)
        self._more = True
        """Whether there may be addresses that were not tried."""
        self._running: dict[int, Connected] = {}
        self._poll = select.poll()
        self._failures: list[str] = []

    def close(self) -> None:
        """Close the sockets of those that have not won."""
        for attempt in self._running.values():
            attempt.sock.close()

    def turn(self) -> Connected | None:
        """Begin the next attempt if it is due, or wait; return the one that has succeeded."""
        now = time.monotonic()
        if self._more and self._race.is_due(now):
            candidate = next(self._candidates, None)
            self._more = candidate is not None
            return None if candidate is None else self._begin(candidate)
        if self._race.is_over(now) or not self._running:
            slow = (
                f"{each.candidate}: no answer within {self._timeout:g} s" for each in self._running.values()
            )
            raise NobodyAnswersError("; ".join([*self._failures, *slow]) or "no time to connect")
        # A millisecond more, as poll(2) would return too early otherwise.
        seconds = self._race.patience(now, more=self._more)
        for descriptor, _events in self._poll.poll(seconds * 1000 + 1):
            won = self._ended(descriptor)
            if won is not None:
                return won
        return None

    def _begin(self, candidate: Candidate) -> Connected | None:
        """Try an address; return what has succeeded at once."""
        now = time.monotonic()
        self._race.begun(now)
        try:
            sock = socket.socket(candidate.family, socket.SOCK_STREAM)
        except OSError as problem:
            self._fails(candidate, problem.errno)
            return None
        if candidate.family == socket.AF_UNIX:
            # It is the call that waits until the listener has room, and not the kernel as with the others.
            seconds = self._race.patience(now, more=candidate.target is not self._last)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))
        else:
            sock.setblocking(False)
        attempt = Connected(sock, candidate)
        failure = sock.connect_ex(candidate.address)
        if failure == errno.EINPROGRESS:
            self._running[sock.fileno()] = attempt
            self._poll.register(sock.fileno(), select.POLLOUT)
            return None
        return self._judge(attempt, failure)

    def _ended(self, descriptor: int) -> Connected | None:
        self._poll.unregister(descriptor)
        attempt = self._running.pop(descriptor)
        return self._judge(attempt, attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _judge(self, attempt: Connected, failure: int) -> Connected | None:
        sock, candidate = attempt
        if not failure:
            _prepare(sock, candidate.family)
            return attempt
        sock.close()
        self._fails(candidate, errno.ETIMEDOUT if failure == errno.EAGAIN else failure)
        return None

    def _fails(self, candidate: Candidate, number: int | None) -> None:
        self._race.failed(time.monotonic())
        self._failures.append(f"{candidate}: {os.strerror(number or 0)}")

    def _resolved(self, targets: Sequence[Destination]) -> Iterator[Candidate]:
        """Yield the addresses to try, each target's when the one before has no more."""
        for target in targets:
            if not target.port:
                abstract = target.host.startswith("@")
                yield Candidate(target, socket.AF_UNIX, f"\0{target.host[1:]}" if abstract else target.host)
                continue
            began = time.monotonic()
            found: list[tuple[int, tuple[Any, ...]]] = []
            try:
                found = _addresses(target)
            except OSError as problem:
                self._failures.append(f"{target}: {problem.strerror}")
            self._race.held_up(time.monotonic() - began)
            for family, address in found:
                yield Candidate(target, family, address)


def _addresses(target: Destination) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the addresses of a target, with their families. Raises OSError.

    Given a text and not bytes, Python would load what it takes to encode international names.
    """
    host, port = target
    if ":" in host or host.rpartition(".")[2].isdecimal():  # it is an address
        return [(_socket.AF_INET6 if ":" in host else _socket.AF_INET, (host, port))]
    found = _socket.getaddrinfo(host.encode(), port, 0, _socket.SOCK_STREAM)
    addresses: list[tuple[int, tuple[Any, ...]]] = [
        (family, address) for family, _type, _protocol, _name, address in found
    ]
    return alternating(addresses[:MAX_ADDRESSES])


def _prepare(sock: socket.socket, family: int) -> None:
    sock.setblocking(False)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _timeval(seconds: float) -> bytes:
    """Return a struct timeval that is not zero: that would be no limit at all."""
    return _TIME.pack(int(seconds), max(1, int(seconds % 1 * _MICROSECONDS)))
