"""A connection that is forwarded: connect to a target, send it the PROXY header, copy, report.

The report is a line on standard error, and so an event of the log.
"""

import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ucspid.errors import EXIT_SYSTEM
from ucspid.forward.connecting import Connected, NobodyAnswersError, connect
from ucspid.forward.copying import BothWays, CopyEnd
from ucspid.forward.targets import Destination, parse, rotated
from ucspid.net.proxy_sending import header

_RANDOM_BYTES = 4
_set_handler = sys.modules["_signal"].signal
"""As in signal, but with plain numbers: its constants are objects, and using one copies a page of a fork."""
_SIGTERM, _DEFAULT = 15, 0
MAX_REASON = 900
"""Bytes of a line that says why nobody answers: one of the log holds a little more."""


class ForwardSettings(NamedTuple):
    """The arguments: the version of the PROXY header, two times in seconds, the targets."""

    proxy: str
    connect_timeout: float
    idle_timeout: float
    targets: tuple[Destination, ...]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "ForwardSettings":
        """Return what the plan has put into sys.argv."""
        _name, proxy, connect_timeout, idle_timeout, *targets = arguments
        return cls(proxy, float(connect_timeout), float(idle_timeout), tuple(map(parse, targets)))


class _TerminatedError(BaseException):
    """SIGTERM has come."""


def run() -> NoReturn:
    """Forward the client, and exit."""
    _set_handler(_SIGTERM, _terminate)
    forwarding = _Forwarding(ForwardSettings.of(sys.argv))
    try:
        status = forwarding.run()
    except _TerminatedError:
        forwarding.report("ended by SIGTERM")
        _set_handler(_SIGTERM, _DEFAULT)
        os.kill(os.getpid(), _SIGTERM)
        status = EXIT_SYSTEM
    os._exit(status)  # nothing is left of it that would have to be flushed


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise _TerminatedError


class _Forwarding:
    """One connection."""

    def __init__(self, settings: ForwardSettings) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._copying: BothWays | None = None
        self._target = ""

    def run(self) -> int:
        """Forward it; return the exit status."""
        settings = self._settings
        number = int.from_bytes(os.urandom(_RANDOM_BYTES), "little")
        try:
            connected = connect(rotated(settings.targets, number), settings.connect_timeout)
        except NobodyAnswersError as problem:
            _say(f"cannot forward: {str(problem)[:MAX_REASON]}")
            return EXIT_SYSTEM
        self.report(self._copy(connected).value)
        return 0

    def _copy(self, connected: Connected) -> CopyEnd:
        self._target = str(connected.candidate)
        client = socket.socket(fileno=0)
        client.setblocking(False)
        self._copying = BothWays(client, connected.sock, self._settings.idle_timeout)
        return self._copying.run(header(self._settings.proxy, os.environ))

    def report(self, how: str) -> None:
        """Say how it ended."""
        if self._copying is None:
            _say(f"cannot forward: {how}")
            return
        seconds = time.monotonic() - self._began
        _say(
            f"forwarded to {self._target}: {self._copying.received} bytes from the client, "
            f"{self._copying.sent} bytes to it, {seconds:.1f} s: {how}"
        )


def _say(text: str) -> None:
    """Write a line about this connection; nobody may read it."""
    connection = os.environ.get("UCSPID_CONN_ID", "")
    try:
        os.write(2, f"{text} (conn {connection})\n".encode(errors="backslashreplace"))
    except OSError:
        return
