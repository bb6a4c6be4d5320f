"""Telling systemd how the daemon is: sd_notify(3), in the standard library's terms."""

import os
import socket
import struct
import time


def notify(*lines: str, descriptors: tuple[int, ...] = (), patience: float = 0.0) -> bool:
    """Send NAME=VALUE lines to $NOTIFY_SOCKET, and descriptors; return whether they were taken.

    Nobody there is no error, nor is a system without descriptors: the daemon goes on, and tells the
    next thing. patience is how many seconds to wait for one who is slow to read.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience)
            sock.sendmsg(["\n".join(lines).encode()], ancillary, socket.MSG_NOSIGNAL, address)
    except OSError:
        return False
    return True


def reloading() -> None:
    """Say that a reload has begun."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
