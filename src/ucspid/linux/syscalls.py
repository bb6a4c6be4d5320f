"""System calls by number: those that are made without the C library, and those that a filter allows."""

import ctypes
import os
import sys

_libc = ctypes.CDLL(None, use_errno=True)

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_64_BITS = 1 << 32

NEWEST = 462
"""The highest number that was known when this was written: mseal(2) of Linux 6.10.

From 424 on a number means the same on all architectures.
"""

NUMBERS: dict[str, tuple[int, int | None]] = {
    # Descriptors
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "close": (3, 57), "close_range": (436, 436), "lseek": (8, 62), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59), "fcntl": (72, 25),
    "ioctl": (16, 29),
    # Files, to read
    "open": (2, None), "openat": (257, 56), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "stat": (4, None), "lstat": (6, None), "fstat": (5, 80),
    "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44),
    "readlink": (89, None), "readlinkat": (267, 78), "getdents": (78, None), "getdents64": (217, 61),
    "getcwd": (79, 17),
    # Events
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd": (284, None),
    "eventfd2": (290, 19), "timerfd_create": (283, 85), "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27), "inotify_rm_watch": (255, 28),
    # Sockets
    "socket": (41, 198), "socketpair": (53, 199), "accept": (43, 202), "accept4": (288, 242),
    "bind": (49, 200), "connect": (42, 203), "shutdown": (48, 210), "getsockname": (51, 204),
    "getpeername": (52, 205), "getsockopt": (55, 209), "setsockopt": (54, 208), "sendto": (44, 206),
    "sendmsg": (46, 211), "recvfrom": (45, 207), "recvmsg": (47, 212),
    # Memory
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226),
    "madvise": (28, 233), "mincore": (27, 232), "membarrier": (324, 283),
    # Threads
    "clone": (56, 220), "futex": (202, 98), "set_robust_list": (273, 99), "set_tid_address": (218, 96),
    "rseq": (334, 293), "gettid": (186, 178), "getcpu": (309, 168), "exit": (60, 93), "exit_group": (231, 94),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "arch_prctl": (158, None), "prctl": (157, 167),
    # Signals
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "kill": (62, 129), "tgkill": (234, 131), "pause": (34, None),
    "restart_syscall": (219, 128), "wait4": (61, 260), "waitid": (247, 95),
    # Time
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "getitimer": (36, 102), "setitimer": (38, 103),
    # What this process is
    "getpid": (39, 172), "getppid": (110, 173), "getpgid": (121, 155), "getpgrp": (111, None),
    "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "capget": (125, 90), "getrlimit": (97, 163), "prlimit64": (302, 261), "getrusage": (98, 165),
    "getpriority": (140, 141), "uname": (63, 160), "sysinfo": (99, 179), "getrandom": (318, 278),
    # Of these the C library has an older form
    "clone3": (435, 435), "openat2": (437, 437),
    # What a filter is installed with
    "seccomp": (317, 277),
}  # fmt: skip
"""What the event loop, its libraries and the interpreter call, and what a filter needs.

Numbers on x86_64 and on aarch64, which lacks some: those of the kernel's asm/unistd.h.
"""


def call(number: int, *arguments: bytes | int) -> int:
    """Make a system call and return what it returns; bytes are what it may read. Raises OSError."""
    words = [item if isinstance(item, bytes) else ctypes.c_long(item) for item in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        reason = ctypes.get_errno()
        raise OSError(reason, os.strerror(reason))
    return result


def architecture() -> tuple[int, dict[str, int]] | None:
    """Return what this process's architecture is called (AUDIT_ARCH_*) and its numbers, if they are known."""
    known = _ARCHITECTURES.get(os.uname().machine) if sys.maxsize > _64_BITS else None
    if known is None:
        return None
    audit, column = known
    numbers = {name: pair[column] for name, pair in NUMBERS.items()}
    return audit, {name: number for name, number in numbers.items() if number is not None}
