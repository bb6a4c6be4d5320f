"""Reports certificates that are about to expire: in time, once each, without looking now and then."""

import time
from collections.abc import Callable, Iterable

from ucspid.master import events
from ucspid.master.event_log import EventLog
from ucspid.master.poller import Poller, Timer
from ucspid.tls.report import SeenCertificate

DAY = 86400.0
DAYS = (14, 3)
"""Days before the end of a certificate at which that is reported."""


class Expiries:
    """The certificates in force, by their fingerprints."""

    def __init__(self, poller: Poller, log: EventLog, now: Callable[[], float] = time.time) -> None:
        """Begin without any; now() returns the time in seconds since 1970."""
        self._poller = poller
        self._log = log
        self._now = now
        self._certificates: tuple[SeenCertificate, ...] = ()
        self._reported: set[tuple[str, int]] = set()
        """Fingerprints and days for which there was an event."""
        self._timer: Timer | None = None

    def set(self, certificates: Iterable[SeenCertificate]) -> None:
        """Have these in force from now on."""
        self._certificates = tuple(certificates)
        there = {certificate.fingerprint for certificate in self._certificates}
        self._reported = {(which, days) for which, days in self._reported if which in there}
        self._report()

    def cancel(self) -> None:
        """Report nothing until certificates are set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self) -> None:
        """Report what is due, of one certificate only the latest; wait for what comes next."""
        self.cancel()
        now = self._now()
        ahead = []
        for certificate in self._certificates:
            due = [days for days in DAYS if certificate.not_after - days * DAY <= now]
            new = {(certificate.fingerprint, days) for days in due} - self._reported
            if new:
                self._reported |= new
                events.certificate_expiring(
                    self._log, certificate, max(0.0, certificate.not_after - now) / DAY
                )
            ahead += [certificate.not_after - days * DAY for days in DAYS if days not in due]
        if ahead:
            self._timer = self._poller.call_in(max(0.0, min(ahead) - now), self._report)
