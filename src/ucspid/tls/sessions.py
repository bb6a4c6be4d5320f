"""All connections of a TLS process, each with its turn: those that are established before handshakes.

A step of a handshake with an RSA key takes a millisecond of CPU, and anybody may ask for as many as they
like. So those that are established are served before each step. Where they have taken time themselves, steps
follow one another for as long, HANDSHAKE_TIME at most, so that neither waits for the other for long.
"""

import heapq
import itertools
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from ucspid.tls.session import CLIENT, PROGRAM, TlsPhase, TlsSession

HANDSHAKE_TIME = 0.001
"""Seconds that handshakes may take in a round, if those that are established took as long."""

MAX_EVENTS = 256

MAX_STEPS = 64
"""Steps of handshakes in a round."""

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
        patience, sessions = self._patience(wait=wait), self._sessions
        due, self._again = self._again, []
        for descriptor, _events in self._poll.poll(patience, MAX_EVENTS):
            session = sessions.get(descriptor)
            if session is None:
                if (other := self._others.get(descriptor)) is not None:
                    other()
            elif session.phase is TlsPhase.HANDSHAKE:
                session.heard()
                self._handshakes[session.number] = session
            else:
                if not session.ready:
                    due.append(session)
                session.ready |= CLIENT if descriptor == session.descriptors[0] else PROGRAM
        now = begun = time.monotonic()
        for session in due:
            self._turn(session, now)
        if self._handshakes:
            now = self._shake_hands(begun)
        if self._deadlines and self._deadlines[0][0] <= now:
            self._end_late(now)

    def _patience(self, *, wait: bool) -> float:
        if self._again or self._handshakes or not wait:
            return 0.0
        return max(0.0, self._deadlines[0][0] - time.monotonic()) if self._deadlines else -1.0

    def _shake_hands(self, begun: float) -> float:
        """Do a step of a handshake, or as many as take the time since begun; return what time it is."""
        now = time.monotonic()
        end = now + min(now - begun, HANDSHAKE_TIME)
        for number in list(itertools.islice(self._handshakes, MAX_STEPS)):
            session = self._handshakes.pop(number)
            self._handshaking(session)
            self._turn(session, now)
            now = time.monotonic()
            if now >= end:
                break
        return now

    def _turn(self, session: TlsSession, now: float) -> None:
        if session.number not in self._live:
            return
        before, again = session.deadline, False
        if session.phase is not TlsPhase.OVER:
            try:
                again = session.turn(now)
            except Exception as bug:  # noqa: BLE001 - it ends this connection, and no other
                session.fail(bug)
        if session.phase is TlsPhase.OVER:
            self._end(session)
            return
        if session.deadline != before:
            self._note_deadline(session)
        self._wait(session)
        if again and session.phase is TlsPhase.HANDSHAKE:
            self._handshakes[session.number] = session
        elif again:
            session.ready = CLIENT | PROGRAM
            self._again.append(session)
        if session.deadline is not None and session.lingers:
            self._let_linger(session)

    def _let_linger(self, session: TlsSession) -> None:
        self._lingering.setdefault(session.number, session)
        if len(self._lingering) > MAX_LINGERING:
            first = next(iter(self._lingering.values()))
            first.cut_short()
            self._end(first)

    def _wait(self, session: TlsSession) -> None:
        masks = session.wants()
        if masks != session.masks:
            self._change(session, masks)

    def _change(self, session: TlsSession, masks: tuple[int, ...]) -> None:
        for descriptor, mask, before in zip(session.descriptors, masks, session.masks, strict=True):
            if mask == before:
                continue
            if not mask:
                self._poll.unregister(descriptor)
                del self._sessions[descriptor]
            elif not before:
                self._poll.register(descriptor, mask)
                self._sessions[descriptor] = session
            else:
                self._poll.modify(descriptor, mask)
        session.masks = masks

    def _end(self, session: TlsSession) -> None:
        self._change(session, (0,) * len(session.masks))
        session.close()
        for those in (self._live, self._handshakes, self._lingering):
            those.pop(session.number, None)

    def _note_deadline(self, session: TlsSession) -> None:
        if session.deadline is not None:
            heapq.heappush(self._deadlines, (session.deadline, session.number))

    def _end_late(self, now: float) -> None:
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
