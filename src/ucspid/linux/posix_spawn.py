"""posix_spawn(3), called directly: it must reset signals that os.posix_spawn cannot name.

glibc's leaves the two signals that are its own (32 and 33, nptl(7)) ignored in the new process unless they
are among those to reset, and Python refuses to put them there. Imported by launchers.
"""

import ctypes
import os
from collections.abc import Iterable, Sequence

_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08
_SIGSET_BYTES = 128
_ATTRIBUTES_BYTES = 1024
"""More than a posix_spawnattr_t or a posix_spawn_file_actions_t has in any C library."""

_libc = ctypes.CDLL(None)
_spawn = _libc.posix_spawn
_spawn.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *4 * [ctypes.c_void_p]]
_actions_init = _libc.posix_spawn_file_actions_init
_actions_move = _libc.posix_spawn_file_actions_adddup2
_actions_free = _libc.posix_spawn_file_actions_destroy


def _attributes() -> ctypes.Array[ctypes.c_char]:
    """Return the attributes: a process group of its own, all signals at their default, none blocked."""
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    _check(_libc.posix_spawnattr_init(attributes))
    _check(_libc.posix_spawnattr_setpgroup(attributes, 0))
    _check(_libc.posix_spawnattr_setsigdefault(attributes, b"\xff" * _SIGSET_BYTES))
    _check(_libc.posix_spawnattr_setsigmask(attributes, bytes(_SIGSET_BYTES)))
    flags = ctypes.c_short(_SETPGROUP | _SETSIGDEF | _SETSIGMASK)
    _check(_libc.posix_spawnattr_setflags(attributes, flags))
    return attributes


def _check(reason: int) -> None:
    """These functions return an errno, or 0."""
    if reason:
        raise OSError(reason, os.strerror(reason))


# Made once, and passed by their addresses: to convert them for each start would be a fifth of its cost.
_ATTRIBUTES = _attributes()
_ATTRIBUTES_AT = ctypes.addressof(_ATTRIBUTES)
_PROCESS = ctypes.c_int()
_PROCESS_AT = ctypes.addressof(_PROCESS)


class ExecStrings:
    """Byte strings as execve(2) takes them: arguments, or an environment."""

    __slots__ = ("_array", "address")

    def __init__(self, items: Iterable[bytes]) -> None:
        """Keep the strings, which have no NUL in them, for as long as this lives."""
        strings = [*items, None]
        self._array = (ctypes.c_char_p * len(strings))(*strings)
        self.address = ctypes.addressof(self._array)


class Moves:
    """Descriptors that a new process has as other ones: what this process has there is not touched."""

    __slots__ = ("_actions", "address")

    def __init__(self, descriptors: Sequence[int], first: int) -> None:
        """Move descriptors to first and the following, of which they are none; free() has to be called.

        Raises OSError, as for a descriptor above the soft limit of them.
        """
        self._actions = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
        self.address = ctypes.addressof(self._actions)
        _check(_actions_init(self._actions))
        try:
            for place, descriptor in enumerate(descriptors, first):
                _check(_actions_move(self._actions, descriptor, place))
        except OSError:
            self.free()
            raise

    def free(self) -> None:
        """Free what the C library has kept."""
        _actions_free(self._actions)


def start(
    executable: bytes, arguments: ExecStrings, environment: ExecStrings, moves: Moves | None = None
) -> int:
    """Start a program with this process's descriptors, as far as they are inherited; return its process.

    Moves are made in the new process. It leads a process group of its own, has all signals at their
    default and none blocked. Raises OSError where it cannot be executed.
    """
    actions = None if moves is None else moves.address
    _check(_spawn(_PROCESS_AT, executable, actions, _ATTRIBUTES_AT, arguments.address, environment.address))
    return _PROCESS.value
