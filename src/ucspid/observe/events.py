"""Every event that the daemon logs: one function each, fixed names, the same fields everywhere.

docs/log.md describes them. Fields that several events share: service, conn (the hexadecimal
connection id, as in UCSPID_CONN_ID), remote (address:port), pid, listener, launcher, role.
"""

import os
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger as Logger

from ucspid.plan import RulesFile
from ucspid.plan import Service as Settings
from ucspid.policy.exit_status import how_ended
from ucspid.policy.outcome import is_fault
from ucspid.policy.refusal_detail import MatchedRule, refusal_detail

DEBUG, INFO, WARNING = 10, 20, 30
"""Levels as numbers: what would be filtered is not even put together, where it is once a connection."""


class LoggedUsage(Protocol):
    """What a program used: seconds of CPU, peak memory in KiB."""

    user: float
    system: float
    max_rss: int


class LoggedProcess(Protocol):
    """A program, as far as events say anything of it."""

    pid: int

    @property
    def usage(self) -> LoggedUsage | None:
        """What it used, once it has ended and if that is known."""


class LoggedService(Protocol):
    """A service, as far as events say anything of it."""

    @property
    def name(self) -> str:
        """Its name."""


class LoggedSession(Protocol):
    """A session, as far as events say anything of it."""

    number: int
    began: float
    ending: bool
    """Whether the daemon has sent its program SIGTERM."""

    @property
    def service(self) -> LoggedService:
        """Its service."""

    @property
    def process(self) -> LoggedProcess | None:
        """Its program, once it runs."""

    @property
    def remote(self) -> str:
        """The client's address and port."""

    @property
    def balancer(self) -> str | None:
        """The address and port of the balancer that it came by."""

    @property
    def tls(self) -> str | None:
        """The version of TLS, if it began with a handshake."""


class LoggedClient(Protocol):
    """A connection that is no session, as far as events say anything of it."""

    ip: str

    @property
    def remote(self) -> str:
        """The client's address and port."""

    @property
    def balancer(self) -> str | None:
        """The address and port of the balancer that it came by."""


def listening(log: Logger, service: str, listener: str) -> None:
    """A listener is served; with port 0 the listener says which port it got."""
    log.info("listening", service=service, listener=listener)


def not_listening(log: Logger, service: str, listener: str) -> None:
    """A listener is no longer served: a reload took it out, or the daemon stops."""
    log.info("not_listening", service=service, listener=listener)


def connection_started(log: Logger, session: LoggedSession, pid: int) -> None:
    """A program runs on a connection; a new event loop says so again of those it finds running."""
    if getattr(log, "started_level", DEBUG) == INFO:
        log.info("connection_started", **_who(session), pid=pid)
    elif log.is_enabled_for(DEBUG):
        log.debug("connection_started", **_who(session), pid=pid)


def connection_served(log: Logger, session: LoggedSession, code: int | None, now: float) -> None:
    """A connection's program has ended: with this exit code, after how long, and what it used.

    A warning if the end is a fault of the program's: is_fault() says when.
    """
    fault = code != 0 and is_fault(code, asked=session.ending)
    if not log.is_enabled_for(WARNING if fault else INFO):
        return
    process = session.process
    assert process is not None
    usage = process.usage
    used = {} if usage is None else {"cpu": round(usage.user + usage.system, 6), "max_rss_kib": usage.max_rss}
    fields = {
        **_who(session),
        "pid": process.pid,
        **how_ended(code),
        "duration": round(now - session.began, 6),
        **used,
    }
    if fault:
        log.warning("connection_served", **fields)
    else:
        log.info("connection_served", **fields)


def connection_refused(
    log: Logger, service: Settings, client: LoggedClient, reason: str, rule: MatchedRule | None, why: str
) -> None:
    """A connection was closed without a program: a limit of the service, the rule that applies, or why."""
    if log.is_enabled_for(INFO):
        details = {
            **_by(client.balancer),
            **refusal_detail(reason, client.ip, service, rule),
            **({"detail": why} if why else {}),
        }
        log.info("connection_refused", service=service.name, remote=client.remote, reason=reason, **details)


def tls_started(log: Logger, connection: int, version: str, cipher: str, sni: str | None) -> None:
    """A session's program has asked for TLS, and the handshake is done."""
    log.debug("tls_started", conn=f"{connection:x}", tls=version, cipher=cipher, sni=sni)


