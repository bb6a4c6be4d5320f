"""What a client's relay does after the handshake: it copies until both sides have ended, and no longer."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ucspid.tls.relay import Relay

LINGER = 30.0
"""Seconds that a server may take for the next piece of what a program has sent last, or for its own end."""
MAX_DRAINED = 32
"""Pieces that are still taken from a server that has been sent everything, when nobody reads them."""


class Copying:
    """The copying of one relay."""

    def __init__(self, relay: Relay, report: Callable[[bool], None], linger: float = LINGER) -> None:
        """Begin after a handshake.

        report is called when the server's data have ended, with whether the program was gone before.
        """
        self._relay = relay
        self._report = report
        self._linger = linger
        self._deadline: float | None = None
        """When the server's time is up, once it is waited for alone."""
        self._unsent = -1
        """Bytes for the server when the deadline was set."""
        self._drained = 0
        """The relay's progress then."""

    def run(self) -> None:
        """Copy to the end: of both sides, of the connection, or of the time that a server has for it."""
        relay = self._relay
        client, program = relay.client.sock.fileno(), relay.program.sock.fileno()
        found, again = {client, program}, True
        reported = gone = False
        while True:
            if relay.end is not None and not reported:
                reported = True
                self._report(gone)
            if relay.done or self._has_had_enough():
                return
            if not again:
                found = ready(relay, self._seconds())
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return
            gone = relay.program.gone
            again = relay.turn(client=client in found, program=program in found)

    def _seconds(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _has_had_enough(self) -> bool:
        """Return whether a server sends on and nobody reads; give it time while it takes something."""
        if not self._relay.alone:
            return False
        client = self._relay.client
        unsent = len(client.unsent)
        if unsent != self._unsent:
            self._unsent, self._drained = unsent, client.progress
            self._deadline = time.monotonic() + self._linger
        return not unsent and client.progress - self._drained > MAX_DRAINED


def ready(relay: Relay, seconds: float | None) -> set[int]:
    """Wait for what a relay wants; return the descriptors that are ready."""
    poll = select.poll()
    client, program = relay.wants()
    if client:
        poll.register(relay.client.sock, client)
    if program:
        poll.register(relay.program.sock, program)
    return {descriptor for descriptor, _events in poll.poll(None if seconds is None else seconds * 1000)}
