"""How much address space each thread of a process reserves for its stack."""

import ctypes
import resource
import threading

SIZE = 1 << 20
"""Bytes. The event loop's threads, Python's and those of libraries, need a fraction of it."""

_FIRST_THREAD = 8 << 20
"""Bytes of the first thread's: what systems allow as a rule."""
_ATTRIBUTES_BYTES = 256
"""More than a pthread_attr_t has in any C library."""

_libc = ctypes.CDLL(None)


def bound_stacks() -> None:
    """Give threads small stacks, whatever limit the daemon was started with.

    The limit is their size otherwise. softlimit -m in a run script sets it to as much as the whole address
    space, so that no thread could be started.
    """
    threading.stack_size(SIZE)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    _libc.pthread_attr_init(attributes)
    _libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(SIZE))
    _libc.pthread_setattr_default_np(attributes)  # for c-ares, which starts one
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft == resource.RLIM_INFINITY or soft > _FIRST_THREAD:
        resource.setrlimit(resource.RLIMIT_STACK, (_FIRST_THREAD, hard))  # libuv asks for it
