"""One accepted connection: one object from accept(2) to its end.

Its states are in policy.connection_states.
"""

import asyncio
from typing import Protocol, cast

from ucspid.admission.listener import Listener
from ucspid.admission.proxied import Proxied
from ucspid.admission.secured import OverTls
from ucspid.limits import Slot
from ucspid.net.endpoint import endpoint
from ucspid.observe.transcript import LoggedEnds
from ucspid.policy.client_facts import NO_FACTS, ClientFacts
from ucspid.policy.connection_states import STEP, ConnectionState, Event
from ucspid.rules.rule import Environment, Rule, Rules
from ucspid.spawn import Process

NO_DESCRIPTOR = -1


class ServiceSessions(Protocol):
    """Who counts a session in and out."""

    @property
    def name(self) -> str:
        """The service's name."""

    @property
    def kill_timeout(self) -> float:
        """Seconds between SIGTERM and SIGKILL for a program that is to end."""

    def started(self, connection: "Connection", pid: int) -> None:
        """Take note that the connection's program runs."""

    def served(self, connection: "Connection") -> None:
        """Count out a session whose program has ended."""

    def failed(self, connection: "Connection", reason: int) -> None:
        """Count out a session whose program could not be started: an errno."""


class Connection(asyncio.SubprocessProtocol):
    """What is known of a connection. To a launcher's process it is an asyncio.SubprocessProtocol."""

    __slots__ = (
        "awaits_tls", "began", "deadline", "descriptor", "ending", "ends", "env", "found", "handed", "ip",
        "listener", "number", "over_tls", "pair", "port", "process", "proxied", "rule", "rules", "service",
        "slot", "state", "tls",
    )  # fmt: skip

    def __init__(self, service: ServiceSessions, ip: str, port: int, began: float) -> None:
        """Describe a connection with the client at ip and port, accepted at a monotonic time."""
        self.service = service
        self.ip = ip
        self.port = port
        self.began = began
        self.state = ConnectionState.ACCEPTED
        self.number = 0
        """The id that logs and the program know it by; 0 until it is handed to a launcher, or to TLS."""
        self.slot: Slot | None = None
        """What it holds in the limits."""
        self.descriptor = NO_DESCRIPTOR
        """Our copy of the client's socket, until it is handed to a launcher or closed."""
        self.listener: Listener | None = None
        self.deadline = 0.0
        """The monotonic time by which every stage that waits must have come to a result; set by the first."""
        self.proxied: Proxied | None = None
        """What the balancer said in whose name the client speaks; ip and port are the client's."""
        self.awaits_tls = False
        """Whether its client speaks TLS from the first byte, and has shaken no hands: it can read nothing."""
        self.over_tls: OverTls | None = None
        """What its handshake has shown; descriptor is one end of a pair from then on."""
        self.pair = NO_DESCRIPTOR
        """That end, while the handshake goes on."""
        self.tls: str | None = None
        """The version of TLS, once it is a session."""
        self.ends: LoggedEnds | None = None
        """Both ends as the log of tcpserver shows them, while its program is being started."""
        self.found: ClientFacts = NO_FACTS
        self.rules: Rules | None = None
        """The rules that it met: those of the moment at which it was accepted."""
        self.rule: Rule | None = None
        """The rule that applies to it, once it is known."""
        self.env: Environment = ()
        self.handed = began
        """When it went to a launcher: what its program's time is counted from."""
        self.process: Process | None = None
        self.ending = False

    @property
    def waited(self) -> bool:
        """Whether a stage has made it wait: others may have come in meanwhile."""
        return self.deadline > 0.0

    @property
    def remote(self) -> str:
        """Return the client's address and port as logs show them."""
        return endpoint(self.ip, self.port)

    @property
    def balancer(self) -> str | None:
        """Return the address and port of the balancer that it came by, if it came by one."""
        return None if self.proxied is None else self.proxied.balancer

    def local(self) -> tuple[str, int]:
        """Return the address and port that the client connected to. Only while its socket is here."""
        if self.over_tls is not None:
            return self.over_tls.local
        if self.proxied is not None and self.proxied.local is not None:
            return self.proxied.local
        assert self.listener is not None
        return self.listener.end(self.descriptor)

    def take(self, event: Event) -> None:
        """Go on to the next state. Raises AssertionError for an event that cannot be in this one."""
        self.state = STEP[self.state, event]

    def hand(self, number: int, now: float) -> None:
        """Become a session with this number: what only admission needed is forgotten."""
        self.state = STEP[self.state, Event.HANDED]
        self.number = number
        self.handed = now
        self.descriptor = NO_DESCRIPTOR
        if self.over_tls is not None:
            self.tls, self.over_tls = self.over_tls.version, None
        self.found = NO_FACTS
        self.rules = None
        self.env = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note that the program runs."""
        self.state = STEP[self.state, Event.STARTED]
        self.process = cast("Process", transport)
        self.service.started(self, self.process.pid)
        if self.ending:
            self.end(self.service.kill_timeout)

    def start_failed(self, reason: int) -> None:
        """End: the program could not be started."""
        self.state = STEP[self.state, Event.START_FAILED]
        self.service.failed(self, reason)

    def process_exited(self) -> None:
        """End: the program has ended."""
        self.state = STEP[self.state, Event.EXITED]
        self.service.served(self)

    def end(self, kill_timeout: float) -> None:
        """Send SIGTERM to the program, and SIGKILL if it still runs after kill_timeout seconds."""
        self.ending = True
        if self.process is not None:
            self.process.terminate()
        asyncio.get_running_loop().call_later(kill_timeout, self.kill)

    def kill(self) -> None:
        """Send SIGKILL to the program if it runs."""
        if self.process is not None:
            self.process.close()
