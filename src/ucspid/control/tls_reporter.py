"""What TLS processes report of sessions, as events."""

from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.observe import events

HOW = ("closed", "truncated", "vanished", "broken")
"""How a connection has ended, see tls.relay.PeerEnd."""


class TlsReporter:
    """Logs it; silent() has the master look whether a process, by its number, hangs."""

    def __init__(self, log: FilteringBoundLogger, silent: Callable[[int], None]) -> None:
        """Use a log."""
        self._log = log
        self.silent = silent

    def secured_later(self, secured: wire.Secured) -> None:
        """Log that a session has gone over to TLS, at its program's request."""
        events.tls_started(self._log, secured.connection, secured.version, secured.cipher, secured.sni)

    def not_secured_later(self, failed: wire.NotSecured) -> None:
        """Log that a session's program has asked for TLS, and that there is none."""
        events.tls_not_started(self._log, failed.connection, failed.reason)

    def ended(self, end: wire.SecureEnd) -> None:
        """Log that a TLS connection has not ended well."""
        how = HOW[end.end] if end.end < len(HOW) else str(end.end)
        events.tls_ended(self._log, end.connection, how, end.received, end.sent, end.reason)

    def process_broken(self, number: int, problem: WireError) -> None:
        """Log that a process has sent what none sends."""
        events.tls_process_broken(self._log, number, str(problem))
