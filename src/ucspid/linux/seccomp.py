"""seccomp: the system calls that the event loop has no use for are refused, for good.

The filter is a program of classic BPF that the kernel runs for each call (seccomp(2)); for those that it
allows whatever their arguments, Linux 5.11 and later only look up a bit. What is refused fails
with EPERM, so that a library that merely tries goes on without.
"""

import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

from ucspid.linux.syscalls import NEWEST, architecture, call

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

UNKNOWN = ("clone3", "openat2")
"""Refused as if the kernel had none: the arguments are out of a filter's sight, and there are older calls."""


class Bound(NamedTuple):
    """An argument of a system call, by place, of which the bits of a mask must have one of some values."""

    argument: int
    mask: int
    values: tuple[int, ...]


def bounded() -> dict[str, tuple[Bound, ...]]:
    """Return the calls that are allowed within bounds, the most frequent first.

    Threads, but no processes; reading of files; signals to itself and its own limits; TCP and
    UDP, not other protocols, which Landlock does not watch, nor a TCP connection made by sending.
    """
    itself = Bound(0, _WHOLE, (os.getpid(),))
    families = (socket.AF_INET, socket.AF_INET6)
    types = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    protocols = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    return {
        "sendmsg": (Bound(2, _FAST_OPEN, (0,)),),
        "sendto": (Bound(3, _FAST_OPEN, (0,)),),
        "sendmmsg": (Bound(3, _FAST_OPEN, (0,)),),
        "clone": (Bound(0, _CLONE_THREAD, (_CLONE_THREAD,)),),
        "open": (Bound(1, _MEANS_TO_WRITE, (0,)),),
        "openat": (Bound(2, _MEANS_TO_WRITE, (0,)),),
        "kill": (itself,),
        "tgkill": (itself,),
        "prlimit64": (Bound(0, _WHOLE, (0,)),),
        "socket": (Bound(0, _WHOLE, families), Bound(1, _TYPE, types), Bound(2, _WHOLE, protocols)),
    }


def restrict() -> bool:
    """Filter what all threads of this process may ask of the kernel, for good; return whether it is so.

    It is not on an architecture whose calls are not known here, or where the kernel has no
    filters, or does not let this process use them. Needs no_new_privs.
    """
    known = architecture()
    if known is None:
        return False
    instructions = program(*known)
    code = ctypes.create_string_buffer(b"".join(instructions))
    head = _PROGRAM.pack(len(instructions), ctypes.addressof(code))
    try:
        call(known[1]["seccomp"], _SET_MODE_FILTER, _ALL_THREADS | _NO_SPECULATION_BARRIER, head)
    except OSError:
        return False
    return True


def program(audit: int, numbers: dict[str, int]) -> list[bytes]:
    """Return the filter for an architecture: its AUDIT_ARCH_* and the numbers of its system calls."""
    limited = bounded()
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, audit, 1, 0),
        _step(_RETURN, _NO_SUCH_CALL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, NEWEST + 1, 0, 1),
        _step(_RETURN, _NO_SUCH_CALL),
    ]
    for name, bounds in limited.items():  # first, since the kernel remembers no answer to these
        if name in numbers:
            block = _within(bounds)
            code += [_step(_EQUAL, numbers[name], 0, len(block)), *block]
    for name, number in numbers.items():
        if name not in limited and name != "seccomp":
            answer = _NO_SUCH_CALL if name in UNKNOWN else _REFUSE
            code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, answer)]
    return [*code, _step(_RETURN, _ALLOW)]


def _within(bounds: tuple[Bound, ...]) -> list[bytes]:
    """Return instructions that allow a call within all bounds and refuse any other."""
    code = []
    for bound in bounds:
        code += [_step(_LOAD, _ARGUMENTS + 8 * bound.argument), _step(_AND, bound.mask)]
        left = len(bound.values)
        code += [_step(_EQUAL, value, left - place, 0) for place, value in enumerate(bound.values)]
        code.append(_step(_RETURN, _REFUSE))
    return [*code, _step(_RETURN, _ALLOW)]


def _step(operation: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    """Return an instruction; the jumps are counted in instructions to skip."""
    return _INSTRUCTION.pack(operation, if_so, if_not, value)
