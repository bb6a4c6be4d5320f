"""The listening sockets: bound by the master, which holds them whatever process dies."""

import errno
import itertools
import socket
from collections.abc import Sequence

from ucspid.net.address import parse_address
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Service
from ucspid.records import dataclass

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}

_numbers = itertools.count(1)

Key = tuple[Endpoint, str, int]
"""What makes a listener the same across reloads: its address; with port 0 also whose it is."""


@dataclass(frozen=True, slots=True)
class HeldListener:
    """A listening socket and its number in messages to the loop."""

    number: int
    sock: socket.socket

    def set_up(self, service: Service) -> None:
        """Give the socket the service's options; accepted sockets inherit the TCP ones (tcp(7))."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, service.nodelay)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, service.keepalive)
        self.sock.listen(service.backlog)


def skip_numbers(last: int) -> None:
    """Give no listener a number up to the last that an earlier image of the master gave."""
    while next(_numbers) < last:
        """Each is taken once."""


def keys(service: Service) -> list[Key]:
    """Return the keys of a service's listeners, in the order of its addresses."""
    return [
        (address, "", 0) if address.port else (address, service.name, place)
        for place, address in enumerate(service.listen)
    ]


def listens_on(sock: socket.socket, address: Endpoint) -> bool:
    """Return whether a socket of unknown origin listens on an address; port 0 is any port."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return False
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    its = address_of(sock)
    return (
        its.family == address.family
        and address.port in (0, its.port)
        and (its.family == "dual" or parse_address(its.host) == parse_address(address.host))
    )


def address_of(sock: socket.socket) -> Endpoint:
    """Return where a TCP socket listens, as a file has it."""
    host, port, *_ = sock.getsockname()
    dual = host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return Endpoint("" if dual else host, port)


def halves(address: Endpoint) -> tuple[Endpoint, Endpoint]:
    """Return the two addresses that together are one for both families."""
    return (
        Endpoint("0.0.0.0", address.port),  # noqa: S104 - what a bare port asks for
        Endpoint("::", address.port),
    )


def open_listeners(
    service: Service, address: Endpoint, passed: Sequence[socket.socket] = ()
) -> list[HeldListener]:
    """Bind and listen, or take sockets that were passed and listen there already.

    It is one listener; but for both families it is two, where a socket was passed that is for one of them.
    Raises OSError; what was passed is closed then.
    """
    listeners = [HeldListener(next(_numbers), sock) for sock in passed]
    try:
        for sock in passed:
            sock.setblocking(False)
        listeners += [HeldListener(next(_numbers), sock) for sock in _bind_rest(address, passed)]
        for listening in listeners:
            listening.set_up(service)
    except OSError:
        for listening in listeners:
            listening.sock.close()
        raise
    return listeners


def _bind_rest(address: Endpoint, passed: Sequence[socket.socket]) -> list[socket.socket]:
    """Bind what was not passed. Raises OSError."""
    if not passed:
        return [_bind(address)]
    if address.family != "dual" or any(listens_on(sock, address) for sock in passed):
        return []
    port = address_of(passed[0]).port
    bound = []
    for half in halves(Endpoint("", port)):
        if not any(listens_on(sock, half) for sock in passed):
            try:
                bound.append(_bind(half))
            except OSError as problem:
                if problem.errno not in _NO_IPV6:
                    raise
    return bound


def listen_on(address: Endpoint, backlog: int) -> socket.socket:
    """Return a socket that listens on an address. Raises OSError."""
    sock = _bind(address)
    sock.listen(backlog)
    return sock


def _bind(address: Endpoint) -> socket.socket:
    if address.family != "dual":
        return _bound(_FAMILIES[address.family], address.host, address.port)
    try:
        return _bound(socket.AF_INET6, "::", address.port, v6only=False)
    except OSError as problem:
        if problem.errno not in _NO_IPV6:
            raise
        return _bind(halves(address)[0])


def _bound(family: int, host: str, port: int, *, v6only: bool = True) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
