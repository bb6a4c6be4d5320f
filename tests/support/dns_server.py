"""A DNS server on loopback, over UDP and TCP on the same port, in a thread of its own."""

import asyncio
import contextlib
import functools
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Behaviour = Callable[[dns.message.Message], list[bytes]]
"""What comes back for a question: any number of packets."""
Zone = Mapping[str, list[str] | Behaviour]
"""By "NAME TYPE": records as in a zone file, or how the server misbehaves. A CNAME stands for every type."""

TTL = 300
EVERYTHING = "*"
DEADLINE = 10.0
UDP_SIZE = 512


@dataclass
class DnsServer:
    """The server, as a test sees it; the zone may be changed at any time."""

    address: str
    zone: dict[str, list[str] | Behaviour]
    asked: Counter[str] = field(default_factory=Counter)

    def answer(self, query: bytes, *, tcp: bool) -> list[bytes]:
        question = dns.message.from_wire(query)
        name, kind = question.question[0].name, question.question[0].rdtype
        self.asked[f"{text(name)} {dns.rdatatype.to_text(kind)}{' tcp' if tcp else ''}"] += 1
        behaviour = self.zone.get(f"{text(name)} {dns.rdatatype.to_text(kind)}", self.zone.get(EVERYTHING))
        if callable(behaviour):
            return behaviour(question)
        response = self._look_up(question, name, kind)
        packet = response.to_wire(max_size=65535, want_shuffle=False)
        if not tcp and len(packet) > UDP_SIZE:
            response.answer.clear()
            response.flags |= dns.flags.TC
            packet = response.to_wire()
        return [packet]

    def _look_up(
        self, question: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> dns.message.Message:
        response = reply(question)
        while (alias := self.zone.get(f"{text(name)} CNAME")) is not None:
            assert isinstance(alias, list)
            response.answer.append(records(name, dns.rdatatype.CNAME, alias))
            name = dns.name.from_text(alias[0])
        found = self.zone.get(f"{text(name)} {dns.rdatatype.to_text(kind)}")
        if found:
            assert isinstance(found, list)
            response.answer.append(records(name, kind, found))
        elif not any(key.partition(" ")[0] == text(name) for key in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


def text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def reply(question: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(question)
    response.flags |= dns.flags.RA
    return response


def records(name: dns.name.Name, kind: dns.rdatatype.RdataType, texts: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name, TTL, dns.rdataclass.IN, kind, texts)


def everything(behaviour: Behaviour) -> Zone:
    """Return a zone in which one behaviour stands for all there is."""
    return {EVERYTHING: behaviour}


def silent(_question: dns.message.Message) -> list[bytes]:
    """Do not answer."""
    return []


def failing(question: dns.message.Message) -> list[bytes]:
    """Answer that the server cannot say."""
    response = reply(question)
    response.set_rcode(dns.rcode.SERVFAIL)
    return [response.to_wire()]


def lying(liars_name: str, honest_name: str) -> Behaviour:
    """Answer under a wrong number, then to another question, and at last rightly."""

    def behave(question: dns.message.Message) -> list[bytes]:
        asked = question.question[0].name
        lie = reply(question)
        lie.answer.append(records(asked, dns.rdatatype.PTR, [liars_name]))
        wrong_id = bytearray(lie.to_wire())
        wrong_id[0] ^= 0xFF
        other = dns.message.make_query("1.1.1.1.in-addr.arpa.", dns.rdatatype.PTR, id=question.id)
        other_question = reply(other)
        other_question.answer.append(records(other.question[0].name, dns.rdatatype.PTR, [liars_name]))
        truth = reply(question)
        truth.answer.append(records(asked, dns.rdatatype.PTR, [honest_name]))
        return [bytes(wrong_id), other_question.to_wire(), truth.to_wire()]

    return behave


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for packet in self._server.answer(data, tcp=False):
            self._transport.sendto(packet, addr)


async def _serve_tcp(server: DnsServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            for answer in server.answer(packet, tcp=True):
                writer.write(len(answer).to_bytes(2) + answer)
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()
        await writer.wait_closed()


def bound_sockets(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return a listening TCP and a UDP socket with one port, any that is free if port is 0."""
    while True:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        tcp = socket.create_server((host, port), family=family)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            if port:
                raise
        else:
            return tcp, udp


async def _serve(
    server: DnsServer, tcp: socket.socket, udp: socket.socket, ready: Callable[[Callable[[], object]], None]
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(server), sock=udp)
    connections: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        await _serve_tcp(server, reader, writer)
        connections.discard(task)

    listener = await asyncio.start_server(client, sock=tcp)
    ready(functools.partial(loop.call_soon_threadsafe, stop.set))
    await stop.wait()
    transport.close()
    listener.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


@contextlib.contextmanager
def serving(
    zone: Zone,
    host: str = "127.0.0.1",
    port: int = 0,
    sockets: tuple[socket.socket, socket.socket] | None = None,
) -> Iterator[DnsServer]:
    """Serve a zone until the end of the block, on sockets that bound_sockets() made somewhere or here.

    Raises OSError if the port cannot be had.
    """
    tcp, udp = sockets or bound_sockets(host, port)
    host, port = tcp.getsockname()[:2]
    server = DnsServer(f"{host}:{port}", dict(zone))
    started = threading.Event()
    stops: list[Callable[[], object]] = []

    def ready(stop: Callable[[], object]) -> None:
        stops.append(stop)
        started.set()

    thread = threading.Thread(target=lambda: asyncio.run(_serve(server, tcp, udp, ready)))
    thread.start()
    try:
        assert started.wait(DEADLINE)
        yield server
    finally:
        for stop in stops:
            stop()
        thread.join(DEADLINE)
