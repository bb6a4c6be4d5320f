"""Where tcpserver listens: its word for a host, as an address."""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from ucspid.linux import privileges
from ucspid.profile import Profile
from ucspid.tcpserver.options import CommandLine
from ucspid.tools import domain, qualify
from ucspid.tools.messages import EXIT_SYSTEM, ToolError, system_error

EVERY_IPV4 = "0.0.0.0"  # noqa: S104 - what the word 0 asks for
FATAL = b"tcpserver: fatal: "

_NUMERIC = re.compile(r"[0-9.\[\]]+")
_IPV6_BYTES = 16
_LONGEST = 4096
"""Bytes of an answer that are looked at: only the first address counts."""


def address_of(options: CommandLine, asker: Profile) -> str:
    """Return the address to listen on, empty for those of both families. Raises ToolError.

    Where name servers must be asked, a process of its own does it, with the rights of asker.
    """
    host = options.host
    assert host is not None
    if host == ":0" or (host in ("", "0", "::") and options.ipv4 and options.ipv6):
        return ""
    if host in ("", "0"):
        return "::" if options.ipv6 and not options.ipv4 else EVERY_IPV4
    if _NUMERIC.fullmatch(host):
        return dotted(host)
    if ":" in host:
        return _ipv6(host)
    kind = domain.AAAA if options.ipv6 else domain.A
    return _looked_up(host, kind, asker)


def scope_of(options: CommandLine) -> int:
    """Return the number of the interface, 0 if none is named. Raises ToolError."""
    if options.interface is None:
        return 0
    try:
        return socket.if_nametoindex(options.interface)
    except OSError:
        name = os.fsencode(options.interface)
        raise ToolError(EXIT_SYSTEM, FATAL, b"unable to find interface ", name) from None


def dotted(host: str) -> str:
    """Return the address that digits and dots stand for, as dns_ip4() of ucspi-tcp reads them."""
    octets = [int(part or "0") & 0xFF for part in host.translate({91: None, 93: None}).split(".")]
    if len(octets) < 4:  # noqa: PLR2004 - of IPv4
        raise _no_address(host)
    return ".".join(map(str, octets[:4]))


def _ipv6(host: str) -> str:
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
    except OSError:
        raise _no_address(host) from None


def _looked_up(host: str, kind: int, asker: Profile) -> str:
    """Return the first address of a name. Raises ToolError."""
    name = os.fsencode(host)
    answer = _elsewhere(lambda: b"".join(qualify.qualified(name, kind)[:1]), asker)
    if isinstance(answer, OSError):
        doing = b"temporarily unable to figure out IP address for "
        raise system_error(answer, FATAL, doing, name, b": ")
    if not answer:
        raise _no_address(host)
    family = socket.AF_INET6 if len(answer) == _IPV6_BYTES else socket.AF_INET
    return socket.inet_ntop(family, answer)


def _elsewhere(ask: Callable[[], bytes], asker: Profile) -> bytes | OSError:
    """Call a function in a process of its own with other rights; return what it returns or raises.

    This process, root's perhaps, reads nothing that the network sent but a few bytes, whose length it checks.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(ask, asker, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read(_LONGEST)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    number, answer = said[:4], said[4:]
    if len(number) < 4:  # noqa: PLR2004 - it has died
        return OSError(0, "")
    if code := int.from_bytes(number, "little"):
        return OSError(code, "")
    return answer if len(answer) in (0, 4, _IPV6_BYTES) else b""


def _answer(ask: Callable[[], bytes], asker: Profile, writing: int) -> NoReturn:
    """Be that process: write an errno in four bytes, and the answer."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        privileges.take(asker)
        os.write(writing, bytes(4) + ask())
    except OSError as problem:
        os.write(writing, (problem.errno or 0).to_bytes(4, "little"))
    finally:
        os._exit(0)


def _no_address(host: str) -> ToolError:
    return ToolError(EXIT_SYSTEM, FATAL, b"no IP address for ", os.fsencode(host))
