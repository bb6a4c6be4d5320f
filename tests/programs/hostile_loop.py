"""The event loop's process as its main() makes it, but taken over: it tries what it must not do.

The first packet on descriptor 3 is the master's first order, the second says on whom and what to
try. Answers with a JSON object: of each attempt "done", or the name of the errno with which it was
refused. An argument names what the kernel is to lack: seccomp or landlock.
"""

import asyncio
import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ucspid.loop
from ucspid.linux import landlock, seccomp
from ucspid.linux.seccomp import bounded
from ucspid.linux.syscalls import NEWEST, architecture, call

Attempt = Callable[[], object]

FAST_OPEN, MPTCP, PTRACE_ATTACH, SIGCHLD, NEW_USER_NAMESPACE = 0x20000000, 262, 16, 17, 0x10000000
LIBC = ctypes.CDLL(None, use_errno=True)


def raw(name: str, *arguments: int) -> None:
    """Make a system call by its name, where the architecture has it."""
    known = architecture()
    assert known is not None
    if LIBC.syscall(known[1][name], *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def connect(port: int, protocol: int = 0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as sock:
        sock.connect(("127.0.0.1", port))


def send(port: int, kind: int, flags: int = 0) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.sendto(b"x", flags, ("127.0.0.1", port))


def send_message(port: int) -> None:
    with socket.socket() as sock:
        sock.sendmsg([b"x"], [], FAST_OPEN, ("127.0.0.1", port))


def bind(port: int) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))


def listen() -> None:
    with socket.socket() as sock:
        sock.listen()


def files(folder: Path) -> dict[str, Attempt]:
    mine = folder / "mine"
    return {
        "write": lambda: mine.open("r+"),
        "append": lambda: mine.open("a"),
        "truncate when opened": lambda: os.open(mine, os.O_RDONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(mine, 0),
        "create": (folder / "new").touch,
        "create unnamed": lambda: os.open(folder, os.O_TMPFILE | os.O_RDWR),
        "remove": mine.unlink,
        "rename": lambda: mine.rename(folder / "other"),
        "make a directory": (folder / "directory").mkdir,
        "remove a directory": (folder / "empty").rmdir,
        "make a fifo": lambda: os.mkfifo(folder / "fifo"),
        "link": lambda: os.link(mine, folder / "link"),
        "link by symbol": lambda: (folder / "symbol").symlink_to(mine),
        "change the mode": lambda: mine.chmod(0o777),
        "change the group": lambda: os.chown(mine, -1, os.getgid()),
        "change the times": lambda: os.utime(mine),
        "set an attribute": lambda: os.setxattr(mine, "user.x", b"x"),
        "write to /dev/null": lambda: Path(os.devnull).write_bytes(b""),
    }


def clone() -> None:
    known = architecture()
    assert known is not None
    pid = LIBC.syscall(known[1]["clone"], *map(ctypes.c_long, (SIGCHLD, 0, 0, 0, 0)))
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")


def programs(program: Path) -> dict[str, Attempt]:
    """Return attempts to start something; what is executed in this process's place is no program."""
    return {
        "exec": lambda: os.execv(program, ["program"]),
        "exec a descriptor": lambda: os.execve(os.open(program, os.O_RDONLY), ["program"], {}),
        "fork": lambda: os.fork() or os._exit(0),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "run": lambda: subprocess.run(["/bin/true"], check=True),
        "clone": clone,
    }


def others(pid: int) -> dict[str, Attempt]:
    """Return attempts on another process of the same user."""
    return {
        "kill": lambda: os.kill(pid, 0),
        "kill the master": lambda: os.kill(os.getppid(), 0),
        "kill a group": lambda: os.kill(-pid, 0),
        "kill a thread": lambda: raw("tgkill", pid, pid, 0),
        "open as a descriptor": lambda: os.pidfd_open(pid),
        "trace": lambda: raw("ptrace", PTRACE_ATTACH, pid, 0, 0),
        "read memory": lambda: Path(f"/proc/{pid}/mem").open("rb"),
        "read the environment": Path(f"/proc/{pid}/environ").read_bytes,
        "set limits": lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE),
        "set the priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 5),
        "set the processor": lambda: os.sched_setaffinity(pid, {0}),
    }


