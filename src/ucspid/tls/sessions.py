"""All connections of a TLS process, each with its turn: those that are established before handshakes.

A handshake with an RSA key takes a millisecond of CPU, and anybody may ask for as many as they like. So in
each round, those that are established are served first, and then as many handshakes as go into
HANDSHAKE_TIME, at least one.
"""

import heapq
import itertools
import select
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from ucspid.tls.session import TlsPhase, TlsSession

HANDSHAKE_TIME = 0.001
"""Seconds that handshakes may take in a round."""

MAX_EVENTS = 256

MAX_LINGERING = 1000
"""Connections whose program has ended, and which nothing else bounds; over it the first is ended."""


class TlsSessions:
    """The connections, and what is waited for."""

    def __init__(self, handshaking: Callable[[TlsSession], None]) -> None:
        """Begin with none; handshaking() is called before each step of a handshake."""
        self._handshaking = handshaking
        self._poll = select.epoll()
        self._others: dict[int, Callable[[], object]] = {}
        self._sessions: dict[int, TlsSession] = {}
        """Who waits for a descriptor."""
        self._masks: dict[int, int] = {}
        self._live: dict[int, TlsSession] = {}
        self._numbers = itertools.count(1)
        self._again: list[TlsSession] = []
        self._handshakes: dict[int, TlsSession] = {}
        """Those that may do a step of their handshakes now, in the order in which they could."""
        self._lingering: dict[int, TlsSession] = {}
        """Those whose program has ended, the first first."""
        self._deadlines: list[tuple[float, int]] = []
        """Times, and numbers of sessions, of which some have ended meanwhile."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._live)

    def watch(self, sock: socket.socket, readable: Callable[[], object]) -> None:
        """Call readable() when there is something to read, in each round before the sessions' turns."""
        self._others[sock.fileno()] = readable
        self._masks[sock.fileno()] = select.EPOLLIN
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def expect(self, sock: socket.socket, *, reading: bool, writing: bool) -> None:
        """Call what watch() was given when there is something to read, room to write, or neither."""
        mask = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0)
        if self._masks[sock.fileno()] != mask:
            self._masks[sock.fileno()] = mask
            self._poll.modify(sock.fileno(), mask)

    def forget(self, sock: socket.socket) -> None:
        """Watch a socket no longer."""
        del self._others[sock.fileno()], self._masks[sock.fileno()]
        self._poll.unregister(sock.fileno())

    def add(self, session: TlsSession) -> None:
        """Take a new one, which has its first turn in the next round."""
        session.number = next(self._numbers)
        self._live[session.number] = session
        if session.phase is TlsPhase.COMMAND:
            self._wait(session)
        else:
            self._note_deadline(session)
            self._handshakes[session.number] = session

    def run_once(self, *, wait: bool = True) -> None:
        """Do one round: what is ready now, or, if nothing is, what is ready next."""
        now = time.monotonic()
        ready: dict[TlsSession, list[int]] = {session: [] for session in self._again}
        self._again = []
        for descriptor, _events in self._poll.poll(self._patience(now, wait=wait), MAX_EVENTS):
            if descriptor in self._others:
                self._others[descriptor]()
            elif (session := self._sessions.get(descriptor)) is not None:
                ready.setdefault(session, []).append(descriptor)
        for session, descriptors in ready.items():
            if session.phase is TlsPhase.HANDSHAKE:
                self._handshakes[session.number] = session
            else:
                self._turn(session, descriptors)
        self._shake_hands()
        self._end_late()

    def _patience(self, now: float, *, wait: bool) -> float:
        if self._again or self._handshakes or not wait:
            return 0.0
        return max(0.0, self._deadlines[0][0] - now) if self._deadlines else -1.0

    def _shake_hands(self) -> None:
        if not self._handshakes:
            return
        end = time.monotonic() + HANDSHAKE_TIME
        for number in list(self._handshakes):
            self._turn(self._handshakes.pop(number), ())
            if time.monotonic() >= end:
                break

    def _turn(self, session: TlsSession, ready: Collection[int]) -> None:
        if session.number not in self._live:
            return
        before = session.deadline
        if session.phase is TlsPhase.HANDSHAKE:
            self._handshaking(session)
        again = False
        if session.phase is not TlsPhase.OVER:
            try:
                again = session.turn(time.monotonic(), ready)
            except Exception as bug:  # noqa: BLE001 - it ends this connection, and no other
                session.fail(bug)
        if session.phase is TlsPhase.OVER:
            self._end(session)
            return
        if session.deadline != before:
            self._note_deadline(session)
        self._wait(session)
        if again:
            self._again.append(session)
        if session.lingers:
            self._let_linger(session)

    def _let_linger(self, session: TlsSession) -> None:
        self._lingering.setdefault(session.number, session)
        if len(self._lingering) > MAX_LINGERING:
            first = next(iter(self._lingering.values()))
            first.cut_short()
            self._end(first)

    def _wait(self, session: TlsSession) -> None:
        masks = self._masks
        for descriptor, mask in session.wants():
            before = masks.get(descriptor, 0)
            if mask == before:
                continue
            if not mask:
                self._poll.unregister(descriptor)
                del masks[descriptor], self._sessions[descriptor]
                continue
            if not before:
                self._poll.register(descriptor, mask)
                self._sessions[descriptor] = session
            else:
                self._poll.modify(descriptor, mask)
            masks[descriptor] = mask

    def _end(self, session: TlsSession) -> None:
        for sock in session.sockets():
            descriptor = sock.fileno()
            if self._masks.pop(descriptor, None) is not None:
                del self._sessions[descriptor]
                self._poll.unregister(descriptor)
        session.close()
        for those in (self._live, self._handshakes, self._lingering):
            those.pop(session.number, None)

    def _note_deadline(self, session: TlsSession) -> None:
        if session.deadline is not None:
            heapq.heappush(self._deadlines, (session.deadline, session.number))

    def _end_late(self) -> None:
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            due, number = heapq.heappop(self._deadlines)
            session = self._live.get(number)
            if session is None or session.deadline != due:
                continue
            session.late(now)
            if session.phase is TlsPhase.OVER:
                self._end(session)
            else:
                self._note_deadline(session)

    def close(self) -> None:
        """End all, and wait for nothing any more."""
        for session in list(self._live.values()):
            self._end(session)
        with suppress(OSError):
            self._poll.close()
