"""Telling systemd how the daemon is: sd_notify(3), in the standard library's terms."""

import contextlib
import os
import socket
import time


def notify(*lines: str) -> None:
    """Send NAME=VALUE lines to $NOTIFY_SOCKET, if there is one; nobody there is no error.

    Nor is a system without descriptors: the daemon goes on, and tells the next thing.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, address)


def reloading() -> None:
    """Say that a reload has begun."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
