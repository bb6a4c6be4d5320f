"""One session: a connection handed to a launcher, its program, and its end."""

import asyncio
from typing import Protocol, cast

from ucspid.limits import Slot
from ucspid.net.address import endpoint
from ucspid.plan import Service as Settings
from ucspid.policy.session_states import Event, State, step
from ucspid.spawn import Process


class Owner(Protocol):
    """What a session tells its service, which counts it in and out."""

    settings: Settings

    @property
    def name(self) -> str:
        """The service's name."""

    def started(self, session: "Session", pid: int) -> None:
        """Say that the session's program runs."""

    def session_served(self, session: "Session") -> None:
        """Say that the session's program has ended."""

    def session_failed(self, session: "Session", reason: int) -> None:
        """Say that the session's program could not be started: an errno."""


class Session(asyncio.SubprocessProtocol):
    """What is known of a session."""

    __slots__ = (
        "began",
        "connection",
        "ending",
        "handed",
        "ip",
        "port",
        "process",
        "service",
        "slot",
        "state",
    )

    slot: Slot
    """What it holds in the limits of its service; set by the service."""

    def __init__(self, service: Owner, connection: int, ip: str, port: int, began: float) -> None:
        """Begin a session of the service with the client at ip and port, at the monotonic time began."""
        self.service = service
        self.connection = connection
        self.ip = ip
        self.port = port
        self.began = began
        self.handed = began
        """When it went to a launcher: what its program's time is counted from."""
        self.process: Process | None = None
        self.state = State.HANDED
        self.ending = False

    @property
    def remote(self) -> str:
        """Return the client's address and port as logs show them."""
        return endpoint(self.ip, self.port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note that the program runs."""
        self.state = step(self.state, Event.STARTED)
        self.process = cast("Process", transport)
        self.service.started(self, self.process.pid)
        if self.ending:
            self.end(self.service.settings.kill_timeout)

    def start_failed(self, reason: int) -> None:
        """End: the program could not be started."""
        self.state = step(self.state, Event.START_FAILED)
        self.service.session_failed(self, reason)

    def process_exited(self) -> None:
        """End: the program has ended."""
        self.state = step(self.state, Event.EXITED)
        self.service.session_served(self)

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
