"""The event loop's process: the one that meets the network. `python -I -m ucspid.loop`.

Started by the master with the channel to it as descriptor 3. It says when everything is imported,
and waits: perhaps for another loop to exit. The first packet says how to log, as whom to run,
and brings the counts' memory and the control socket; then privileges are dropped, what the loop will
not need is forbidden to it, and it begins. It never forks, has no children, and never waits.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from array import array
from functools import partial
from typing import TYPE_CHECKING, Any

import uvloop

from ucspid.control.access import ControlAccess
from ucspid.control.audit import Audit
from ucspid.control.bans import BanVerbs
from ucspid.control.master_client import MasterClient
from ucspid.control.server import ControlServer
from ucspid.control.verb_table import verb_table
from ucspid.ipc import messages as wire
from ucspid.ipc import orders
from ucspid.ipc.ban_memory import BanMemory
from ucspid.ipc.channel import Channel
from ucspid.ipc.counters import Counters
from ucspid.linux import landlock, prctl, privileges, seccomp
from ucspid.linux.fd_limit import close_above, raise_limit
from ucspid.linux.thread_stacks import bound_stacks
from ucspid.lookup.ident import PORT as IDENT
from ucspid.net.endpoint import Endpoint
from ucspid.observe import events, log
from ucspid.observe.journal import Journal
from ucspid.observe.pseudonyms import DailyKey, Pseudonyms
from ucspid.profile import Profile

if TYPE_CHECKING:
    from ucspid.lookup.names import Names

MASTER = 3
DNS = 53
LOG_TIMEOUT = 2.0
"""Seconds for the rest of the log at the end."""


def main() -> int:
    """Get ready, drop privileges, and run until the master has no more use for the loop."""
    os.setsid()
    prctl.set_title("ucspid: loop")
    close_above(MASTER)
    os.set_inheritable(MASTER, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, MASTER))
    channel.sock.setblocking(True)
    channel.send(wire.Note.head(wire.NOTE_READY, wire.VERSION, 0))
    packet, ancillary, _flags, _ = channel.sock.recvmsg(
        wire.MAX_PACKET, socket.CMSG_SPACE(5 * array("i").itemsize), socket.MSG_CMSG_CLOEXEC
    )
    if not packet:
        return 0
    first = orders.unpack(packet)
    assert isinstance(first, orders.Begin)
    new_names = _import_lookup() if first.looks_up else None
    counts, bans, log_key, *control = array("i", ancillary[0][2])
    journal = Journal.of_stderr(control.pop(0) if first.log_relay else None)
    _take_limits(first)
    confined = _confine(first)  # before there are threads, which Landlock would not hold
    output = log.configure(
        2,
        first.log_format,
        first.log_level,
        journal=journal,
        pseudonyms=_pseudonyms(first, log_key),
        started=first.log_started,
    )
    os.close(log_key)
    events.loop_confined(output.logger, **confined)
    counters = Counters(counts)
    ban_memory = BanMemory(bans)
    os.close(bans)
    if counters.cleared:
        events.counts_cleared(output.logger)
    # What is here now stays, and need not be gone through again each time that garbage is collected.
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    try:
        uvloop.run(_run(channel, output, first, counters, ban_memory, control, new_names))
    finally:
        output.close(LOG_TIMEOUT)
    return 0


def _import_lookup() -> "type[Names]":
    """Import what only a plan that looks names up needs: it is a tenth of the start, and a megabyte."""
    import encodings.idna  # noqa: F401, PLC0415 - uvloop asks for it later, when its file may be out of reach

    from ucspid.lookup.names import Names  # noqa: PLC0415 - see above

    return Names


def _pseudonyms(first: orders.Begin, key: int) -> Pseudonyms | None:
    """Return what is to be shown of clients in place of their addresses, if anything is."""
    if first.log_clients == "full":
        return None
    return Pseudonyms(first.log_clients, DailyKey(key) if first.log_clients == "hashed" else None)


def _take_limits(first: orders.Begin) -> None:
    """Take what the work needs of descriptors, and no privilege it does not need."""
    raise_limit()
    bound_stacks()
    privileges.take(Profile(uid=first.uid, gid=first.gid, groups=first.groups, cwd="/"))
    prctl.give_up_capabilities()


def _confine(first: orders.Begin) -> dict[str, Any]:
    """Drop what the loop never does; return what the kernel has for that.

    The loop asks name servers and ident servers where the plan wants that, and has no connections of
    its own otherwise. The file's name servers are those of this process for good: others, or a plan
    that asks more, mean another process.
    """
    dns, ident = first.asks_dns, first.asks_ident
    servers = {DNS, *(Endpoint.parse(server).port for server in first.nameservers)} if dns else set()
    prctl.forbid_new_privileges()
    return {
        "landlock": landlock.restrict(servers | {IDENT} if ident else servers, servers, bind=ident),
        "seccomp": seccomp.restrict(seccomp.Outgoing(tcp=dns or ident, udp=dns, bind=ident)),
    }


async def _run(
    channel: Channel,
    output: log.LogOutput,
    first: orders.Begin,
    counters: Counters,
    ban_memory: BanMemory,
    control: list[int],
    new_names: "type[Names] | None",
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: events.internal_error(output.logger, context))
    finished = asyncio.Event()

    def alone() -> None:
        if first.stop == "exit":
            output.go_on_alone()
        else:
            events.master_lost(output.logger)
        # Whoever started the daemon will start another, and that needs the control socket's place.
        server.stop()

    def others() -> set[int]:
        return link.descriptors | server.descriptors

    names = None if new_names is None else new_names.asking(list(first.nameservers))
    link = MasterClient(channel, output, names, counters, finished.set, alone)
    audit = Audit(link.server, names, others)
    bans = BanVerbs(link.server.services, ban_memory, output.logger)
    verbs = verb_table(link, first, output, bans, audit)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, control[0]) if control else None
    access = ControlAccess(first.owner, first.control_group, first.control_mode)
    server = ControlServer(listening, verbs, access.rights, access.words)
    link.planned = partial(server.start, loop)  # clients wait until there is something to ask about
    link.adopt = server.adopt
    await finished.wait()
    if names is not None:
        await names.close()
    await server.close()


if __name__ == "__main__":
    sys.exit(main())
