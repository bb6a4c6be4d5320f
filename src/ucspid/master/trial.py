"""python -I -m ucspid.master.trial STATE COUNTS CONFIG PROGRESS: say whether this code would come up.

The master that is to be replaced runs this, from the code that is installed now. STATE is a
descriptor with a copy of its state, COUNTS that of the counts. Everything that the new master and its
loop would do is tried, but for what touches the running daemon: the state is understood, the counts
are looked at, the file read, each role started once. What it is at is said in PROGRESS, memory too.
Prints the version; or on standard error why not, and exits with 111, or 100 if the file is wrong.
"""

import os
import select
import sys

from ucspid import __version__
from ucspid.config.load import load
from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE, ConfigError, ResourceError, UcspidError
from ucspid.ipc import counters, session_table
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.ipc.progress import progress
from ucspid.master import resume, roles
from ucspid.plan import LauncherKind
from ucspid.policy.exit_status import exit_code, in_words
from ucspid.profile import Profile

TIMEOUT = 15.0
"""Seconds for a role to be ready."""


def main(arguments: list[str]) -> int:
    """Try; return the exit code."""
    memory, counts, config = int(arguments[0]), int(arguments[1]), arguments[2]
    progress.descriptor = int(arguments[3])
    try:
        resume.understand(memory)
        counters.check(counts)
        plan = load(config)
        _try_loop()
        _try_launcher(plan.launcher)
    except ConfigError as problem:
        sys.stderr.write(f"{problem}\n")
        return EXIT_USAGE
    except (UcspidError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return EXIT_SYSTEM
    sys.stdout.write(__version__)
    return 0


def _try_loop() -> None:
    """Start a loop that is sent no orders: it reports that it is ready, and exits with this process."""
    progress.at("the start of an event loop")
    ours, theirs = pair()
    with theirs:
        pid = roles.start_loop(theirs.fileno())
    with ours:
        packet = _answer(Channel(ours))
    _ended(pid, "the event loop")
    if packet != wire.Note.head(wire.NOTE_READY, wire.VERSION, 0):
        raise ResourceError("the event loop does not start")


def _try_launcher(kind: LauncherKind) -> None:
    """Start a launcher that keeps the privileges that we have, and has no program."""
    progress.at("the start of a launcher")
    (ours, theirs), (loop_end, own_end) = pair(), pair()
    memory = os.memfd_create("ucspid-trial", os.MFD_CLOEXEC)
    os.ftruncate(memory, session_table.SIZE)
    with theirs, own_end:
        pid = roles.start_launcher(kind, theirs.fileno(), own_end.fileno(), memory)
    orders = wire.TakePrivileges(wire.VERSION, nofile=256, title="ucspid: trial", profile=Profile())
    with ours, loop_end:
        channel = Channel(ours)
        channel.send(orders.pack())
        packet = _answer(channel)
    _ended(pid, "a launcher")
    if packet != wire.Ready(wire.VERSION).pack():
        raise ResourceError("a launcher does not start")


def _answer(channel: Channel) -> bytes:
    """Return the first packet of a role, nothing if it ends or says nothing."""
    ready, _, _ = select.select([channel], [], [], TIMEOUT)
    return (channel.receive_packet() or b"") if ready else b""


def _ended(pid: int, what: str) -> None:
    """Wait for a role to end: it does, when nobody is at the other end."""
    _pid, status = os.waitpid(pid, 0)
    if status != 0:
        raise ResourceError(f"{what} does not start: {in_words(exit_code(status))}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
