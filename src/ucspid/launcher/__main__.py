"""A launcher process: `python -I -S PATH_OF_THIS_FILE`, with its channels where the master puts them.

Descriptor 3 is the channel of the master, 4 the launcher's end of the loop's, 5 the table.
The master sends the programs and a predecessor's orphans first, and then which privileges to take, so
that no start comes before its program; Ready or Refused answers.
The limit on CPU time that is lent to programs may be below what the launcher has used: its SIGXCPU
is blocked.
"""

import os
import select
import signal
import socket
import sys

sys.path.insert(0, __file__[: -len("/ucspid/launcher/__main__.py")])

from ucspid.errors import EXIT_SYSTEM, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.ipc.session_table import Table
from ucspid.launcher.serve import Launcher
from ucspid.linux import prctl, privileges
from ucspid.linux.fd_limit import close_above
from ucspid.linux.lending import Lending

MASTER, LOOP, TABLE = 3, 4, 5


def main() -> int:
    """Take the privileges, report it, and serve."""
    os.setsid()
    close_above(TABLE)
    for descriptor in (MASTER, LOOP, TABLE):
        os.set_inheritable(descriptor, False)
    prctl.default_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXCPU})
    signalfd = prctl.open_signalfd({signal.SIGCHLD})
    master = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, MASTER))
    programs: list[tuple[bytes, list[int]]] = []
    orphans: set[int] = set()
    packet, descriptors = _next(master)
    while packet and packet[0] != wire.TakePrivileges.KIND:
        if packet[0] == wire.Orphans.KIND:
            orphans.update(wire.Orphans.unpack(packet).processes)
        else:
            programs.append((packet, descriptors))
        packet, descriptors = _next(master)
    if not packet:
        return 0
    try:
        orders = wire.TakePrivileges.of_this_version(packet)
        prctl.set_title(orders.title)
        table = Table(TABLE)
        os.close(TABLE)  # what is mapped stays
        privileges.take(orders.profile)
        lending = Lending({"nofile": orders.nofile, **dict(orders.profile.rlimits)})
    except (OSError, ValueError, privileges.CannotTake, WireError) as problem:
        master.send(wire.PrivilegesRefused(str(problem)).pack())
        return EXIT_SYSTEM
    loop = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, LOOP))
    launcher = Launcher(master, loop, table, signalfd, lending)
    for packet, descriptors in programs:
        launcher.hear_master(packet, descriptors)
    launcher.sessions.take_over(orphans)
    master.send(wire.Ready(wire.VERSION).pack())
    try:
        launcher.run()
    except WireError as problem:
        sys.stderr.write(f"ucspid: launcher: {problem}\n")
        return EXIT_SYSTEM
    return 0


def _next(master: Channel) -> tuple[bytes, list[int]]:
    """Wait for a packet of the master's."""
    waiting = select.poll()
    waiting.register(master.fileno(), select.POLLIN)
    while True:
        received = master.receive()
        if received is not None:
            return received
        waiting.poll()


if __name__ == "__main__":
    sys.exit(main())
