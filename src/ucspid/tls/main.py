"""The TLS process: holds keys, shakes hands, copies. `python -I -m ucspid.tls.main`.

Started by the master with the channels to it and to the event loop as descriptors 3 and 4. It takes its
privileges when the master says which, and forbids itself the rest. It never forks, opens no
connection, and writes nothing. It exits when it is to drain and its last connection has ended.
"""

import hmac  # noqa: F401 - ticket_keys asks for it later, when its file is out of reach
import os
import resource
import signal
import socket
import sys
import time

from ucspid.errors import EXIT_SYSTEM, WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, close_all, seqpacket
from ucspid.linux import landlock, prctl, privileges, seccomp
from ucspid.linux.fd_limit import close_above, raise_limit
from ucspid.profile import Profile
from ucspid.tls import material
from ucspid.tls.contexts import Contexts
from ucspid.tls.session import TlsSession
from ucspid.tls.sessions import TlsSessions
from ucspid.tls.ticket_keys import TicketKeys, TicketSecret
from ucspid.tls.tickets import Tickets

MASTER, LOOP = 3, 4

MAX_UNREAD = 1000
"""Ends of connections that may wait for an event loop that reads nothing; further ones are not reported."""


DESCRIPTORS_OF_SESSION = 3
"""At most: the client's socket, the program's end, and until it is secured a control socket."""

SPARE_DESCRIPTORS = 64
"""For all else. A packet whose descriptors find no place would be the end of the process."""


class TlsProcess:
    """The process at work: what the master and the loop send, and what they are sent."""

    def __init__(self, master: Channel, loop: Channel, tickets: Tickets, max_descriptors: int) -> None:
        """Serve both; max_descriptors is how many the process may have."""
        self.done = False
        self._max_sessions = max(1, (max_descriptors - SPARE_DESCRIPTORS) // DESCRIPTORS_OF_SESSION)
        self.sessions = TlsSessions(self._handshaking)
        self._master, self._loop = master, loop
        self._tickets = tickets
        self._contexts = Contexts(tickets)
        self._draining = False
        self.sessions.watch(master.sock, self.hear_master)
        self.sessions.watch(loop.sock, self._hear_loop)

    def run(self) -> None:
        """Work until there is nothing more to do."""
        while not (self.done or (self._draining and not len(self.sessions))):
            self._tickets.keys.turn(time.time())
            self.run_once()
        self.sessions.close()

    def run_once(self, *, wait: bool = True) -> None:
        """Do one round, see TlsSessions; connections are taken while there are descriptors for them."""
        room = len(self.sessions) < self._max_sessions
        self.sessions.expect(self._loop.sock, reading=room, writing=self._loop.backed_up)
        self.sessions.run_once(wait=wait)

    def _handshaking(self, session: TlsSession) -> None:
        self._tickets.context = session.context_number

    # The master

    def hear_master(self) -> None:
        """Take what the master has sent; raises WireError for what it never sends."""
        received = self._master.receive()
        if received is None:
            return
        packet, descriptors = received
        if not packet:
            self._begin_to_drain()
            self.sessions.forget(self._master.sock)
        elif packet[0] == wire.UseMaterial.KIND:
            self._use(wire.UseMaterial.unpack(packet).number, descriptors)
        elif packet[0] == wire.Ping.KIND:
            self._master.send(wire.Pong().pack())
        elif packet[0] == wire.Drain.KIND:
            self._begin_to_drain()
        else:
            raise WireError(f"the master sent a message of kind {packet[0]}")
        close_all(descriptors)

    def _use(self, number: int, descriptors: list[int]) -> None:
        try:
            (memory,) = descriptors
            self._contexts.take(material.read(memory))
        except (ValueError, TypeError, KeyError, OSError) as problem:  # ssl.SSLError is an OSError
            self._master.send(wire.MaterialRefused(number, str(problem)).pack())
        else:
            self._master.send(wire.MaterialTaken(number).pack())

    def _begin_to_drain(self) -> None:
        self._draining = True

    # The loop

    def _hear_loop(self) -> None:
        self._loop.flush()
        if len(self.sessions) >= self._max_sessions:
            return
        received = self._loop.receive()
        if received is None:
            return
        packet, descriptors = received
        if not packet:
            self.done = True  # the master holds the other end: it is gone, too
            return
        # The family does not matter for what is done with them; a guess is spared that costs four calls each.
        sockets = [
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor) for descriptor in descriptors
        ]
        try:
            self._secure(wire.Secure.unpack(packet), sockets)
        except (WireError, ValueError) as problem:
            for sock in sockets:
                sock.close()
            if isinstance(problem, WireError):
                raise

    def _secure(self, order: wire.Secure, sockets: list[socket.socket]) -> None:
        """Take a connection. Raises ValueError if there is no such context any more."""
        if len(sockets) != (3 if order.starttls else 2):
            raise WireError(f"{len(sockets)} descriptors for a connection")
        client, program, *command = sockets
        context = self._contexts.get(order.context)
        if context is None:
            refused = wire.NotSecured(order.connection, "its certificates are not in use any more")
            self.report(refused.pack())
            raise ValueError(order.context)
        session = TlsSession(order, (client, program), command[0] if command else None, context, self.report)
        if not command:
            session.begin(time.monotonic())
        self.sessions.add(session)

    def report(self, packet: bytes) -> None:
        """Send the loop a message."""
        if packet[0] == wire.SecureEnd.KIND and self._loop.backlog > MAX_UNREAD:
            return
        self._loop.send(packet)


def main() -> int:
    """Take privileges, forbid everything else, work; return the exit status."""
    os.setsid()
    prctl.set_title("ucspid: tls")
    close_above(LOOP)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    master, loop = Channel(seqpacket(MASTER)), Channel(seqpacket(LOOP))
    for channel in (master, loop):
        os.set_inheritable(channel.fileno(), False)
    first = _first(master)
    if first is None:
        return 0
    raise_limit()
    privileges.take(Profile(uid=first.uid, gid=first.gid, groups=first.groups, cwd="/"))
    prctl.give_up_capabilities()
    prctl.set_dumpable(False)
    tickets = Tickets(TicketKeys(TicketSecret(first.period, bytes.fromhex(first.secret))))
    prctl.forbid_new_privileges()
    landlock.restrict((), (), bind=False)
    seccomp.restrict(seccomp.Outgoing(tcp=False, udp=False, bind=False))
    # A client that asks for a name that is not text would have this printed. Its handshake fails.
    sys.unraisablehook = lambda _problem: None
    process = TlsProcess(master, loop, tickets, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    master.send(wire.Ready(wire.VERSION).pack())
    try:
        process.run()
    except WireError as problem:
        sys.stderr.write(f"ucspid: tls: {problem}\n")
        return EXIT_SYSTEM
    return 0


def _first(master: Channel) -> wire.TakeTlsRights | None:
    """Wait for the master's first message; None if it is gone."""
    master.sock.setblocking(True)
    packet = master.sock.recv(wire.MAX_PACKET)
    return wire.TakeTlsRights.unpack(packet) if packet else None


if __name__ == "__main__":
    sys.exit(main())