def sockets(port: int) -> dict[str, Attempt]:
    """Return attempts to speak with others; the port is one that is listened on."""
    return {
        "connect": lambda: connect(port),
        "connect by multipath TCP": lambda: connect(port, MPTCP),
        "connect by sending": lambda: send(port, socket.SOCK_STREAM, FAST_OPEN),
        "connect by sending a message": lambda: send_message(port),
        "bind": lambda: bind(2525),
        "listen": listen,
        "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "a ping socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        "an SCTP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        "a kernel crypto socket": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    }


def privileges() -> dict[str, Attempt]:
    return {
        "become root": lambda: os.setuid(0),
        "become root again": lambda: os.setresuid(-1, 0, -1),
        "become root's group": lambda: os.setgid(0),
        "join groups": lambda: os.setgroups([0]),
        "a user namespace": lambda: raw("unshare", NEW_USER_NAMESPACE),
        "change the root": lambda: os.chroot("/"),
    }


def work(folder: Path, port: int) -> dict[str, Attempt]:
    """Return what the loop does and must be able to."""
    return {
        "read": (folder / "program").read_bytes,
        "list": lambda: list(folder.iterdir()),
        "run a thread": run_thread,
        "ask a name server by UDP": lambda: send(port, socket.SOCK_DGRAM),
        "ask a name server by TCP": lambda: connect(53),
        "ask an ident server": lambda: connect(113),
        "bind to a free port": lambda: bind(0),
        "a pair of sockets": lambda: list(map(socket.socket.close, socket.socketpair())),
        "memory": lambda: mmap.mmap(-1, 4096).close(),
        "its own limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
        "its own signals": lambda: os.kill(os.getpid(), 0),
    }


def run_thread() -> None:
    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()


def outcome(attempt: Attempt) -> str:
    try:
        attempt()
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]
    return "done"


def filtered() -> dict[str, Attempt]:
    """Return every system call that the filter refuses whatever its arguments, and one of the future."""
    known = architecture()
    names = known[1].keys() - bounded().keys() - {"seccomp", "vfork"} if known is not None else ()
    calls: dict[str, Attempt] = {f"call {name}": partial(raw, name, *6 * [0]) for name in names}
    return calls | {"call one that is new": lambda: call(NEWEST + 1)}


async def hostile(channel: Any, *_others: object) -> None:
    """Do everything that is tried, in a thread too: what holds one must hold all."""
    wait = asyncio.Event()
    asyncio.get_running_loop().add_reader(channel.fileno(), wait.set)
    await wait.wait()
    told = json.loads(channel.receive()[0])
    folder = Path(told["folder"])
    attempts = {
        "files": files(folder),
        "programs": programs(folder / "program"),
        "others": others(told["pid"]),
        "sockets": sockets(told["port"]),
        "privileges": privileges(),
        "work": work(folder, told["port"]),
        "calls": filtered() if len(sys.argv) == 1 else {},
    }
    answer = {
        kind: {name: outcome(attempt) for name, attempt in some.items()} for kind, some in attempts.items()
    }
    again = ("files", "programs", "others", "sockets")
    answer["in a thread"] = {
        name: await asyncio.to_thread(outcome, attempt)
        for kind in again
        for name, attempt in attempts[kind].items()
    }
    channel.sock.setblocking(True)
    channel.sock.send(json.dumps(answer).encode())


if __name__ == "__main__":
    if "seccomp" in sys.argv:
        seccomp.restrict = lambda: False
    if "landlock" in sys.argv:
        landlock.version = lambda: 0
    ucspid.loop._run = hostile  # type: ignore[assignment]
    sys.exit(ucspid.loop.main())
