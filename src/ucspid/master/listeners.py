"""The listening sockets: bound by the master, which holds them whatever process dies."""

import contextlib
import errno
import itertools
import os
import socket
import stat
from dataclasses import dataclass

from ucspid.errors import ResourceError
from ucspid.linux.fd_limit import why
from ucspid.net.address import parse_address
from ucspid.net.endpoint import Endpoint
from ucspid.plan import Service

CONTROL_MODE = 0o600
CONTROL_FOLDER_MODE = 0o755
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

_numbers = itertools.count(1)

Key = tuple[Endpoint, str, int]
"""What makes a listener the same across reloads: its address; with port 0 also whose it is."""


@dataclass(frozen=True, slots=True)
class Listening:
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
    host, port, *_ = sock.getsockname()
    return address.port in (0, port) and address.family in _families(sock, host) and _same(host, address)


def _families(sock: socket.socket, host: str) -> tuple[str, ...]:
    """Return the families of addresses, as a file has them, that a socket bound to host may be for."""
    if sock.family == socket.AF_INET:
        return ("inet", "dual")
    if host != "::":
        return ("inet6",)
    return ("inet6",) if sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) else ("dual",)


def _same(host: str, address: Endpoint) -> bool:
    if address.family == "dual":
        return host in ("::", "0.0.0.0")  # noqa: S104 - as in _bind()
    return parse_address(host) == parse_address(address.host)


def open_listener(service: Service, address: Endpoint, passed: socket.socket | None = None) -> Listening:
    """Bind and listen, or take a socket that was passed and listens there already.

    Raises ResourceError, with the service and the address in it.
    """
    try:
        if passed is not None:
            passed.setblocking(False)
        listening = Listening(next(_numbers), passed or _bind(address))
    except OSError as problem:
        raise _cannot_listen(service, address, problem) from None
    try:
        listening.set_up(service)
    except OSError as problem:
        listening.sock.close()
        raise _cannot_listen(service, address, problem) from None
    return listening


def _cannot_listen(service: Service, address: Endpoint, problem: OSError) -> ResourceError:
    return ResourceError(f"{service.name}: cannot listen on {address}: {why(problem)}")


def _bind(address: Endpoint) -> socket.socket:
    if address.family != "dual":
        return _bound(
            socket.AF_INET if address.family == "inet" else socket.AF_INET6, address.host, address.port
        )
    try:
        return _bound(socket.AF_INET6, "::", address.port, v6only=False)
    except OSError as problem:
        if problem.errno not in _NO_IPV6:
            raise
        return _bound(socket.AF_INET, "0.0.0.0", address.port)  # noqa: S104 - what a bare port asks for


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


def open_control(path: str) -> socket.socket:
    """Listen on the control socket; one left by a daemon that is gone is replaced.

    Its folder is made if it is missing, but not what that would be in.
    Raises ResourceError, also when a daemon answers there.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), CONTROL_FOLDER_MODE)
        _remove_stale(path)
        return _bound_control(path)
    except OSError as problem:
        raise ResourceError(f"cannot listen on control socket {path}: {why(problem)}") from None


def _bound_control(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o777 & ~CONTROL_MODE)
    try:
        sock.bind(path)
        sock.listen(16)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ResourceError(f"control: {path} exists, but is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise ResourceError(f"control: a daemon answers at {path} already")
