"""The two signals that glibc keeps for itself: make and others leave them ignored in what they start."""

import ctypes

from ucspid.linux.syscalls import architecture

RESERVED = (32, 33)
_IGNORED = 1
_MASK = ctypes.c_long(8)


def give_default() -> None:
    """Give those that this process ignores their default, so that what tests start has no signal ignored.

    glibc's own functions refuse these numbers; only the kernel can change that.
    """
    known = architecture()
    if known is None:
        return
    call = ctypes.CDLL(None).syscall
    number = ctypes.c_long(known[1]["rt_sigaction"])
    for reserved in map(ctypes.c_long, RESERVED):
        action = (ctypes.c_long * 4)()
        if call(number, reserved, None, action, _MASK) == 0 and action[0] == _IGNORED:
            call(number, reserved, bytes(32), None, _MASK)
