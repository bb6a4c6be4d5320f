"""seccomp: the event loop may make the system calls that it needs, and no others, for good.

The filter is a program of classic BPF that the kernel runs for each call (seccomp(2)); for those that it
allows whatever their arguments, Linux 5.11 and later only look up a bit. What is refused fails
with EPERM, so that a library that merely tries goes on without.
"""

import ctypes
import errno
import os
import socket
import struct
import termios
from fcntl import F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL
from typing import NamedTuple

from ucspid.linux.syscalls import NEWEST, NUMBERS, architecture, call

_SET_MODE_FILTER = 1
_ALL_THREADS = 1 << 0
_NO_SPECULATION_BARRIER = 1 << 2
"""SECCOMP_FILTER_FLAG_SPEC_ALLOW: older kernels slow the whole process down, as if it ran foreign code."""

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where seccomp_data has them; of an argument, the lower half."""
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_NO_SUCH_CALL = 0x00050000 | errno.ENOSYS

_WHOLE = 0xFFFFFFFF
_CLONE_THREAD = 0x10000
_FAST_OPEN = 0x20000000
_TYPE = 0xF
_MEANS_TO_WRITE = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
_TCGETS2 = 0x802C542A
"""What isatty(3) of newer C libraries asks."""
_SET_NAME, _NAME_MEMORY = 15, 0x53564D41
"""PR_SET_NAME and PR_SET_VMA of prctl(2): names of threads, and of memory that the C library takes."""

UNKNOWN = ("clone3", "openat2")
"""Refused as if the kernel had none: the arguments are out of a filter's sight, and there are older calls."""


class Outgoing(NamedTuple):
    """Which sockets the event loop may make: for TCP connections of its own, for UDP; and if it may bind any.

    A filter sees no addresses: bind(2) is allowed for all sockets or none.
    """

    tcp: bool
    udp: bool
    bind: bool


class Bound(NamedTuple):
    """An argument of a system call, by place, of which the bits of a mask must have one of some values."""

    argument: int
    mask: int
    values: tuple[int, ...]


Forms = tuple[tuple[Bound, ...], ...]
"""Forms in which a call is allowed: one of them must be met, with all its bounds."""


def bounded(outgoing: Outgoing) -> dict[str, Forms]:
    """Return the calls that are allowed in some forms only, the most frequent first.

    - Sending makes no TCP connection, which Landlock would not see.
    - Descriptors are duplicated, inherited or not, and block or not. They send no signals, and hold no
      locks and no leases, with which a reader holds up others.
    - One option of sockets is set, by the resolver, and clients' IP options are taken off. Others would
      outlive the loop, on its listeners: a filter that drops everything, for one.
    - Files are opened for reading. There are threads, but no processes.
    - Signals and limits are its own.
    - Sockets are TCP and UDP, not other protocols, which Landlock does not watch. A pair is connected for
      good: one of datagrams could send to any path.
    """
    itself = ((Bound(0, _WHOLE, (os.getpid(),)),),)
    wakeups = (termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX, termios.FIONREAD)
    terminals = (termios.TCGETS, _TCGETS2, termios.TIOCGWINSZ)
    return {
        "sendmsg": ((Bound(2, _FAST_OPEN, (0,)),),),
        "sendto": ((Bound(3, _FAST_OPEN, (0,)),),),
        "fcntl": (
            (Bound(1, _WHOLE, (F_GETFL, F_GETFD, F_SETFD, F_DUPFD, F_DUPFD_CLOEXEC)),),
            (Bound(1, _WHOLE, (F_SETFL,)), Bound(2, os.O_ASYNC, (0,))),
        ),
        "ioctl": ((Bound(1, _WHOLE, (*wakeups, *terminals)),),),
        "setsockopt": (
            (Bound(1, _WHOLE, (socket.IPPROTO_TCP,)), Bound(2, _WHOLE, (socket.TCP_NODELAY,))),
            (
                Bound(1, _WHOLE, (socket.IPPROTO_IP,)),
                Bound(2, _WHOLE, (socket.IP_OPTIONS,)),
                Bound(4, _WHOLE, (0,)),
            ),
        ),
        "open": ((Bound(1, _MEANS_TO_WRITE, (0,)),),),
        "openat": ((Bound(2, _MEANS_TO_WRITE, (0,)),),),
        "clone": ((Bound(0, _CLONE_THREAD, (_CLONE_THREAD,)),),),
        "kill": itself,
        "tgkill": itself,
        "prlimit64": ((Bound(0, _WHOLE, (0,)),),),
        "prctl": ((Bound(0, _WHOLE, (_SET_NAME, _NAME_MEMORY)),),),
        "socketpair": ((Bound(0, _WHOLE, (socket.AF_UNIX,)), Bound(1, _TYPE, (socket.SOCK_STREAM,))),),
        "socket": _sockets(outgoing),
    }


