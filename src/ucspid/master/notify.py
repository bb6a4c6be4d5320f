"""Reports the daemon's state to the service manager: sd_notify(3), with the standard library only."""

import contextlib
import os
import select
import socket
import struct
import time


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

    def ready(self, services: int) -> None:
        """Say that the daemon serves, and that a reload that was under way has ended."""
        notify("READY=1", f"STATUS={services} services")

    def reloading(self) -> None:
        """Say that a reload has begun."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the daemon stops."""
        notify("STOPPING=1")
