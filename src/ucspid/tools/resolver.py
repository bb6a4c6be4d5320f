"""Asks name servers, as the resolver of the originals does: those of DNSCACHEIP or /etc/resolv.conf.

Every server is asked by UDP, in three rounds of 3, 11 and 45 seconds, and by TCP if its reply was cut. In
the second round a server that fails is given its 11 seconds all the same: others it asks may come back.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import time

from ucspid.tools import domain
from ucspid.tools.options import ipv4
from ucspid.tools.sockets import packed_ipv6, wait

PORT = 53
MAX_SERVERS = 16
MAX_CONFIG = 65536
"""Bytes of a file that are looked at."""
ROUNDS = (3, 11, 45)
"""Seconds that each server has, in each round."""
PATIENT_ROUND = 1
TCP_SECONDS = 10
MAX_UDP = 512
RESOLV_CONF = "/etc/resolv.conf"


def look_up(name: bytes, kind: int, rounds: int = len(ROUNDS)) -> bytes:
    """Return the reply to a question; name is as in packets. Raises OSError: why the last try failed."""
    reason = OSError(errno.EIO, "no name server")
    servers = name_servers()
    for number, seconds in enumerate(ROUNDS[:rounds]):
        for server in servers:
            try:
                packet, asked = _ask_by_udp(server, name, kind, seconds, patient=number == PATIENT_ROUND)
            except OSError as error:
                reason = error
                continue
            if domain.is_truncated(packet):
                return _ask_all_by_tcp(servers, asked)
            return packet
    raise reason


def name_of(address: bytes) -> bytes:
    """Return the name of an address of 4 or 16 bytes, empty if it has none. Raises OSError."""
    return domain.first_name(look_up(domain.reverse(address), domain.PTR))


def addresses_of(name: bytes, kind: int = domain.A, rounds: int = len(ROUNDS)) -> list[bytes]:
    """Return the addresses of a name, or those it consists of, in random order. Raises OSError."""
    written = domain.literal(name)
    if written is not None:
        return written if kind == domain.A else []
    return shuffled(domain.addresses(look_up(domain.encode(name), kind, rounds), kind))


def texts_of(name: bytes) -> bytes:
    """Return the texts of a name, empty if it has none. Raises OSError."""
    return domain.texts(look_up(domain.encode(name), domain.TXT))


def shuffled(items: list[bytes]) -> list[bytes]:
    """Return some items in random order."""
    rest = list(items)
    return [rest.pop(int.from_bytes(os.urandom(4)) % len(rest)) for _ in items]


def name_servers() -> list[str]:
    """Return the addresses of the servers to ask. Raises OSError if the file cannot be read."""
    servers = _from_environment(os.environb.get(b"DNSCACHEIP", b""))
    if not servers:
        for line in read_lines(RESOLV_CONF) or []:
            if line.startswith((b"nameserver ", b"nameserver\t")):
                servers += _server(line[len(b"nameserver ") :].strip(b" \t"))
    return servers[:MAX_SERVERS] or ["127.0.0.1"]


def read_lines(path: str | bytes) -> list[bytes] | None:
    """Return the lines of a file, None if it is not there. Raises OSError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return (file.read(MAX_CONFIG) or b"").split(b"\n")
    except FileNotFoundError:
        return None


def _from_environment(text: bytes) -> list[str]:
    """Return the addresses of DNSCACHEIP: IPv4, with dots between them, or one of IPv6."""
    if b":" in text:
        return _server(text)
    servers = []
    while scanned := ipv4(text := text.lstrip(b".")):
        address, text = scanned
        servers.append(".".join(map(str, address)))
    return servers


def _server(text: bytes) -> list[str]:
    """Return the address that a text begins with, none if it is not one."""
    if b":" in text:
        word = text.split()[0]
        return [] if packed_ipv6(word) is None else [word.decode()]
    address = ipv4(text)
    return [] if address is None else [".".join(map(str, address[0]))]


def _connect(sock: _socket.socket, server: str) -> None:
    """Connect without waiting for it. Raises OSError."""
    sock.setblocking(False)
    failure = sock.connect_ex((server, PORT))
    if failure not in {0, errno.EINPROGRESS}:
        raise OSError(failure, os.strerror(failure))


def _open(server: str, kind: int) -> _socket.socket:
    return _socket.socket(_socket.AF_INET6 if ":" in server else _socket.AF_INET, kind)


def _ask_by_udp(server: str, name: bytes, kind: int, seconds: float, *, patient: bool) -> tuple[bytes, bytes]:
    """Return the reply of a server and what it was asked. Raises OSError."""
    asked = domain.query(os.urandom(2), name, kind)
    deadline = time.monotonic() + seconds
    sock = _open(server, _socket.SOCK_DGRAM)
    try:
        _connect(sock, server)
        sock.send(asked)
        while True:
            wait(sock, select.POLLIN, deadline)
            try:
                packet = _reply(sock, asked)
            except OSError:
                if not patient:
                    raise
                continue
            if packet:
                return packet, asked
    finally:
        sock.close()


def _reply(sock: _socket.socket, asked: bytes) -> bytes:
    """Return what has come if it is a reply, otherwise nothing. Raises OSError if the server failed."""
    packet = sock.recv(MAX_UDP + 1)
    if len(packet) > MAX_UDP or not domain.answers_to(packet, asked):
        return b""
    if domain.failed(packet) and not domain.is_truncated(packet):
        raise _server_failed()
    return packet


def _server_failed() -> OSError:
    return OSError(errno.EAGAIN, "the server failed")


def _ask_all_by_tcp(servers: list[str], asked: bytes) -> bytes:
    reason = OSError(errno.EIO, "no name server")
    for server in servers:
        try:
            packet = _ask_by_tcp(server, os.urandom(2) + asked[2:])
        except OSError as error:
            reason = error
            continue
        return packet
    raise reason


def _ask_by_tcp(server: str, asked: bytes) -> bytes:
    """Return the reply of a server. Raises OSError."""
    sock = _open(server, _socket.SOCK_STREAM)
    try:
        _connect(sock, server)
        deadline = time.monotonic() + TCP_SECONDS
        unsent = len(asked).to_bytes(2) + asked
        while unsent:
            wait(sock, select.POLLOUT, deadline)
            unsent = unsent[sock.send(unsent) :]
        deadline = time.monotonic() + TCP_SECONDS
        packet = _receive(sock, int.from_bytes(_receive(sock, 2, deadline)), deadline)
    finally:
        sock.close()
    if not domain.answers_to(packet, asked) or domain.is_truncated(packet) or domain.failed(packet):
        raise _server_failed()
    return packet


def _receive(sock: _socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        wait(sock, select.POLLIN, deadline)
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError(errno.EIO, "the server closed the connection")
        data += piece
    return data
