"""Reports the daemon's state to the service manager: sd_notify(3), with the standard library only."""

import contextlib
import os
import select
import socket
import struct
import time

from ucspid.errors import UcspidError
from ucspid.ipc.condition import Condition

MAX_REMARK = 200
"""Characters of what the state says of a reload that has failed."""

MORE_TIME = 60.0
"""Seconds that the service manager is asked to wait while the daemon stops, again and again."""


def notify(*lines: str, descriptors: tuple[int, ...] = (), timeout: float = 0.0) -> bool:
    """Send NAME=VALUE lines to $NOTIFY_SOCKET, and descriptors; return whether they were taken.

    Nobody there is no error, nor is a system without descriptors: the daemon goes on, and sends the
    next thing. timeout is how many seconds to wait for a receiver that is slow to read.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.sendmsg(["\n".join(lines).encode()], ancillary, socket.MSG_NOSIGNAL, address)
    except OSError:
        return False
    return True


class Readiness:
    """Says when the daemon is ready, reloads or stops."""

    def __init__(self, ready_fd: int | None, text: bytes = b"\n") -> None:
        """Take a descriptor for a text when the daemon is first ready, if there is one."""
        self._ready_fd = ready_fd
        self._text = text
        self._stopping = False
        self._services = 0
        self._said = ""
        self._remark = ""
        """What went wrong with the last reload."""

    def serving(self) -> None:
        """Write the text and close the descriptor: all listeners listen. It never blocks."""
        if self._ready_fd is None:
            return
        with contextlib.suppress(OSError):  # whoever waited for it is gone
            poll = select.poll()
            poll.register(self._ready_fd, select.POLLOUT)
            if poll.poll(0):
                os.write(self._ready_fd, self._text)
        os.close(self._ready_fd)
        self._ready_fd = None

    @property
    def wanted(self) -> bool:
        """Whether there is a service manager that listens."""
        return bool(os.environ.get("NOTIFY_SOCKET"))

    def ready(self, services: int) -> None:
        """Say that the daemon serves, and that a reload that was under way has ended."""
        self._services = services
        notify("READY=1", *self._status(f"{_count(services, 'service')}{self._remark}"))

    def reloading(self) -> None:
        """Say that a reload has begun."""
        self._remark = ""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def failed(self, problem: UcspidError) -> None:
        """Have the state say, until the next reload, why the last one has failed."""
        first = str(problem).partition("\n")[0]
        self._remark = f"; reload failed: {first[:MAX_REMARK]}"

    def alive(self, condition: Condition, troubled: str) -> None:
        """Say that the event loop turns, and how it is; troubled is the service with the worst trouble."""
        if self._stopping:
            text = f"stopping, {_count(condition.live, 'connection')}"
        else:
            text = f"{_count(self._services, 'service')}, {_count(condition.live, 'connection')}"
            if condition.troubled:
                others = f" and {condition.troubled - 1} more" if condition.troubled > 1 else ""
                text += f"; in trouble: {troubled} ({condition.trouble}){others}"
            text += self._remark
        notify("WATCHDOG=1", *self._status(text))

    def stopping(self) -> None:
        """Say that the daemon stops."""
        self._stopping = True
        notify("STOPPING=1")

    def more_time(self) -> None:
        """Ask for more time to stop; that is to be asked for again before it is over."""
        notify(f"EXTEND_TIMEOUT_USEC={int(MORE_TIME * 1e6)}")

    def _status(self, text: str) -> tuple[str, ...]:
        """Return the line that says how the daemon is, if that has changed."""
        if text == self._said:
            return ()
        self._said = text
        return (f"STATUS={text}",)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
