"""What a TLS process does with what the master and the loop send."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from tls_contexts import chain
from ucspid.errors import WireError
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import Channel, pair
from ucspid.plan import CertificateFiles, TlsContext
from ucspid.policy.tls_context import context_number
from ucspid.tls import main, material
from ucspid.tls.material import ContextMaterial, TlsMaterial
from ucspid.tls.ticket_keys import TicketKeys, TicketSecret
from ucspid.tls.tickets import Tickets

CONTEXT = TlsContext(certificates=(CertificateFiles(path="/x"),))
ROOM = 2


class Rig:
    """The process, in the test's own, and the other ends of its channels."""

    def __init__(self) -> None:
        (master, ours), (loop, theirs) = pair(), pair()
        self.master, self.loop = Channel(master), Channel(loop)
        tickets = Tickets(TicketKeys(TicketSecret.first(bytes(32), time.time())))
        most = main.SPARE_DESCRIPTORS + ROOM * main.DESCRIPTORS_OF_SESSION
        self.process = main.TlsProcess(Channel(ours), Channel(theirs), tickets, most)
        self.ends = [master, loop, ours, theirs]

    def use(self, number: int, text: bytes | None = None) -> bytes | None:
        """Send certificates, or something else in their place; return the answer."""
        memory = os.memfd_create("test")
        one = ContextMaterial(context=CONTEXT, chains=(0,))
        material.write(memory, TlsMaterial(chains=(chain("mail"),), contexts=(one,)))
        if text is not None:
            os.truncate(memory, 0)
            os.pwrite(memory, text, 0)
        self.master.send(wire.UseMaterial(number).pack(), (memory,))
        os.close(memory)
        self.rounds()
        return self.master.receive_packet()

    def connect(self, number: int, context: int = context_number(CONTEXT)) -> socket.socket:
        """Send a connection; return its client's end."""
        client, servers = socket.socketpair()
        plain, program = socket.socketpair()
        with servers, plain, program:
            order = wire.Secure(False, False, 60_000, context, number)
            self.loop.send(order.pack(), (servers.fileno(), plain.fileno()))
        self.ends.append(client)
        return client

    def rounds(self, count: int = 5) -> None:
        for _ in range(count):
            self.process.run_once(wait=False)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.process.sessions.close()
    for sock in made.ends:
        sock.close()


def test_certificates_are_answered_with_their_number(rig: Rig) -> None:
    assert rig.use(7) == wire.MaterialTaken(7).pack()


@pytest.mark.parametrize("text", [b"", b"{}", b"junk", b'{"chains": [], "contexts": [{}]}'])
def test_what_are_no_certificates_changes_nothing(rig: Rig, text: bytes) -> None:
    rig.use(1)
    answer = rig.use(2, text)
    assert answer is not None
    assert wire.MaterialRefused.unpack(answer).number == 2
    rig.connect(1)
    rig.rounds()
    assert len(rig.process.sessions) == 1


def test_a_connection_whose_certificates_are_not_there_is_refused(rig: Rig) -> None:
    client = rig.connect(5, context=1)
    rig.rounds()
    packet = rig.loop.receive_packet()
    assert packet is not None
    assert wire.NotSecured.unpack(packet).connection == 5
    assert client.recv(1) == b""


def test_no_more_connections_are_taken_than_there_are_descriptors_for(rig: Rig) -> None:
    rig.use(1)
    clients = [rig.connect(number) for number in range(ROOM + 2)]
    rig.rounds()
    assert len(rig.process.sessions) == ROOM
    clients[0].close()
    rig.rounds()
    assert len(rig.process.sessions) == ROOM
    for client in clients:
        client.close()
    rig.rounds(20)
    assert len(rig.process.sessions) == 0


@pytest.mark.parametrize("sends", ["master", "loop"])
def test_what_none_of_them_sends_ends_the_process(rig: Rig, sends: str) -> None:
    channel = rig.master if sends == "master" else rig.loop
    channel.send(b"\xffjunk")
    with pytest.raises(WireError):
        rig.rounds()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_connection_has_as_many_sockets_as_it_needs(rig: Rig, count: int) -> None:
    rig.use(1)
    sockets = [socket.socket() for _ in range(count)]
    order = wire.Secure(False, False, 1000, context_number(CONTEXT), 1)
    rig.loop.send(order.pack(), tuple(sock.fileno() for sock in sockets))
    rig.ends += sockets
    with pytest.raises(WireError, match=f"{count} descriptors"):
        rig.rounds()


def test_it_ends_when_it_is_to_drain_and_has_no_connection(rig: Rig) -> None:
    rig.use(1)
    client = rig.connect(1)
    rig.rounds()
    rig.master.send(wire.Drain().pack())
    rig.rounds()
    client.close()
    rig.process.run()


def test_it_ends_with_the_loops_channel_and_drains_without_the_master(rig: Rig) -> None:
    rig.master.close()
    rig.rounds()
    rig.loop.close()
    rig.process.run()


def test_a_process_answers_the_master(rig: Rig) -> None:
    rig.master.send(wire.Ping().pack())
    rig.rounds()
    assert rig.master.receive_packet() == wire.Pong().pack()
