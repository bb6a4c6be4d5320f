"""The events of the master: one function each. The loop writes them, docs/log.md describes them."""

import time
from collections.abc import Sequence

from ucspid import __version__
from ucspid.errors import UcspidError
from ucspid.master.event_log import EventLog
from ucspid.master.listener_table import Completed
from ucspid.policy.exit_status import exit_code, how_ended
from ucspid.tls.report import SeenCertificate

MAX_LISTED = 20
"""Names of certificates in one event."""


def started(log: EventLog, changes: list[str]) -> None:
    """The daemon serves for the first time."""
    log.info("started", changes=changes)


def earlier_processes(log: EventLog, count: int) -> None:
    """Processes of a master that was killed still run: its sessions."""
    log.warning("earlier_processes", count=count)


def reloaded(log: EventLog, changes: list[str]) -> None:
    """The loop serves another plan than before."""
    log.info("reloaded", changes=changes)


def reload_failed(log: EventLog, problem: UcspidError) -> None:
    """The previous plan stays in force."""
    log.error("reload_failed", reason=str(problem))


def reload_overdue(log: EventLog, reason: str) -> None:
    """The new plan is in force, and no loop serves it yet."""
    log.error("reload_overdue", reason=reason)


def programs_renewed(log: EventLog, services: list[str]) -> None:
    """Preloaded programs have changed, and new connections run them as they are now."""
    log.info("programs_renewed", services=services)


def programs_not_renewed(log: EventLog, services: list[str], problem: UcspidError) -> None:
    """Preloaded programs have changed; new connections run them as they were."""
    log.error("programs_not_renewed", services=services, reason=str(problem))


def upgraded(log: EventLog, before: str, changes: list[str]) -> None:
    """The daemon goes on as another version."""
    log.info("upgraded", before=before, version=__version__, changes=changes)


def upgrade_failed(log: EventLog, problem: UcspidError, before: str | None = None) -> None:
    """The daemon goes on as before; if before is given, loop and launchers are still of that version."""
    of_before = {} if before is None else {"before": before}
    log.error("upgrade_failed", version=__version__, **of_before, reason=str(problem))


def listener_completed(log: EventLog, completed: Completed) -> None:
    """A socket that was passed for a listener of both families is for one only; the other was bound."""
    log.warning(
        "listener_completed",
        service=completed.service,
        listener=str(completed.address),
        passed=str(completed.passed),
        bound=str(completed.bound),
    )


def passed_socket_closed(log: EventLog, listener: str) -> None:
    """The service manager has passed a socket that no service has."""
    log.warning("passed_socket_closed", listener=listener)


def loop_died(log: EventLog, pid: int, status: int, restart_in: float) -> None:
    """A process of the loop died."""
    how = how_ended(exit_code(status))
    log.error("process_died", role="loop", pid=pid, **how, restart_in=restart_in)


def tls_died(log: EventLog, pid: int, status: int, restart_in: float | None) -> None:
    """A TLS process died, and its connections with it; another follows, unless it was to exit anyway."""
    log.error("process_died", role="tls", pid=pid, **how_ended(exit_code(status)), restart_in=restart_in)


def tls_not_started(log: EventLog, reason: str, restart_in: float) -> None:
    """A TLS process cannot be started again for now."""
    log.error("process_not_started", role="tls", reason=reason, restart_in=restart_in)


def tls_broken(log: EventLog, pid: int, reason: str) -> None:
    """A TLS process has sent what none sends, or does not answer, and was killed."""
    log.error("tls_broken", pid=pid, reason=reason)


def certificates_refused(log: EventLog, reason: str) -> None:
    """A TLS process cannot use certificates that were renewed; it goes on with the previous ones."""
    log.error("certificates_refused", reason=reason)


def web_died(log: EventLog, pid: int, status: int, restart_in: float) -> None:
    """The process with metrics and the status page died."""
    how = how_ended(exit_code(status))
    log.error("process_died", role="web", pid=pid, **how, restart_in=restart_in)


def web_not_started(log: EventLog, reason: str, restart_in: float) -> None:
    """The system refused to start it."""
    log.error("process_not_started", role="web", reason=reason, restart_in=restart_in)


def launcher_died(
    log: EventLog, launcher: int, pid: int, status: int, restart_in: float, orphans: int
) -> None:
    """A launcher died; its programs go on."""
    how = how_ended(exit_code(status))
    log.error(
        "process_died",
        role="launcher",
        launcher=launcher,
        pid=pid,
        **how,
        restart_in=restart_in,
        orphans=orphans,
    )


def loop_not_started(log: EventLog, reason: str, restart_in: float) -> None:
    """The system refused to start a process of the loop."""
    log.error("process_not_started", role="loop", reason=reason, restart_in=restart_in)


def launcher_not_started(log: EventLog, reason: str) -> None:
    """The system refused to start another launcher."""
    log.error("process_not_started", role="launcher", reason=reason)


def launcher_not_restarted(log: EventLog, launcher: int, reason: str, restart_in: float) -> None:
    """The system refused to start a launcher again."""
    log.error("process_not_started", role="launcher", launcher=launcher, reason=reason, restart_in=restart_in)


def launcher_refused(log: EventLog, services: str, reason: str) -> None:
    """A launcher could not take its privileges again, or import its program."""
    log.error("launcher_refused", services=services, reason=reason)


def launcher_broken(log: EventLog, launcher: int, reason: str) -> None:
    """A launcher sent what none sends."""
    log.error("launcher_broken", launcher=launcher, reason=reason)


def loop_broken(log: EventLog, reason: str) -> None:
    """A process of the loop sent nonsense, did not answer in time, or could not be sent what it needs."""
    log.error("loop_broken", reason=reason)


def certificates_loaded(log: EventLog, certificates: Sequence[SeenCertificate]) -> None:
    """Certificates are in force that were not before."""
    names = sorted({name for certificate in certificates for name in certificate.names})
    more = {"more": len(names) - MAX_LISTED} if len(names) > MAX_LISTED else {}
    earliest = min((certificate.not_after for certificate in certificates), default=None)
    until = {} if earliest is None else {"not_after": utc(earliest)}
    log.info("certificates_loaded", count=len(certificates), names=names[:MAX_LISTED], **more, **until)


def certificates_failed(log: EventLog, problems: Sequence[str]) -> None:
    """Files of certificates have changed and are wrong: those of before stay in force."""
    log.error("certificates_failed", reason="\n".join(problems))


def certificates_not_watched(log: EventLog, reason: str, interval: float) -> None:
    """Not every change of certificates is noticed at once; they are looked at now and then."""
    log.warning("certificates_not_watched", reason=reason, interval=interval)


def certificate_expiring(log: EventLog, certificate: SeenCertificate, days: float) -> None:
    """A certificate in force ends soon, and has not been renewed."""
    log.warning(
        "certificate_expiring",
        certificate=certificate.path,
        names=list(certificate.names[:MAX_LISTED]),
        not_after=utc(certificate.not_after),
        days=round(days, 1),
    )


def utc(seconds: float) -> str:
    """Return a time, in seconds since 1970, as the log writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def internal_error(log: EventLog, trace: str) -> None:
    """A bug of the master."""
    log.error("internal_error", doing="the work of the master", exception=trace)
