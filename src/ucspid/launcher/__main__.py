"""A launcher process: `python -I -S PATH_OF_THIS_FILE`, with its channels where the master puts them.

Descriptor 3 is the channel of the master, 4 the launcher's end of the loop's, 5 the table.
The first packet of the master says which privileges to take; READY or REFUSED answers it.
A limit on CPU time that is meant for programs holds for the launcher too; its SIGXCPU is blocked
here and reset for programs.
"""

import os
import signal
import socket
import sys

sys.path.insert(0, __file__[: -len("/ucspid/launcher/__main__.py")])

from ucspid import linux
from ucspid.launcher import privileges
from ucspid.launcher.serve import Launcher
from ucspid.launcher.table import Table
from ucspid.wire import messages as wire
from ucspid.wire.channel import Channel
from ucspid.wire.privileges import Orders

MASTER, LOOP, TABLE = 3, 4, 5


def main() -> int:
    """Take the privileges, say so, and serve."""
    os.setsid()
    os.closerange(TABLE + 1, os.sysconf("SC_OPEN_MAX"))
    for descriptor in (MASTER, LOOP, TABLE):
        os.set_inheritable(descriptor, False)
    linux.default_signals()
    signalfd = linux.open_signalfd({signal.SIGCHLD, signal.SIGXCPU})
    master = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, MASTER))
    packet = master.sock.recv(wire.MAX_PACKET)
    if not packet:
        return 0
    orders = Orders.unpack(packet)
    try:
        linux.set_title(orders.title)
        table = Table(TABLE)
        if orders.no_new_privs:
            linux.forbid_new_privileges()
        privileges.take(**orders.profile)  # type: ignore[arg-type]
    except (OSError, ValueError) as problem:
        text = wire.pack_strings([str(problem).encode(errors="replace")])
        master.send(wire.PEER_HEAD.pack(wire.REFUSED, wire.VERSION) + text)
        return 111
    loop = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, LOOP))
    launcher = Launcher(master, loop, table, signalfd)
    launcher.take_over(orders.orphans)
    master.send(wire.PEER_HEAD.pack(wire.READY, wire.VERSION))
    launcher.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
