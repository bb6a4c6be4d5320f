"""Landlock: nothing written, made, removed or executed by path, few ports, no signal to others.

The kernel refuses what a set of rules handles and no rule allows (landlock(7)). Reading is not
handled, so that rules files may be anywhere the loop's user can read, and need not be known yet.
"""

import errno
import os
import struct
from collections.abc import Collection

from ucspid.linux.syscalls import call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_NET_PORT = 2
_BIND_TCP, _CONNECT_TCP, _BIND_UDP, _SEND_UDP = 1, 2, 4, 8

_FILES = {1: 0x1FF3, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15, 9: 1 << 16}
"""By version, what it added: all of 1 but to read (bits 2 and 3), refer, truncate, ioctl of devices, to
connect or send to a Unix socket's path."""
_NET = {4: _BIND_TCP | _CONNECT_TCP, 10: _BIND_UDP | _SEND_UDP}
_SCOPES = {6: 0b11}
"""Abstract Unix sockets, and signals to processes that are not under the same rules."""
_NEWEST = 10

_SIZE_OF_ATTRIBUTES = {1: 8, 4: 16, 6: 24}
_ATTRIBUTES = struct.Struct("=QQQ")
_PORT = struct.Struct("=QQ")


def version() -> int:
    """Return the version that the kernel has of Landlock, 0 if none."""
    try:
        return call(_CREATE_RULESET, 0, 0, _VERSION)
    except OSError:
        return 0


def restrict(tcp: Collection[int], udp: Collection[int], *, bind: bool) -> int:
    """Confine this thread, and those that it will start, for good; return the version that it is done with.

    TCP sockets may be connected to ports of tcp only, and, if bind, be bound, to no port of choice; UDP
    may be sent to ports of udp only. Needs no_new_privs. 0 is for a kernel without Landlock, or one
    that does not let this process use it.
    """
    for has in range(min(version(), _NEWEST), 0, -1):
        try:
            _restrict(has, tcp, udp, bind=bind)
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                break
        else:
            return has
    return 0


def _restrict(has: int, tcp: Collection[int], udp: Collection[int], *, bind: bool) -> None:
    attributes = _ATTRIBUTES.pack(_sum(_FILES, has), _sum(_NET, has), _sum(_SCOPES, has))
    size = max(size for since, size in _SIZE_OF_ATTRIBUTES.items() if since <= has)
    ports = [(_CONNECT_TCP, port) for port in tcp] + [(_SEND_UDP, port) for port in udp]
    ports += [(_BIND_TCP, 0)] if bind else []
    ports += [(_BIND_UDP, 0)] if udp else []  # what sending does for a socket that has no port yet
    rules = call(_CREATE_RULESET, attributes, size, 0)
    try:
        for right, port in ports:
            if right & _sum(_NET, has):
                call(_ADD_RULE, rules, _NET_PORT, _PORT.pack(right, port), 0)
        call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _sum(rights: dict[int, int], has: int) -> int:
    return sum(added for since, added in rights.items() if since <= has)
