"""Finding a host and connecting to it: the two passes over all of its addresses."""

from __future__ import annotations

import _socket
import errno

from ucspid.tools import domain
from ucspid.tools.messages import EXIT_SYSTEM, ToolError, reason, system_error, write_line
from ucspid.tools.options import digits, number
from ucspid.tools.qualify import qualified
from ucspid.tools.sockets import (
    ANY,
    finish_connecting,
    interface_number,
    open_socket,
    packed_ipv6,
    socket_address,
    text_of,
)

PORTS = 2**16
MAX_SECONDS = 2**32
"""Of a timeout, in the originals: what is longer is taken modulo this."""
_BYTES = {domain.A: 4, domain.AAAA: 16}
"""Of an address."""


class ConnectSettings:
    """What to connect to, from where, and for how long; from the options of tcpclient."""

    def __init__(self, tool: bytes = b"tcpclient") -> None:
        """Have the originals' defaults; messages begin with the name of the tool."""
        self.tool = tool
        self.fatal = tool + b": fatal: "
        self.timeouts = [2, 58]
        """Seconds for each address, in the first pass and in the second."""
        self.local_ip = ANY
        self.local_port = 0
        self.scope = 0
        """Of link-local addresses: the number of an interface."""
        self.families: tuple[int, ...] = (domain.A, domain.AAAA)
        self.quiet = False

    def take_scope(self, interface: bytes) -> None:
        """Have link-local addresses be those of an interface. Raises ToolError."""
        try:
            self.scope = interface_number(interface)
        except OSError:
            raise ToolError(EXIT_SYSTEM, self.fatal, b"unable to find interface ", interface) from None


def connect(settings: ConnectSettings, host: bytes, port: bytes) -> _socket.socket:
    """Return a connected socket that blocks.

    Raises ToolError if there is no such host or port, or nobody answers; each address that failed has been
    reported by then.
    """
    number_of_port = port_number(settings, port)
    addresses = find(settings, host)
    first, second = settings.timeouts
    if len(addresses) == 1:
        first, second = (first + second) % MAX_SECONDS, 0
    late: list[bytes] = []
    for address in addresses:
        sock = _try(settings, address, number_of_port, first, late if second else None)
        if sock is not None:
            return sock
    for address in late:
        sock = _try(settings, address, number_of_port, second, None)
        if sock is not None:
            return sock
    raise UnreachableError(EXIT_SYSTEM)


class UnreachableError(ToolError):
    """No address answered; each has been reported, so there is nothing more to say."""


def port_number(settings: ConnectSettings, text: bytes) -> int:
    """Return the port that is named or written. Raises ToolError."""
    if digits(text) == len(text):
        return number(text) % PORTS
    try:
        return _socket.getservbyname(text.decode("ascii"), "tcp")
    except (OSError, UnicodeError):
        what = settings.fatal + b"unable to figure out port number for "
        raise ToolError(EXIT_SYSTEM, what, text) from None


def find(settings: ConnectSettings, host: bytes) -> list[bytes]:
    """Return the addresses of a host, of 4 or 16 bytes, IPv4 first. Raises ToolError.

    A local address has to be of the same family.
    """
    if host in {b"", b"0"}:
        host = b"127.0.0.1" if domain.A in settings.families else b"::1"
    literal = packed_ipv6(host)
    _address, scoped, interface = host.partition(b"%")
    if literal is not None and scoped:
        settings.take_scope(interface)
    try:
        found = [literal] if literal is not None else _find_all(settings, host)
    except OSError as error:
        what = settings.fatal + b"temporarily unable to figure out IP address for "
        raise system_error(error, what, host, b": ") from None
    if not found:
        raise ToolError(EXIT_SYSTEM, settings.fatal, b"no IP address for ", host)
    return found


def _find_all(settings: ConnectSettings, host: bytes) -> list[bytes]:
    """Return all addresses; where there are some of IPv4, those of IPv6 are asked for in one round only."""
    found: list[bytes] = []
    for kind in settings.families:
        if settings.local_ip != ANY and len(settings.local_ip) != _BYTES[kind]:
            continue
        try:
            found += qualified(host, kind, 1) if found else qualified(host, kind)
        except OSError:
            if not found:
                raise
    return found


def _try(
    settings: ConnectSettings, address: bytes, port: int, seconds: int, late: list[bytes] | None
) -> _socket.socket | None:
    """Return a socket that is connected to an address, None if it does not answer.

    One that only takes longer is added to those that are late, if there are to be any; otherwise the reason
    is reported.
    """
    fatal = settings.fatal + b"unable to "
    try:
        sock = open_socket(address)
    except OSError as error:
        raise system_error(error, fatal, b"create socket: ") from None
    local = settings.local_ip if settings.local_ip != ANY else bytes(len(address))
    try:
        sock.bind(socket_address(local, settings.local_port, settings.scope))
    except OSError as error:
        raise system_error(error, fatal, b"bind socket: ") from None
    try:
        finish_connecting(sock, socket_address(address, port, settings.scope), seconds)
    except OSError as error:
        sock.close()
        if late is not None and error.errno == errno.ETIMEDOUT:
            late.append(address)
        elif not settings.quiet:
            place = text_of(address), b" port %d: " % port
            write_line(settings.tool, b": unable to connect to ", *place, reason(error))
        return None
    return sock