def tls_not_started(log: Logger, connection: int, reason: str) -> None:
    """A session's program has asked for TLS, and the handshake failed; its connection is closed."""
    log.info("tls_not_started", conn=f"{connection:x}", reason=reason)


def tls_ended(log: Logger, connection: int, how: str, received: int, sent: int, reason: str) -> None:
    """A TLS connection has ended in another way than by both sides saying so."""
    log.info("tls_ended", conn=f"{connection:x}", how=how, received=received, sent=sent, reason=reason)


def tls_process_broken(log: Logger, number: int, reason: str) -> None:
    """A TLS process has sent what none sends; it gets no more connections."""
    log.error("tls_broken", number=number, reason=reason)


def health_check(log: Logger, service: str, remote: str) -> None:
    """A balancer asked whether the service is there."""
    log.debug("health_check", service=service, remote=remote)


def connections_refused(log: Logger, service: str, seconds: float, reasons: dict[str, int]) -> None:
    """More connections were refused than are logged one by one."""
    log.warning(
        "connections_refused", service=service, seconds=seconds, count=sum(reasons.values()), reasons=reasons
    )


def connection_failed(log: Logger, session: LoggedSession, file: str, reason: int, now: float) -> None:
    """A connection was closed because its program, this file, could not be started."""
    log.error(
        "connection_failed",
        **_who(session),
        file=file,
        reason=os.strerror(reason),
        duration=round(now - session.began, 6),
    )


def connection_dropped(log: Logger, service: str, remote: str, reason: str) -> None:
    """A connection was closed at once because the daemon ran out of something."""
    log.error("connection_dropped", service=service, remote=remote, reason=reason)


def accept_failed(log: Logger, service: str, listener: str, reason: str, pause: float) -> None:
    """The system let no connection be accepted; the service pauses."""
    log.error("accept_failed", service=service, listener=listener, reason=reason, pause=pause)


def rules_loaded(log: Logger, path: str, rules: int, *, watched: bool) -> None:
    """What is in a rules file now is in force; watched: the kernel reports each change."""
    log.info("rules_loaded", path=path, rules=rules, watched=watched)


def rules_load_failed(log: Logger, file: RulesFile, reason: str) -> None:
    """A rules file cannot be used: the previous rules stay, or every client is refused if there are none.

    Or if the file wants that: then the event says so.
    """
    wanted = {} if file.unusable == "keep" else {"unusable": file.unusable}
    log.error("rules_load_failed", path=file.path, reason=reason, **wanted)


def service_full(log: Logger, service: str, hold: str, max_connections: int) -> None:
    """A service accepts nothing, as it has all its sessions (full), or the daemon has (daemon_full)."""
    log.warning("service_full", service=service, hold=hold, max_connections=max_connections)


def service_has_room(log: Logger, service: str, seconds: float) -> None:
    """A service that was full, for so long with short breaks, has had room for a while."""
    log.info("service_has_room", service=service, seconds=seconds)


def service_limited(log: Logger, service: str, max_connections: int) -> None:
    """An operator wants a service to have so many sessions at most, until the next reload."""
    log.warning("service_limited", service=service, max_connections=max_connections)


def service_paused(log: Logger, service: str) -> None:
    """An operator wants a service to accept nothing for now."""
    log.warning("service_paused", service=service)


def service_resumed(log: Logger, service: str) -> None:
    """An operator wants a paused service to accept again."""
    log.warning("service_resumed", service=service)


def kill_requested(log: Logger, count: int, *, now: bool) -> None:
    """An operator wants sessions to end; now: without the time of kill_timeout."""
    log.warning("kill_requested", count=count, now=now)


def client_denied(log: Logger, network: str, service: str | None, seconds: float) -> None:
    """An operator denies the clients of a network, by all services or one, for some seconds."""
    log.warning("client_denied", network=network, **_of(service), seconds=seconds)


def client_undenied(log: Logger, network: str, service: str | None) -> None:
    """An operator has ended a ban."""
    log.warning("client_undenied", network=network, **_of(service))


def denial_ended(log: Logger, network: str, service: str | None) -> None:
    """The time of a ban is over."""
    log.info("denial_ended", network=network, **_of(service))


