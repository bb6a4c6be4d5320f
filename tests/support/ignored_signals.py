"""Signals that whoever starts the tests may have ignored: a shell in the background, nohup, make."""

import ctypes
import signal
import subprocess

from ucspid.linux.syscalls import architecture

RESERVED = (32, 33)
"""Those that glibc keeps for itself: what its posix_spawn starts ignores them."""

OTHERS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_IGNORED = 1
_MASK = ctypes.c_long(8)


def give_default() -> None:
    """Give those that this process ignores their default, so that what tests start has no signal ignored.

    glibc's own functions refuse these numbers; only the kernel can change that. From Python 3.13 on,
    subprocess would use glibc's posix_spawn.
    """
    subprocess._USE_POSIX_SPAWN = False  # type: ignore[misc]  # its documents name it
    for number in OTHERS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    known = architecture()
    if known is None:
        return
    call = ctypes.CDLL(None).syscall
    action_call = ctypes.c_long(known[1]["rt_sigaction"])
    for reserved in map(ctypes.c_long, RESERVED):
        action = (ctypes.c_long * 4)()
        if call(action_call, reserved, None, action, _MASK) == 0 and action[0] == _IGNORED:
            call(action_call, reserved, bytes(32), None, _MASK)
