"""tcprulescheck CDB: print what compiled rules say to the client that TCPREMOTEIP and others describe."""

from __future__ import annotations

import errno
import os

from ucspid.net.address import Network, parse_address
from ucspid.rules.bounds import MAX_FILE_BYTES
from ucspid.rules.cdb import Cdb, CdbError
from ucspid.rules.keys import after_prefixes, before_prefixes, parse
from ucspid.rules.lookup import decode, table_from_cdb
from ucspid.rules.rule import Rule
from ucspid.tools.messages import EXIT_SYSTEM, EXIT_USAGE, ToolError, system_error
from ucspid.tools.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = Rule(verdict="allow", env=(), where="default")
PIECE = 1 << 20


def main(argv: list[bytes]) -> int:
    """Print it, and return the exit code. Raises ToolError."""
    if len(argv) < 2:  # noqa: PLR2004 - the file
        raise ToolError(EXIT_USAGE, b"tcprulescheck: usage: tcprulescheck rules.cdb")
    unreadable = (b"tcprulescheck: fatal: unable to read ", argv[1], b": ")
    variables = os.environb
    ip = variables.get(b"TCPREMOTEIP", b"0.0.0.0")
    host, info = variables.get(b"TCPREMOTEHOST"), variables.get(b"TCPREMOTEINFO")
    try:
        rule = find(_read(argv[1]), ip, host, info)
    except OSError as error:
        raise system_error(error, *unreadable) from None
    except CdbError:
        raise ToolError(EXIT_SYSTEM, *unreadable, b"protocol error") from None
    try:
        write_all(1, report(rule))
    except OSError:
        return 0  # as the original, which does not look
    return 0


def find(content: bytes, ip: bytes, host: bytes | None, info: bytes | None) -> Rule:
    """Return the rule for a client, DEFAULT if there is none. Raises CdbError."""
    text = ip.decode("latin-1")
    try:
        parse_address(text)
    except ValueError:
        return _find_text(content, ip, host, info)
    return table_from_cdb(content, "").match(text, host, info)


def report(rule: Rule) -> bytes:
    """Return what is printed of a rule. Pure."""
    first = b"default:\n" if rule.key is None else b"rule " + _shown(rule.key) + b":\n"
    if rule.verdict == "deny":
        return first + b"deny connection\n"
    variables = [b"set environment variable %s=%s\n" % variable for variable in rule.env]
    return b"".join((first, *variables, b"allow connection\n"))


def _shown(key: bytes) -> bytes:
    """Return a key; one that is stored bit by bit as the network that it is."""
    target = parse(key) if key.startswith((b"_", b"^")) else key
    return str(target).encode() if isinstance(target, Network) else key


def _find_text(content: bytes, ip: bytes, host: bytes | None, info: bytes | None) -> Rule:
    """Return the rule for a client whose address is none: it is compared byte for byte."""
    rules: dict[bytes, bytes] = {}
    for _offset, key, data in Cdb(content, "").records():
        rules.setdefault(key, data)
    for key in (*before_prefixes(ip, host, info), *_starts(ip), *after_prefixes(host)):
        if key in rules:
            try:
                verdict, env = decode(rules[key])
            except ValueError as error:
                raise CdbError("", 0, str(error)) from None
            return Rule(verdict=verdict, env=env, where="", key=key)
    return DEFAULT


def _starts(ip: bytes) -> Iterator[bytes]:
    """Yield what an address begins with, up to each dot, the longest first."""
    for end in range(len(ip), 0, -1):
        if ip[end - 1] == ord("."):
            yield ip[:end]


def _read(path: bytes) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    content = bytearray()
    try:
        while piece := os.read(descriptor, PIECE):
            content += piece
            if len(content) > MAX_FILE_BYTES:
                raise OSError(errno.EFBIG, "too large for the daemon, too")
    finally:
        os.close(descriptor)
    if not content:
        raise OSError(errno.EINVAL, "empty")  # what mmap(2) has against it, in the original
    return bytes(content)