def bans_lost(log: Logger, count: int) -> None:
    """So many bans of an earlier event loop make no sense; 0 if all are of another version."""
    log.error("bans_lost", count=count)


def log_level_set(log: Logger, level: str) -> None:
    """An operator has set the lowest level that is logged, until the next reload."""
    log.warning("log_level_set", to=level)


def service_throttled(log: Logger, service: str, file: str, cause: str, interval: float) -> None:
    """A service's program, this file, cannot be started: one start is tried in each interval of seconds."""
    log.warning("service_throttled", service=service, file=file, cause=cause, interval=interval)


def service_recovered(log: Logger, service: str) -> None:
    """A throttled service's program can be started again."""
    log.warning("service_recovered", service=service)


def lifetime_exceeded(log: Logger, session: LoggedSession, limit: float) -> None:
    """A session reached max_lifetime and is being ended."""
    log.warning("lifetime_exceeded", **_who(session), limit=limit)


def program_stderr(log: Logger, service: str, connection: int | None, line: str) -> None:
    """A program wrote a line to its descriptor 2; connection is None where it may be any of several."""
    known = {} if connection is None else {"conn": f"{connection:x}"}
    log.info("program_stderr", service=service, **known, line=line)


def program_stderr_dropped(log: Logger, service: str, lines: int) -> None:
    """Programs of a service wrote more lines than are logged."""
    log.warning("program_stderr_dropped", service=service, lines=lines)


def launcher_stuck(log: Logger, launcher: int, pid: int) -> None:
    """A launcher has not answered for a while: a program on a disk that hangs, or it was stopped."""
    log.warning("launcher_stuck", launcher=launcher, pid=pid)


def launcher_broken(log: Logger, launcher: int, reason: str) -> None:
    """A launcher sent what no launcher sends; it is being replaced."""
    log.error("launcher_broken", launcher=launcher, reason=reason)


def loop_started(log: Logger, sessions: int) -> None:
    """The event loop is at work; sessions counts those that it took over."""
    log.info("loop_started", pid=os.getpid(), sessions=sessions)


def connections_lost(log: Logger, service: str, count: int) -> None:
    """A loop that died had accepted so many connections that nobody knows of: they count as failed."""
    log.error("connections_lost", service=service, count=count)


def counts_cleared(log: Logger) -> None:
    """The counts of an earlier event loop make no sense, or are of another version: all are 0."""
    log.error("counts_cleared")


def handover_refused(log: Logger, service: str, reason: str) -> None:
    """What an event loop has handed over makes no sense; its successor goes on without."""
    log.error("handover_refused", service=service, reason=reason)


def loop_confined(log: Logger, *, landlock: int, seccomp: bool) -> None:
    """An event loop begins, confined by what the kernel has: a version of Landlock, or 0; seccomp."""
    log.debug("loop_confined", pid=os.getpid(), landlock=landlock, seccomp=seccomp)


def draining(log: Logger, live: int, timeout: float | None) -> None:
    """The daemon stops: it accepts nothing more and waits for its sessions, so many seconds at most."""
    bound = {} if timeout is None else {"timeout": timeout, "hint": "a second SIGTERM ends the sessions now"}
    log.info("draining", live=live, **bound)


def drained(log: Logger) -> None:
    """The last session has ended."""
    log.info("drained")


def master_lost(log: Logger) -> None:
    """The master is gone: nothing more is accepted, sessions go on to their end."""
    log.critical("master_lost")


def internal_error(log: Logger, context: dict[str, Any]) -> None:
    """A bug of the daemon's: what was being done when it showed, and where."""
    log.error("internal_error", doing=context.get("message", ""), exc_info=context.get("exception"))


def from_master(log: Logger, level: str, event: str, fields: dict[str, Any]) -> None:
    """Log an event of the master's: started, reloaded, reload_failed, process_died, process_started."""
    getattr(log, level)(event, **fields)


def _who(session: LoggedSession) -> dict[str, Any]:
    return {
        "service": session.service.name,
        "conn": f"{session.number:x}",
        "remote": session.remote,
        **_by(session.balancer),
        **({} if session.tls is None else {"tls": session.tls}),
    }


def _of(service: str | None) -> dict[str, str]:
    return {} if service is None else {"service": service}


def _by(balancer: str | None) -> dict[str, int | str]:
    return {} if balancer is None else {"balancer": balancer}
