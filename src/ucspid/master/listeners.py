"""The listening sockets: bound by the master, which holds them whatever process dies."""

import errno
import itertools
import os
import socket
from collections.abc import Sequence

from ucspid.master import unix_sockets
from ucspid.master.unix_sockets import FileId
from ucspid.net.address import parse_address
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Service
from ucspid.records import dataclass

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
"""Of sockets that listeners may be."""

_numbers = itertools.count(1)

Key = tuple[Endpoint, str, int]
"""What makes a listener the same across reloads: its address; with port 0 also whose it is."""


@dataclass(slots=True, eq=False)
class HeldListener:
    """A listening socket and its number in messages to the loop.

    file is the path of a Unix socket, if we have made that.
    """

    number: int
    sock: socket.socket
    file: FileId | None = None

    def set_up(self, service: Service) -> None:
        """Give the socket the service's options; accepted sockets inherit the TCP ones (tcp(7)).

        Who may connect to a Unix socket is set before anybody can. Raises OSError.
        """
        if self.sock.family == socket.AF_UNIX:
            if self.file is not None:
                self._let_in(service, self.file)
            self.sock.listen(service.backlog)
            return
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, service.nodelay)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, service.keepalive)
        self.sock.listen(service.backlog)

    def restore(self, service: Service) -> None:
        """Set it up for a new process of the loop, whatever one that was taken over has done to it.

        Raises OSError.
        """
        if self.sock.family == socket.AF_UNIX and unix_sockets.is_shut_down(self.sock):
            self._make_again()
        self.set_up(service)

    def _make_again(self) -> None:
        """Bind a Unix socket again, unless the service manager has made its path. Raises OSError."""
        address = unix_sockets.address_of(self.sock)
        if address.path is None:
            with socket.socket(
                socket.AF_UNIX
            ) as unbound:  # a name is free when nobody has its socket any more
                os.dup2(unbound.fileno(), self.sock.fileno(), inheritable=False)
        elif self.file is None:
            return
        with unix_sockets.bound(address.name) as sock:
            os.dup2(sock.fileno(), self.sock.fileno(), inheritable=False)
        if address.path is not None:
            self.file = unix_sockets.id_of(address.path)

    def _let_in(self, service: Service, made: FileId) -> None:
        path = unix_sockets.address_of(self.sock).path
        for file in service.socket_files:
            if file.path == path:
                unix_sockets.let_in(file, made)

    def close(self, *, keep_path: bool = False) -> None:
        """Close it, and remove its path, if it has one of its own."""
        path = None if self.file is None or keep_path else unix_sockets.address_of(self.sock).path
        self.sock.close()
        if path is not None and self.file is not None:
            unix_sockets.remove(path, self.file)


def skip_numbers(last: int) -> None:
    """Give no listener a number up to the last that an earlier image of the master gave."""
    while next(_numbers) < last:
        """Each is taken once."""


def keys(service: Service) -> list[Key]:
    """Return the keys of a service's listeners, in the order of its addresses."""
    return [
        (address, service.name, place) if address.chosen else (address, "", 0)
        for place, address in enumerate(service.listen)
    ]


def listens_on(sock: socket.socket, address: Endpoint) -> bool:
    """Return whether a socket of unknown origin listens on an address; port 0 is any port."""
    if sock.family not in FAMILIES or sock.type != socket.SOCK_STREAM:
        return False
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    its = address_of(sock)
    if "unix" in (its.family, address.family):
        if its != address or its.path is None:
            return its == address
        return os.path.lexists(its.path) and not unix_sockets.is_shut_down(sock)
    return (
        its.family == address.family
        and address.port in (0, its.port)
        and (its.family == "dual" or parse_address(its.host) == parse_address(address.host))
    )


def address_of(sock: socket.socket) -> Endpoint:
    """Return where a TCP or a Unix socket listens, as a file has it."""
    if sock.family == socket.AF_UNIX:
        return unix_sockets.address_of(sock)
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
    service: Service, address: Endpoint, passed: Sequence[socket.socket] = (), *, stored: bool = False
) -> list[HeldListener]:
    """Bind and listen, or take sockets that were passed and listen there already.

    It is one listener; but for both families it is two, where a socket was passed that is for one of them.
    stored says that what was passed is what an earlier master made. Raises OSError; what was passed is closed
    then.
    """
    listeners = [_held(address, sock, ours=stored) for sock in passed]
    try:
        for sock in passed:
            sock.setblocking(False)
        listeners += [_held(address, sock, ours=True) for sock in _bind_rest(address, passed)]
        for listening in listeners:
            listening.set_up(service)
    except OSError:
        for listening in listeners:
            listening.close()
        raise
    return listeners


def _held(address: Endpoint, sock: socket.socket, *, ours: bool) -> HeldListener:
    """Return the listener; its path is its own if it is ours. Raises OSError; the socket is closed then."""
    try:
        file = unix_sockets.id_of(address.path) if ours and address.path is not None else None
    except OSError:
        sock.close()
        raise
    return HeldListener(next(_numbers), sock, file)


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
    if address.family == "unix":
        return unix_sockets.bound(address.name)
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
