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
from functools import partial

sys.path.insert(0, __file__[: -len("/ucspid/launcher/__main__.py")])

from ucspid.errors import EXIT_SYSTEM, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.ipc.session_table import Table
from ucspid.launcher.executed import ExecutedProgram
from ucspid.launcher.programs import Programs
from ucspid.launcher.serve import Launcher
from ucspid.linux import prctl, privileges
from ucspid.linux.fd_limit import close_above
from ucspid.linux.lending import Lending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ucspid.launcher.preload.handover import Handover
    from ucspid.launcher.preload.own import OwnProgram

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
    orders = _Orders()
    packet, descriptors = _next(master)
    while packet and packet[0] != wire.TakePrivileges.KIND:
        orders.take(packet, descriptors)
        packet, descriptors = _next(master)
    if not packet:
        return 0
    try:
        taken = wire.TakePrivileges.of_this_version(packet)
        prctl.set_title(taken.title)
        own, handover = orders.own_program(), orders.handover()
        table = None if own or handover else Table(TABLE)
        privileges.take(taken.profile)
        if handover is not None:
            handover.execute((MASTER, LOOP, TABLE), taken)
        lending = Lending({"nofile": taken.nofile, **dict(taken.profile.rlimits)}) if own is None else None
    except (OSError, ValueError, privileges.CannotTake, WireError) as problem:
        master.send(wire.PrivilegesRefused(str(problem)).pack())
        return EXIT_SYSTEM
    if own is not None:
        os.close(signalfd)
        master.sock.detach()
        return own.serve(taken)
    assert table is not None
    assert lending is not None
    os.close(TABLE)  # what is mapped stays
    loop = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, LOOP))
    launcher = Launcher(master, loop, table, signalfd, Programs(partial(ExecutedProgram, lending)))
    for packet, descriptors in orders.programs:
        launcher.hear_master(packet, descriptors)
    launcher.sessions.take_over(orders.orphans)
    master.send(wire.Ready(wire.VERSION).pack())
    try:
        launcher.run()
    except WireError as problem:
        sys.stderr.write(f"ucspid: launcher: {problem}\n")
        return EXIT_SYSTEM
    return 0


class _Orders:
    """What the master says before TakePrivileges."""

    def __init__(self) -> None:
        self.programs: list[tuple[bytes, list[int]]] = []
        self.orphans: set[int] = set()
        self._preload: bytes | None = None

    def take(self, packet: bytes, descriptors: list[int]) -> None:
        if packet[0] == wire.Orphans.KIND:
            self.orphans.update(wire.Orphans.unpack(packet).processes)
        elif packet[0] == wire.Preload.KIND:
            self._preload = packet
        else:
            self.programs.append((packet, descriptors))

    def handover(self) -> "Handover | None":
        """Return what another interpreter is to be given, if there is a program for it to preload."""
        if self._preload is None or wire.Preload.unpack(self._preload).own:
            return None
        from ucspid.launcher.preload.handover import Handover  # noqa: PLC0415 - most launchers have no use for it

        (program, stderr), *earlier = self.programs
        return Handover(program, stderr, self._preload, [packet for packet, _ in earlier], self.orphans)

    def own_program(self) -> "OwnProgram | None":
        """Return the program of ucspid's own, if that is what there is to preload."""
        if self._preload is None or not wire.Preload.unpack(self._preload).own:
            return None
        from ucspid.launcher.preload.own import OwnProgram  # noqa: PLC0415 - as above

        (program, stderr), *earlier = self.programs
        return OwnProgram(program, stderr, self._preload, [packet for packet, _ in earlier], self.orphans)


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
