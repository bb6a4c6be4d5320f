"""tcpclient [OPTIONS] HOST PORT PROGRAM [ARG …]: connect, and become the program.

It has the connection as descriptors 6 and 7, and nothing of this process stays.
"""

from __future__ import annotations

import _socket
import os

from ucspid.tools import domain, ident, resolver
from ucspid.tools.connecting import MAX_SECONDS, PORTS, ConnectSettings, UnreachableError, connect
from ucspid.tools.messages import EXIT_USAGE, ToolError, system_error, write_line
from ucspid.tools.options import Options, digits, ipv4, number
from ucspid.tools.process import allow_sigpipe, environment, execute, ignore_sigpipe
from ucspid.tools.sockets import ANY, packed, packed_ipv6, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

USAGE = (
    b"tcpclient: usage: tcpclient [ -hHrRdDqQv ] [ -i localip ] [ -p localport ] [ -T timeoutconn ] "
    b"[ -l localname ] [ -t timeoutinfo ] host port program"
)
LETTERS = "dDvqQhHrRi:p:t:T:l:46I:"
READ, WRITE = 6, 7
"""The descriptors of the program."""


class Choices:
    """What the options say."""

    def __init__(self, settings: ConnectSettings, usage: bytes) -> None:
        """Have the originals' defaults; usage is what is said of a wrong command line."""
        self.settings = settings
        self.usage = usage
        self.verbosity = 1
        self.delay = True
        self.remote_host = True
        self.remote_info = True
        self.ident_seconds = 26
        self.local_host: bytes | None = None


def main(argv: list[bytes]) -> int:
    """Become the program, or return the exit code. Raises ToolError."""
    begin()
    choices = Choices(ConnectSettings(), USAGE)
    options = Options(argv, LETTERS)
    for letter, value in options:
        choose(choices, letter, value)
    return run_client(choices, options.rest, _run)


def begin() -> None:
    """Have the descriptors of the program free, and writes to nobody fail."""
    for descriptor in (READ, WRITE):
        _close(descriptor)
    ignore_sigpipe()


def choose(choices: Choices, letter: str, value: bytes) -> None:
    """Do as an option says. Raises ToolError if it is wrong."""
    if letter in _FLAGS:
        name, setting = _FLAGS[letter]
        setattr(choices, name, setting)
    elif letter in _VALUES:
        _VALUES[letter](choices, value)
    else:
        raise ToolError(EXIT_USAGE, choices.usage)
    choices.settings.quiet = not choices.verbosity


def run_client(choices: Choices, words: list[bytes], run: Callable[[Choices, list[bytes]], NoReturn]) -> int:
    """Have a function connect and become the program, or return the exit code. Raises ToolError."""
    try:
        _check(choices, words)
        run(choices, words)
    except UnreachableError as error:
        return error.code
    except ToolError as error:
        if choices.verbosity:
            raise
        return error.code


_FLAGS = {
    "d": ("delay", True),
    "D": ("delay", False),
    "v": ("verbosity", 2),
    "Q": ("verbosity", 1),
    "q": ("verbosity", 0),
    "h": ("remote_host", True),
    "H": ("remote_host", False),
    "r": ("remote_info", True),
    "R": ("remote_info", False),
}
"""Options without an argument: which choice they make."""


def _check(choices: Choices, words: list[bytes]) -> None:
    if len(words) < 3:  # noqa: PLR2004 - host, port, program
        raise ToolError(EXIT_USAGE, choices.usage)


def _take_local_ip(choices: Choices, value: bytes) -> None:
    scanned = ipv4(value)
    address = packed_ipv6(value) if scanned is None else scanned[0]
    if address is None:
        raise ToolError(EXIT_USAGE, choices.usage)
    choices.settings.local_ip = address


def _take_local_port(choices: Choices, value: bytes) -> None:
    choices.settings.local_port = number(value) % PORTS


def _take_timeouts(choices: Choices, value: bytes) -> None:
    rest = value[digits(value) :]
    choices.settings.timeouts = [number(value) % MAX_SECONDS, number(rest.removeprefix(b"+")) % MAX_SECONDS]


