"""What Python's standard library lacks of Linux: prctl(2), signalfd(2) and a process title.

Used by the master and the launchers, which read signals as data and hence run no signal
handler at all, and by the event loop for its title.
"""

import ctypes
import os
import signal
import struct
from collections.abc import Collection

_libc = ctypes.CDLL(None, use_errno=True)

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITIES = struct.Struct("=Ii")
_CAPABILITY_VERSION = 0x20080522
_CAPABILITY_SETS = bytes(24)
_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_SIGSET_BYTES = 128
_SIGINFO_BYTES = 128


def become_subreaper() -> None:
    """Adopt orphaned descendants in place of init: PR_SET_CHILD_SUBREAPER of prctl(2)."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def forbid_new_privileges() -> None:
    """Let no program started from here gain privileges: PR_SET_NO_NEW_PRIVS of prctl(2)."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def is_dumpable() -> bool:
    """Return whether processes of the same user may trace this one, and read its memory: prctl(2)."""
    result: int = _libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    _check(result)
    return result == 1


def set_dumpable(dumpable: bool) -> None:
    """Say whether processes of the same user may trace this one; an exec makes it so."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0))


def give_up_capabilities() -> None:
    """Empty the sets of capabilities(7); the bounding set, which counts at an exec only, stays.

    A change of user does that too, but a service manager may have given a user some (AmbientCapabilities=).
    """
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _check(_libc.capset(_CAPABILITIES.pack(_CAPABILITY_VERSION, 0), _CAPABILITY_SETS))


def open_signalfd(signals: Collection[int]) -> int:
    """Block the signals and return a descriptor from which read_signals() reads them.

    Programs started later must be given an empty mask.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    mask = sum(1 << (number - 1) for number in signals)
    sigset = ctypes.create_string_buffer(mask.to_bytes(_SIGSET_BYTES, "little"), _SIGSET_BYTES)
    descriptor: int = _libc.signalfd(-1, sigset, _SFD_FLAGS)
    _check(descriptor)
    return descriptor


def read_signals(descriptor: int) -> list[int]:
    """Return the numbers of the signals that wait on a signalfd, oldest first."""
    try:
        data = os.read(descriptor, 16 * _SIGINFO_BYTES)
    except BlockingIOError:
        return []
    return [
        int.from_bytes(data[start : start + 4], "little") for start in range(0, len(data), _SIGINFO_BYTES)
    ]


def default_signals() -> None:
    """Give every signal its default disposition: what a program inherits from here.

    Python ignores SIGPIPE and SIGXFSZ, nohup(1) SIGHUP, a shell's background job SIGINT.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)


def set_title(title: str) -> None:
    """Show the title in ps(1): as the command name, cut to 15 bytes, and over the argument list.

    Must be called before privileges are dropped.
    """
    show_title(title.encode(), title.encode(), arguments_area())


def arguments_area() -> tuple[int, int]:
    """Return the address of the arguments of this process, and how many bytes they have. Raises OSError."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[45]), int(fields[46])
    return start, end - start


def arguments_memory(area: tuple[int, int]) -> memoryview:
    """Return the memory at arguments_area(), to write to without a call of C; it may be empty."""
    start, size = area
    return memoryview((ctypes.c_char * size).from_address(start) if size else bytearray()).cast("B")


def show_title(name: bytes, arguments: bytes, area: tuple[int, int]) -> None:
    """Show a command name, cut to 15 bytes, and arguments.

    The kernel shows the memory where the arguments were; what is longer than that is cut.
    """
    start, size = area
    show_name(name)
    if size:
        ctypes.memmove(start, arguments[: size - 1].ljust(size, b"\0"), size)


def show_name(name: bytes) -> None:
    """Show a command name, cut to 15 bytes."""
    _check(_libc.prctl(_PR_SET_NAME, name[:15], 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
