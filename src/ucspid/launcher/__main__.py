"""A launcher process: `python -I -S PATH_OF_THIS_FILE`, with its channels where the master puts them.

Descriptor 3 is the channel of the master, 4 the launcher's end of the loop's, 5 the table.
The master tells the programs first and then which privileges to take, so that no start comes
before its program; READY or REFUSED answers.
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
from ucspid.ipc.orders import Orders
from ucspid.ipc.session_table import Table
from ucspid.launcher.serve import Launcher
from ucspid.linux import prctl, privileges
from ucspid.linux.fd_limit import close_above
from ucspid.linux.lending import Lending

MASTER, LOOP, TABLE = 3, 4, 5


def main() -> int:
    """Take the privileges, say so, and serve."""
    os.setsid()
    close_above(TABLE)
    for descriptor in (MASTER, LOOP, TABLE):
        os.set_inheritable(descriptor, False)
    prctl.default_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXCPU})
    signalfd = prctl.open_signalfd({signal.SIGCHLD})
    master = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, MASTER))
    programs: list[tuple[bytes, list[int]]] = []
    packet, descriptors = _next(master)
    while packet and packet[0] == wire.SERVICE:
        programs.append((packet, descriptors))
        packet, descriptors = _next(master)
    if not packet:
        return 0
    orders = Orders.unpack(packet)
    try:
        prctl.set_title(orders.title)
        table = Table(TABLE)
        os.close(TABLE)  # what is mapped stays
        if orders.no_new_privs:
            prctl.forbid_new_privileges()
        privileges.take(**orders.profile)  # type: ignore[arg-type]
        lending = Lending(orders.nofile, orders.cpu)
    except (OSError, ValueError) as problem:
        text = wire.pack_strings([str(problem).encode(errors="replace")])
        master.send(wire.PEER_HEAD.pack(wire.REFUSED, wire.VERSION) + text)
        return EXIT_SYSTEM
    loop = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, LOOP))
    launcher = Launcher(master, loop, table, signalfd, lending)
    for packet, descriptors in programs:
        launcher.set_program(packet, descriptors)
    launcher.take_over(orders.orphans)
    master.send(wire.PEER_HEAD.pack(wire.READY, wire.VERSION))
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
