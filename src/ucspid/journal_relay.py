"""The relay to systemd's journal: a process that sends on what the event loop logs. One for each loop.

`python -I -m ucspid.journal_relay UID GID GROUPS`, with the entries as descriptor 3, packets of a pair. The
loop has no socket to the journal itself: with a socket for datagrams, one that was taken over could send
to any path. What goes through here goes to the journal, whatever it is.
"""

import os
import signal
import socket
import sys

from ucspid.errors import EXIT_SYSTEM
from ucspid.linux import landlock, prctl, privileges, seccomp
from ucspid.linux.fd_limit import close_above
from ucspid.profile import Profile

ENTRIES = 3
MAX_ENTRY = 64 << 10
"""Bytes of an entry; the loop sends none that is larger."""
SOCKET = "/run/systemd/journal/socket"


def main(arguments: list[str]) -> int:
    """Send entries on until the loop has ended; return 111 if the journal does not take them."""
    os.setsid()
    prctl.set_title("ucspid: journal")
    close_above(ENTRIES)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    entries = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, ENTRIES)
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        journal.connect(SOCKET)
        _confine(*arguments)
        return relay(entries, journal)
    except (OSError, privileges.CannotTake):
        return EXIT_SYSTEM


def relay(entries: socket.socket, journal: socket.socket) -> int:
    """Send each packet on. Raises OSError if it cannot be sent: the loop then writes lines instead."""
    while entry := entries.recv(MAX_ENTRY):
        journal.send(entry)
    return 0


def _confine(uid: str, gid: str, groups: str) -> None:
    """Become the user of the event loop, and drop what the loop drops."""
    numbers = None if groups == "-" else tuple(int(item) for item in groups.split(",") if item)
    own = Profile(uid=_number(uid), gid=_number(gid), groups=numbers, cwd="/")
    privileges.take(own)
    prctl.give_up_capabilities()
    prctl.forbid_new_privileges()
    landlock.restrict(set(), set(), bind=False)
    seccomp.restrict(seccomp.Outgoing(tcp=False, udp=False, bind=False))


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
