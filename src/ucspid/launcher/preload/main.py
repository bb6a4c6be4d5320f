"""The launcher of a preloaded program, under the service's interpreter: its forks become the program.

Descriptors are as in a launcher, and privileges are taken. Standard output and input are a silent socket, so
that Python's files on them are as it makes them for a client's.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from functools import partial

from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel
from ucspid.ipc.session_table import Table
from ucspid.launcher.preload import session
from ucspid.launcher.preload.changes import Changes
from ucspid.launcher.preload.forked import ForkedProgram, Lent
from ucspid.launcher.preload.program import CannotLoadError, PythonProgram
from ucspid.launcher.preload.spare import Spare
from ucspid.launcher.programs import Programs
from ucspid.launcher.serve import Launcher
from ucspid.linux import prctl

MASTER, LOOP, TABLE = 3, 4, 5


def main(
    program: bytes,
    preload: bytes,
    earlier: list[bytes],
    orphans: list[int],
    title: str,
    limits: dict[str, int | None],
    dumpable: bool,
) -> int:
    """Import the program, report it, and serve; the arguments are as Handover has them."""
    for descriptor in (MASTER, LOOP, TABLE):
        os.set_inheritable(descriptor, False)
    signalfd = prctl.open_signalfd({signal.SIGCHLD})
    master = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, MASTER))
    loop = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, LOOP))
    table = Table(TABLE)
    os.close(TABLE)  # what is mapped stays
    orders = wire.SetProgram.unpack(program)
    imports = wire.Preload.unpack(preload)
    lent = Lent(limits, orders, _show(title, orders, own=imports.own), dumpable=dumpable)
    spare = Spare()
    prctl.set_dumpable(dumpable)
    try:
        python = PythonProgram(imports, orders.arguments)
        changes = Changes(python.began) if python.watched else None
    except CannotLoadError as problem:
        master.send(wire.CannotLoad(str(problem)).pack())
        return EXIT_USAGE
    except OSError as problem:
        master.send(wire.CannotLoad(_not_watched(problem)).pack())
        return EXIT_USAGE

    def abandon() -> None:
        launcher.abandon()
        spare.abandon()

    programs = Programs(partial(ForkedProgram, lent, spare, abandon, partial(session.run, python)))
    launcher = Launcher(master, loop, table, signalfd, programs)
    launcher.programs.set(program, _copy_of_stderr(orders))
    for packet in earlier:
        launcher.hear_master(packet, [])
    launcher.sessions.take_over(set(orphans))
    launcher.when_quiet(spare)
    master.send(wire.Ready(wire.VERSION).pack())
    if changes is not None:
        launcher.listen(changes.fileno(), partial(_report, changes, master))
        if changes.already:
            master.send(wire.Changed().pack())
    return _serve(launcher)


def _not_watched(problem: OSError) -> str:
    where = f": {problem.filename}" if problem.filename else ""
    return f"watch: {problem.strerror}{where}; see fs.inotify of sysctl(8), or leave watch out"


def lent_limits(orders: wire.TakePrivileges) -> dict[str, int | None]:
    """Return the soft limits that forks have and their launcher has not."""
    limits = {"nofile": orders.nofile, **dict(orders.profile.rlimits)}
    return {name: limits[name] for name in ("nofile", "cpu") if name in limits}


def _serve(launcher: Launcher) -> int:
    gc.collect()
    gc.freeze()
    try:
        launcher.run()
    except WireError as problem:
        os.write(2, b"ucspid: launcher: %s\n" % str(problem).encode())
        return EXIT_SYSTEM
    return 0


def _show(title: str, orders: wire.SetProgram, *, own: bool) -> tuple[bytes, bytes, tuple[int, int]]:
    """Show the launcher's title; return what a program shows, as if it had been executed."""
    area = (0, 0)
    with contextlib.suppress(OSError):  # no /proc below another root directory
        area = prctl.arguments_area()
    prctl.show_title(title.encode(), title.encode(), area)
    words = orders.arguments if own else (os.fsencode(sys.executable), *orders.arguments)
    return os.path.basename(words[0]), b"\0".join(words), area


def _copy_of_stderr(orders: wire.SetProgram) -> list[int]:
    """Return the descriptor that is to be beside the program's order: the process has it as its own."""
    return [os.dup(2)] if orders.stderr == wire.STDERR_GIVEN else []


def _report(changes: Changes, master: Channel) -> None:
    if changes.read():
        master.send(wire.Changed().pack())
