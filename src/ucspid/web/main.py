"""The web process: `python -I -m ucspid.web.main UID GID GROUPS`, started by the master.

Descriptor 3 is the listening socket, 4 and 5 are connections to the event loop, for requests and for
events. A - leaves what it stands for as it is, groups have commas between them. It takes its user,
begins to serve, and is then confined as the event loop is. It ends with the event loop; the master
starts another.
"""

import asyncio
import os
import signal
import socket
import sys

from aiohttp import web

from ucspid.errors import EXIT_SYSTEM, EXIT_USAGE
from ucspid.linux import landlock, prctl, privileges, seccomp
from ucspid.linux.fd_limit import close_above
from ucspid.net.address import Networks
from ucspid.profile import Profile
from ucspid.web.feed import Feed
from ucspid.web.server import StatusServer

LISTENER, REQUESTS, EVENTS = 3, 4, 5
ARGUMENTS = 3
SHUTDOWN = 1.0
"""Seconds that requests have when the process ends."""


def main(arguments: list[str]) -> int:
    """Serve until the event loop is gone; return the exit code."""
    if len(arguments) != ARGUMENTS:
        sys.stderr.write("usage: python -I -m ucspid.web.main UID GID GROUPS\n")
        return EXIT_USAGE
    os.setsid()
    prctl.set_title("ucspid: web")
    close_above(EVENTS)
    for descriptor in (LISTENER, REQUESTS, EVENTS):
        os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    uid, gid, groups = arguments
    try:
        privileges.take(Profile(uid=_number(uid), gid=_number(gid), groups=_numbers(groups), cwd="/"))
    except privileges.CannotTake as refused:
        sys.stderr.write(f"the web process cannot become its user: {refused}\n")
        return EXIT_SYSTEM
    prctl.give_up_capabilities()
    prctl.forbid_new_privileges()
    asyncio.run(_serve())
    return 0


async def _serve() -> None:
    listening = socket.socket(fileno=LISTENER)
    feed = Feed(socket.socket(fileno=REQUESTS), socket.socket(fileno=EVENTS))
    server = StatusServer(feed, loopback=_is_loopback(listening))
    runner = web.AppRunner(server.app, access_log=None, tcp_keepalive=False, handle_signals=False)
    await runner.setup()
    await web.SockSite(runner, listening, shutdown_timeout=SHUTDOWN).start()
    await feed.begin()
    # From here on (not with uvloop, which has opened by now what the filter forbids to use): before anything
    landlock.restrict((), (), bind=False)
    seccomp.restrict(seccomp.Outgoing(tcp=False, udp=False, bind=False))
    await feed.ended.wait()


def _is_loopback(listening: socket.socket) -> bool:
    if listening.family == socket.AF_UNIX:
        return False
    return listening.getsockname()[0] in Networks(["127.0.0.0/8", "::1"])


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def _numbers(text: str) -> tuple[int, ...] | None:
    return None if text == "-" else tuple(int(item) for item in text.split(",") if item)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
