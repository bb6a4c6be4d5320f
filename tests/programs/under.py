"""under.py CONDITIONS COMMAND...: becomes the command, with descriptors and signals as JSON conditions say.

open, close: numbers of descriptors; ignore, block: names of signals, the others being as they are by
default; nofile: a soft limit.
"""

import ctypes
import json
import os
import resource
import signal
import sys

from ucspid.linux.syscalls import architecture

conditions = json.loads(sys.argv[1])
# Python ignores some, a shell without job control those of the keyboard.
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
# What was started by glibc's posix_spawn, as by make, ignores the two that are glibc's own: only the kernel
# can change that.
if (known := architecture()) is not None:
    for reserved in (32, 33):
        arguments = map(ctypes.c_long, (known[1]["rt_sigaction"], reserved))
        ctypes.CDLL(None).syscall(*arguments, bytes(32), None, ctypes.c_long(8))
for name in conditions.get("ignore", []):
    signal.signal(signal.Signals[name], signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.Signals[name] for name in conditions.get("block", [])])
null = os.open(os.devnull, os.O_RDWR)
for number in conditions.get("open", []):
    os.dup2(null, number)
if "nofile" in conditions:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (conditions["nofile"], hard))
for number in conditions.get("close", []):
    os.close(number)
os.execv(sys.argv[2], sys.argv[2:])
