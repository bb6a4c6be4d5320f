"""What the daemon sees of a service manager: the notify socket, the descriptor store, sockets passed."""

import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from daemon import TIMEOUT

_START = """
import fcntl, os, sys
fds = [int(item) for item in sys.argv[1].split(",") if item]
names, command = sys.argv[2], sys.argv[3:]
place = command.index("--ready-fd") + 1
given = command[place]
command[place] = str(fcntl.fcntl(int(given), fcntl.F_DUPFD, 100))
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
for descriptor in (*fds, int(given)):
    os.close(descriptor)
for number, copy in enumerate(copies):
    os.dup2(copy, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""
"""sd_listen_fds(3): descriptors from 3 on, and variables that say so to this very process."""


class Manager:
    """A service manager."""

    def __init__(self, folder: Path) -> None:
        """Bind the notify socket."""
        self.lines: list[list[str]] = []
        self.stored: list[tuple[str, int]] = []
        self._path = folder / "notify"
        self._news = threading.Condition()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(self._path))
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"END", str(self._path))
        self._thread.join(TIMEOUT)
        self._sock.close()
        for _name, descriptor in self.stored:
            os.close(descriptor)

    def _receive(self) -> None:
        while (received := self._sock.recvmsg(4096, socket.CMSG_SPACE(400), socket.MSG_CMSG_CLOEXEC))[
            0
        ] != b"END":
            lines = received[0].decode().splitlines()
            descriptors = [fd for *_, data in received[1] for fd in struct.unpack(f"{len(data) // 4}i", data)]
            with self._news:
                self._take(lines, descriptors)
                self.lines.append(lines)
                self._news.notify_all()

    def _take(self, lines: list[str], descriptors: list[int]) -> None:
        fields = dict(line.split("=", 1) for line in lines)
        if "FDSTOREREMOVE" in fields:
            gone = [item for item in self.stored if item[0] == fields["FDNAME"]]
            self.stored = [item for item in self.stored if item[0] != fields["FDNAME"]]
            for _name, descriptor in gone:
                os.close(descriptor)
        for descriptor in descriptors:
            if any(os.path.sameopenfile(descriptor, there) for _name, there in self.stored):
                os.close(descriptor)
            else:
                self.stored.append((fields.get("FDNAME", "stored"), descriptor))

    def wait(self, *names: str) -> None:
        """Wait until these are the names of what is stored."""

        def so() -> bool:
            return sorted(name for name, _ in self.stored) == sorted(names)

        with self._news:
            assert self._news.wait_for(so, TIMEOUT), self.stored

    def start(
        self, sockets: list[tuple[str, int]] | None = None, environment: Mapping[str, str] = os.environ
    ) -> dict[str, Any]:
        """Return how to start a daemon: with sockets and their names, or with what is stored."""
        passed = self.stored if sockets is None else sockets
        names = ":".join(name for name, _ in passed)
        numbers = ",".join(str(descriptor) for _, descriptor in passed)
        return {
            "command": [sys.executable, "-c", _START, numbers, names, sys.executable, "-m", "ucspid"],
            "pass_fds": [descriptor for _, descriptor in passed],
            "env": {**environment, "NOTIFY_SOCKET": str(self._path)},
        }
