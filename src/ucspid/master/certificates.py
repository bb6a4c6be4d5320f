"""Follows the files of certificates: what has changed is read again, and is in force without a reload.

Files are looked at by a process of its own, which has them watched first and says which names matter. The
master reads only the events of the watches: it neither looks at a file nor sees a key.
"""

import contextlib
import json
import os
from collections.abc import Callable
from functools import partial

from ucspid import plain
from ucspid.errors import ResourceError
from ucspid.linux.fd_limit import why
from ucspid.master import events, roles
from ucspid.master.certificate_watch import CertificateWatch
from ucspid.master.children import Children
from ucspid.master.event_log import EventLog
from ucspid.master.expiries import Expiries
from ucspid.master.held_tls import TlsHoldings
from ucspid.master.job import Job, JobOutcome
from ucspid.master.loop_orders import SendOrder, send_expiries
from ucspid.master.poller import Poller, Timer
from ucspid.master.reader import new_material
from ucspid.plan import Plan, TlsContext
from ucspid.policy.exit_status import in_words
from ucspid.tls.report import CertificatesReport

AGAIN = 1.0
"""Seconds after which wrong files are looked at again before that is reported: one may be half written."""
POLLING = 60.0
"""Seconds between looks at what cannot be watched, and after a look that failed."""
TIMEOUT = 30.0
"""Seconds that a look may take."""


class CertificateFollower:
    """Looks at the certificates of the plan in force: once it is in force, and after each change."""

    def __init__(
        self,
        children: Children,
        poller: Poller,
        log: EventLog,
        held: TlsHoldings,
        renew: Callable[[int], None],
        send: SendOrder,
    ) -> None:
        """Follow nothing yet.

        held has the material in force; renew() puts other material in force, whose descriptor is its own
        from then on; send() sends the event loop an order.
        """
        self._children = children
        self._poller = poller
        self._log = log
        self._held = held
        self._renew = renew
        self._send = send
        self._expiries = Expiries(poller, log)
        self._watch = CertificateWatch(poller, self._changed)
        self._contexts: dict[TlsContext, list[str]] = {}
        """Those of the plan, and the services that have each."""
        self._job: Job | None = None
        self._descriptors: list[int] = []
        """Of the look under way: for what is found, and the settings."""
        self._timer: Timer | None = None
        """For the next look."""
        self._wrong = False
        """Whether the last look found something wrong."""
        self._reported: tuple[str, ...] = ()
        self._loaded: frozenset[str] = frozenset()
        """Fingerprints of the certificates in force."""
        self._unwatched: str | None = None

    def follow(self, plan: Plan) -> None:
        """Follow the certificates of the plan that is in force from now on."""
        self.cancel()
        self._contexts = {}
        for service in plan.services:
            if service.tls is not None:
                self._contexts.setdefault(service.tls.context, []).append(service.name)
        if self._contexts:
            self._look()
        else:
            self._loaded = frozenset()
            self._show({})

    def cancel(self) -> None:
        """Follow nothing any more."""
        self._stop_timer()
        self._watch.close()
        self._expiries.cancel()
        if self._job is not None:
            self._job.cancel()
            self._end_of_look()

    def _changed(self) -> None:
        self._wrong = False
        self._look()

    def _look(self) -> None:
        """Begin a look, with watches of its own: those of the one before are not needed once it has begun."""
        self._stop_timer()
        try:
            self._job = self._start()
        except ResourceError as problem:
            self._not_possible(problem)

    def _start(self) -> Job:
        try:
            self._watch.begin()
        except OSError as problem:
            self._not_watched(f"no inotify: {why(problem)}")
        for _ in range(2):
            self._descriptors.append(new_material())
        material, contexts = self._descriptors
        try:
            os.pwrite(contexts, plain.to_json(tuple(self._contexts)).encode(), 0)
        except OSError as problem:
            raise ResourceError(f"cannot allocate memory for their settings: {why(problem)}") from None
        start = partial(
            roles.start_certificate_reader, contexts, self._held.material, material, self._watch.fileno()
        )
        return Job(start, "a reader of certificates", self._children, self._poller, TIMEOUT, self._done)

    def _done(self, outcome: JobOutcome) -> None:
        try:
            report = _report(outcome)
        except ResourceError as problem:
            self._not_possible(problem)
            return
        material = self._descriptors.pop(0) if report.changed else -1
        self._end_of_look()
        self._watch.wait(report.watches)
        if self._watch.fileno() is not None:
            self._not_watched(report.unwatched)
        if self._unwatched is not None:
            self._look_in(POLLING)
        self._take(report, material)

    def _end_of_look(self) -> None:
        self._job = None
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _not_possible(self, problem: ResourceError) -> None:
        self._end_of_look()
        self._report((str(problem),))
        self._look_in(POLLING)

    def _take(self, report: CertificatesReport, material: int) -> None:
        """Have what is found in force, if it is different; what is wrong is looked at once more."""
        if report.problems:
            if self._wrong:
                self._report(report.problems)
            else:
                self._wrong = True
                self._look_in(AGAIN)
            return
        self._wrong, self._reported = False, ()
        loaded = frozenset(certificate.fingerprint for certificate in report.certificates)
        if report.changed:
            self._renew(material)
        if report.changed or loaded != self._loaded:
            events.certificates_loaded(self._log, report.certificates)
        self._loaded = loaded
        self._expiries.set(report.certificates)
        ends = zip(self._contexts.values(), report.not_after, strict=False)
        self._show({name: at for names, at in ends if at is not None for name in names})

    def _show(self, ends: dict[str, float]) -> None:
        """Have the status show when the first certificate of each service ends."""
        if ends != self._held.ends:
            self._held.ends = ends
            with contextlib.suppress(OSError):  # without memory: it is sent with the next plan, too
                send_expiries(self._send, ends)

    def _report(self, problems: tuple[str, ...]) -> None:
        """Log what is wrong, once for as long as it is the same."""
        if problems != self._reported:
            self._reported = problems
            events.certificates_failed(self._log, problems)

    def _not_watched(self, reason: str | None) -> None:
        if reason is not None and self._unwatched is None:
            events.certificates_not_watched(self._log, reason, POLLING)
        self._unwatched = reason

    def _look_in(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._poller.call_in(seconds, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _report(outcome: JobOutcome) -> CertificatesReport:
    """Return what a look has found. Raises ResourceError if it has found nothing."""
    if outcome.hung_at is not None:
        where = f": it hangs at {outcome.hung_at}" if outcome.hung_at else ""
        raise ResourceError(f"they could not be read within {TIMEOUT:g} s{where}")
    if outcome.code != 0:
        raise ResourceError(f"they could not be read: {outcome.errors or in_words(outcome.code)}")
    try:
        return plain.read(CertificatesReport, json.loads(outcome.output))
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        raise ResourceError(f"they could not be read: the reader returned no report ({problem})") from None
