"""A fork that is made before there is a connection for it.

To fork, and what a fork does before its program begins, is most of what a client waits for. So a launcher
that has nothing else to do makes one fork ahead, the spare, which waits for its connection at a socket of its
own. If there is none, or if anything has happened to it, a session is forked as ever.

A spare is no session yet: it is in the launcher's process group, shows the launcher's title, and cannot be
traced where the launcher cannot. It gets one connection at most, and ends with the launcher's end of its
socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from ucspid.ipc.channel import close_all, pair
from ucspid.ipc.messages import CONTROL, MAX_PACKET, SOCKETS_WITH_TLS
from ucspid.launcher.serve import Chore
from ucspid.linux import pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    Become = Callable[[socket.socket], NoReturn]

LESSONS = 4
"""Sessions that show which pages a session writes to."""

MAX_LOOKS = 100
"""Sessions that are looked at for that: one that has ended shows nothing."""

MAX_PAGES = 1024
"""Pages that a spare copies in advance."""

_QUIET, _LESSON = 0.005, 0.001
"""Seconds. Where clients come one right after the other, a spare would take the processor from them. While
the first sessions are looked at, they have come to their first answer, and have not ended."""

_PLACES = range(CONTROL, CONTROL + SOCKETS_WITH_TLS - 1)
_GIVE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_TAKE = int(socket.MSG_CMSG_CLOEXEC)
_SPACE = socket.CMSG_SPACE(4 * SOCKETS_WITH_TLS)
_BEGIN = b"+"
"""Before the variables: a packet that is empty is the end."""


class Spare(Chore):
    """The spare of a launcher, or that there is none."""

    def __init__(self) -> None:
        """Begin without one."""
        self._become: Become | None = None
        self._process = 0
        self._end: socket.socket | None = None
        self._pages = WrittenPages()

    def of(self, become: Become) -> None:
        """Have a fork become this from now on."""
        self._become = become
        self.due = True

    def do(self) -> None:
        """Fork. Without a process or a descriptor for it there is no spare until a session has started."""
        self.due = False
        if self._become is not None:
            self._pages.learn(self._process)
            with contextlib.suppress(OSError):
                self._process, self._end = self._fork(self._become)
                self._pages.copy_launchers()

    def quiet(self) -> float:
        """Return for how many seconds nothing must have come."""
        return _LESSON if self._pages.learning else _QUIET

    def withdraw(self, become: Become) -> None:
        """End it; a fork becomes this no longer."""
        if self._become == become:
            self._become = None
        self.end()

    def give(self, sockets: Sequence[int], variables: bytes) -> int:
        """Give the spare its connection; return its process, or 0 if there is none that takes it."""
        self.due = True
        end, self._end = self._end, None
        if end is None:
            self._process = 0
            return 0
        self._pages.begin()
        with end, contextlib.suppress(OSError):  # it has died, or there is no memory
            # Before it is a session: a signal may be for the group at once.
            os.setpgid(self._process, self._process)
            rights = struct.pack(f"{len(sockets)}i", *sockets)
            end.sendmsg([_BEGIN, variables], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _GIVE)
            return self._process
        self._process = 0
        return 0

    def end(self) -> None:
        """End it; another is made if there is time."""
        self.due = True
        self._process = 0
        if self._end is not None:
            self._end.close()
            self._end = None

    def abandon(self) -> None:
        """Close what is the launcher's, in a fork."""
        if self._pages.own is not None:
            os.close(self._pages.own)

    @staticmethod
    def keep_places(end: socket.socket) -> None:
        """Have nothing opened or received where the further sockets of a program go, in the spare."""
        for place in _PLACES:
            os.dup2(end.fileno(), place, inheritable=False)

    def take(self, end: socket.socket) -> tuple[list[int], bytes]:
        """Wait for the connection, in the spare; return its sockets and variables, and close the end.

        Raises EOFError if there is to be none, and OSError.
        """
        self._pages.copy_sessions()
        packet, ancillary, _, _ = end.recvmsg(MAX_PACKET, _SPACE, _TAKE)
        if not packet:
            raise EOFError
        end.close()
        close_all(_PLACES)
        ((_, _, data),) = ancillary
        return list(struct.unpack(f"{len(data) // 4}i", data)), packet[len(_BEGIN) :]

    @staticmethod
    def _fork(become: Become) -> tuple[int, socket.socket]:
        ours, theirs = pair()
        with theirs:
            try:
                process = os.fork()
            except OSError:
                ours.close()
                raise
            if not process:
                os.close(ours.fileno())
                become(theirs)
        return process, ours


class WrittenPages:
    """The pages that sessions of a program write to; a spare has them copied before there is a client.

    What sessions show of themselves is only which pages these are, not what is in them.
    """

    def __init__(self) -> None:
        """Begin with none; while this process may look at itself."""
        self.own: int | None = None
        with contextlib.suppress(OSError):  # no /proc below another root directory
            self.own = pages.open_map("self")
        self._lessons = LESSONS if self.own is not None else 0
        self._looks = MAX_LOOKS
        self._areas: list[range] = []
        self._before: set[int] | None = None
        self._pages: set[int] = set()
        self._runs: list[range] = []
        self._own_runs: list[range] = []

    @property
    def learning(self) -> bool:
        """Whether a session is to be looked at."""
        return self._before is not None

    def begin(self) -> None:
        """Look which pages the spare need not copy any more, when it is about to be a session."""
        if self._lessons and self._looks and self.own is not None:
            self._looks -= 1
            with contextlib.suppress(OSError):
                self._areas = pages.areas()
                self._before = pages.exclusive(self.own, self._areas)

    def learn(self, process: int) -> None:
        """Look which others it has written to by now."""
        before, self._before = self._before, None
        if before is None:
            return
        with contextlib.suppress(OSError):  # it has ended
            descriptor = pages.open_map(str(process))
            try:
                self._pages |= pages.exclusive(descriptor, self._areas) - before
            finally:
                os.close(descriptor)
            self._lessons -= 1
            self._own_runs = pages.runs(before) if len(before) <= MAX_PAGES else []
            self._runs = pages.runs(self._pages) if len(self._pages) <= MAX_PAGES else []

    def copy_sessions(self) -> None:
        """Have copied what sessions write to, in the spare."""
        pages.have_copied(self._runs)

    def copy_launchers(self) -> None:
        """Have copied what the launcher writes to, from the fork of a spare to its first connection."""
        pages.have_copied(self._own_runs)