def _take_local_host(choices: Choices, value: bytes) -> None:
    choices.local_host = value


def _take_ident_seconds(choices: Choices, value: bytes) -> None:
    choices.ident_seconds = number(value) % MAX_SECONDS


def _take_interface(choices: Choices, value: bytes) -> None:
    choices.settings.take_scope(value)


def _take_ipv4(choices: Choices, _value: bytes) -> None:
    choices.settings.families = (domain.A,)


def _take_ipv6(choices: Choices, _value: bytes) -> None:
    choices.settings.families = (domain.AAAA,)


_VALUES = {
    "i": _take_local_ip,
    "p": _take_local_port,
    "T": _take_timeouts,
    "l": _take_local_host,
    "t": _take_ident_seconds,
    "I": _take_interface,
    "4": _take_ipv4,
    "6": _take_ipv6,
}
"""The other options: what takes their argument."""


def _run(choices: Choices, words: list[bytes]) -> NoReturn:
    """Connect and become the program. Raises ToolError."""
    sock = connect(choices.settings, words[0], words[1])
    variables = environment()
    describe(sock, choices, variables)
    become(choices, sock.detach(), words[2:], variables)


def become(choices: Choices, descriptor: int, argv: list[bytes], variables: dict[bytes, bytes]) -> NoReturn:
    """Become the program, with a descriptor as 6 and 7. Raises ToolError if that fails."""
    _move(descriptor, READ)
    os.dup2(READ, WRITE)
    allow_sigpipe()
    error = execute(argv[0], argv, variables)
    raise system_error(error, choices.settings.fatal, b"unable to run ", argv[0], b": ")


def describe(sock: _socket.socket, choices: Choices, variables: dict[bytes, bytes]) -> None:
    """Set the variables of a connection, and its options. Raises ToolError."""
    if not choices.delay:
        _no_delay(sock)
    try:
        local = sock.getsockname()
    except OSError as error:
        raise system_error(error, choices.settings.fatal, b"unable to get local address: ") from None
    local_ip = packed(local[0])
    variables[b"PROTO"] = b"TCP" if len(local_ip) == len(ANY) else b"TCP6"
    _set_address(variables, b"LOCAL", local_ip, local[1])
    name = choices.local_host
    _set(variables, b"TCPLOCALHOST", _name_of(local_ip) if name is None else name)
    try:
        remote = sock.getpeername()
    except OSError as error:
        raise system_error(error, choices.settings.fatal, b"unable to get remote address: ") from None
    remote_ip = packed(remote[0])
    _set_address(variables, b"REMOTE", remote_ip, remote[1])
    if choices.verbosity > 1:
        write_line(choices.settings.tool, b": connected to ", text_of(remote_ip), b" port %d" % remote[1])
    _set(variables, b"TCPREMOTEHOST", _name_of(remote_ip) if choices.remote_host else None)
    info = None
    if choices.remote_info:
        ends = (remote_ip, remote[1]), (local_ip, local[1])
        info = ident.ask(*ends, choices.settings.scope, choices.ident_seconds)
    _set(variables, b"TCPREMOTEINFO", info)


def _set_address(variables: dict[bytes, bytes], side: bytes, ip: bytes, port: int) -> None:
    for proto in (b"TCP", b"TCP6") if len(ip) > len(ANY) else (b"TCP",):
        variables[proto + side + b"PORT"] = b"%d" % port
        variables[proto + side + b"IP"] = text_of(ip)


def _set(variables: dict[bytes, bytes], name: bytes, value: bytes | None) -> None:
    """Set a variable, or unset it; a value ends at its first NUL, as environments have it."""
    if value is None:
        variables.pop(name, None)
    else:
        variables[name] = value.partition(b"\0")[0]


def _name_of(ip: bytes) -> bytes | None:
    try:
        return resolver.name_of(ip)
    except OSError:
        return None


def _no_delay(sock: _socket.socket) -> None:
    try:
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except OSError:
        return  # it only was to be faster


def _move(descriptor: int, target: int) -> None:
    if descriptor != target:
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.set_inheritable(target, True)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        return  # it was not open
