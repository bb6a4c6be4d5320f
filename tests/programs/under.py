"""under.py CONDITIONS COMMAND...: becomes the command, with descriptors and signals as JSON conditions say.

open, close: numbers of descriptors; one that is open stays what it is. ignore, block: names of signals, the
others being as they are by default; nofile: a soft limit.
"""

import fcntl
import json
import os
import resource
import signal
import sys

OUT_OF_THE_WAY = 950

conditions = json.loads(sys.argv[1])
# Python ignores some, a shell without job control those of the keyboard.
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
for name in conditions.get("ignore", []):
    signal.signal(signal.Signals[name], signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.Signals[name] for name in conditions.get("block", [])])
opened = os.open(os.devnull, os.O_RDWR)
null = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
os.close(opened)
for number in conditions.get("open", []):
    if not os.path.lexists(f"/proc/self/fd/{number}"):
        os.dup2(null, number)
if "nofile" in conditions:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (conditions["nofile"], hard))
for number in conditions.get("close", []):
    os.close(number)
os.execv(sys.argv[2], sys.argv[2:])