def _sockets(outgoing: Outgoing) -> Forms:
    kinds = (
        (outgoing.tcp, socket.SOCK_STREAM, socket.IPPROTO_TCP),
        (outgoing.udp, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    )
    return tuple(
        (
            Bound(0, _WHOLE, (socket.AF_INET, socket.AF_INET6)),
            Bound(1, _TYPE, (kind,)),
            Bound(2, _WHOLE, (0, protocol)),
        )
        for wanted, kind, protocol in kinds
        if wanted
    )


def restrict(outgoing: Outgoing) -> bool:
    """Filter what all threads of this process may ask of the kernel, for good; return whether it is so.

    It is not on an architecture whose calls are not known here, or where the kernel has no
    filters, or does not let this process use them. Needs no_new_privs.
    """
    known = architecture()
    if known is None:
        return False
    instructions = program(*known, outgoing)
    code = ctypes.create_string_buffer(b"".join(instructions))
    head = _PROGRAM.pack(len(instructions), ctypes.addressof(code))
    try:
        call(known[1]["seccomp"], _SET_MODE_FILTER, _ALL_THREADS | _NO_SPECULATION_BARRIER, head)
    except OSError:
        return False
    return True


def allowed(outgoing: Outgoing) -> list[str]:
    """Return the names of the calls that are allowed whatever their arguments."""
    refused = {"seccomp", *UNKNOWN, *bounded(outgoing)}
    if not (outgoing.tcp or outgoing.udp):
        refused.add("connect")
    if not outgoing.bind:
        refused.add("bind")
    return [name for name in NUMBERS if name not in refused]


def program(audit: int, numbers: dict[str, int], outgoing: Outgoing) -> list[bytes]:
    """Return the filter for an architecture: its AUDIT_ARCH_* and the numbers of its system calls."""
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, audit, 1, 0),
        _step(_RETURN, _NO_SUCH_CALL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, NEWEST + 1, 0, 1),
        _step(_RETURN, _NO_SUCH_CALL),
    ]
    for name, forms in bounded(outgoing).items():  # first, since the kernel remembers no answer to these
        if name in numbers:
            block = _within(forms)
            code += [_step(_EQUAL, numbers[name], 0, len(block)), *block]
    answers = [(name, _ALLOW) for name in allowed(outgoing)] + [(name, _NO_SUCH_CALL) for name in UNKNOWN]
    for name, answer in answers:
        if name in numbers:
            code += [_step(_EQUAL, numbers[name], 0, 1), _step(_RETURN, answer)]
    return [*code, _step(_RETURN, _REFUSE)]


def _within(forms: Forms) -> list[bytes]:
    """Return instructions that allow a call in one of the forms and refuse any other."""
    code = []
    for bounds in forms:
        checks: list[bytes] = []
        for bound in reversed(bounds):
            # From the end: what follows a bound says how far the next form is.
            checks = _check(bound, skip=len(checks) + 1) + checks
        code += [*checks, _step(_RETURN, _ALLOW)]
    return [*code, _step(_RETURN, _REFUSE)]


def _check(bound: Bound, skip: int) -> list[bytes]:
    """Return instructions that go on if the bound is kept, and skip so many of what follows them if not."""
    last = len(bound.values) - 1
    return [
        _step(_LOAD, _ARGUMENTS + 8 * bound.argument),
        _step(_AND, bound.mask),
        *(
            _step(_EQUAL, value, last - place, skip if place == last else 0)
            for place, value in enumerate(bound.values)
        ),
    ]


def _step(operation: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """Return an instruction; the jumps are counted in instructions to skip."""
    return _INSTRUCTION.pack(operation, if_so, if_not, value)
