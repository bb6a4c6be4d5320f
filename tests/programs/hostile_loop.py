"""The event loop's process as its main() makes it, but taken over: it tries what it must not do.

With the argument tls it is a TLS process instead.

The first packet on descriptor 3 is the master's first order, the second says on whom and what to
try. Answers with a JSON object: of each attempt "done", or the name of the errno with which it was
refused. Other arguments name what the kernel is to lack: seccomp or landlock.
"""

import asyncio
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ucspid.loop
import ucspid.tls.main
from ucspid.linux import landlock, seccomp
from ucspid.linux.syscalls import NEWEST, architecture, call

Attempt = Callable[[], object]

FAST_OPEN, MPTCP, PTRACE_ATTACH, SIGCHLD, NEW_USER_NAMESPACE = 0x20000000, 262, 16, 17, 0x10000000
F_SETOWN_EX, F_OWNER_PID, FIOSETOWN, SIOCSPGRP, F_SETSIG = 15, 1, 0x8901, 0x8902, 10
AF_TIPC, SO_ATTACH_FILTER = 30, 26
URETPROBE, UPROBE = 335, 336
"""Calls of x86_64 that filters do not see: they end a process that makes them, but at a probe."""
LIBC = ctypes.CDLL(None, use_errno=True)


def raw(name: str, *arguments: int) -> None:
    """Make a system call by its name, where the architecture has it."""
    known = architecture()
    assert known is not None
    if LIBC.syscall(known[1][name], *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def libc(name: str, *arguments: int) -> None:
    if getattr(LIBC, name)(*map(ctypes.c_long, arguments)) < 0:
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


def bind_for_udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))


def listen() -> None:
    with socket.socket() as sock:
        sock.listen()


def pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, kind)


def not_wait() -> None:
    with pair()[0] as sock:
        os.set_blocking(sock.fileno(), False)


def filter_packets() -> None:
    """Have a socket drop all that comes, as a listener could be made to."""
    drop = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    with pair()[0] as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(drop)))


def route_packets() -> None:
    """Have a socket send its packets along a route, as a listener could be made to."""
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([7, 7, 4, 0, 0, 0, 0, 0]))


def signal_by_input(pid: int, number: int) -> None:
    """Have another process sent a signal when a socket can be read."""
    ours, theirs = pair()
    with ours, theirs:
        fcntl.fcntl(ours, fcntl.F_SETOWN, pid)
        fcntl.fcntl(ours, F_SETSIG, number)
        fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
        theirs.send(b"x")


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


def others(pid: int, victim: int) -> dict[str, Attempt]:
    """Return attempts on another process of the same user, and on one that may be killed."""
    ours, _theirs = pair()
    return {
        "kill": lambda: os.kill(pid, 0),
        "kill the master": lambda: os.kill(os.getppid(), 0),
        "kill a group": lambda: os.kill(-pid, 0),
        "kill a thread": lambda: raw("tgkill", pid, pid, 0),
        "kill by input": lambda: signal_by_input(victim, signal.SIGKILL),
        "own a socket": lambda: fcntl.fcntl(ours, fcntl.F_SETOWN, pid),
        "own a socket, extended": lambda: fcntl.fcntl(ours, F_SETOWN_EX, struct.pack("ii", F_OWNER_PID, pid)),
        "own a socket by ioctl": lambda: fcntl.ioctl(ours, FIOSETOWN, struct.pack("i", pid)),
        "own a socket by another ioctl": lambda: fcntl.ioctl(ours, SIOCSPGRP, struct.pack("i", pid)),
        "choose the signal": lambda: fcntl.fcntl(ours, F_SETSIG, signal.SIGKILL),
        "have input signalled": lambda: fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC),
        "have input signalled by ioctl": lambda: fcntl.ioctl(ours, termios.FIOASYNC, struct.pack("i", 1)),
        "open as a descriptor": lambda: os.pidfd_open(pid),
        "trace": lambda: libc("ptrace", PTRACE_ATTACH, pid, 0, 0),
        "read memory": lambda: Path(f"/proc/{pid}/mem").open("rb"),
        "read the environment": Path(f"/proc/{pid}/environ").read_bytes,
        "set limits": lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE),
        "set the priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        "set the processor": lambda: os.sched_setaffinity(pid, {0}),
    }


def sockets(port: int, free: int, path: str) -> dict[str, Attempt]:
    """Return attempts to speak with others: at a port that is listened on, one that is not, and a path."""
    return {
        "connect": lambda: connect(port),
        "connect by multipath TCP": lambda: connect(port, MPTCP),
        "connect by sending": lambda: send(port, socket.SOCK_STREAM, FAST_OPEN),
        "connect by sending a message": lambda: send_message(port),
        "bind": lambda: bind(free),
        "bind for UDP": lambda: bind_for_udp(free),
        "listen": listen,
        "filter packets": filter_packets,
        "route packets": route_packets,
        "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "send to a path": lambda: pair(socket.SOCK_DGRAM)[0].sendto(b"x", path),
        "send a message to a path": lambda: pair(socket.SOCK_DGRAM)[0].sendmsg([b"x"], [], 0, path),
        "connect to a path": lambda: pair(socket.SOCK_DGRAM)[0].connect(path),
        "a pair of TIPC sockets": lambda: libc("socketpair", AF_TIPC, socket.SOCK_STREAM, 0, 0),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a VM socket": lambda: socket.socket(socket.AF_VSOCK),
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
        "a user namespace": lambda: libc("unshare", NEW_USER_NAMESPACE),
        "change the root": lambda: os.chroot("/"),
    }


def work(folder: Path) -> dict[str, Attempt]:
    """Return what the loop does and must be able to."""
    return {
        "read": (folder / "program").read_bytes,
        "list": lambda: list(folder.iterdir()),
        "follow a file": lambda: follow(folder),
        "run a thread": run_thread,
        "a pair of sockets": lambda: list(map(socket.socket.close, pair())),
        "not wait": not_wait,
        "duplicate": lambda: os.close(os.dup(0)),
        "memory": lambda: mmap.mmap(-1, 4096).close(),
        "its own limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
        "its own signals": lambda: os.kill(os.getpid(), 0),
    }


def dns(port: int) -> dict[str, Attempt]:
    """Return what asking name servers takes; the port stands for one of them."""
    return {
        "ask a name server by UDP": lambda: send(port, socket.SOCK_DGRAM),
        "ask a name server by TCP": lambda: connect(53),
    }


def ident() -> dict[str, Attempt]:
    """Return what asking ident servers takes: from the address at which the client has connected."""
    return {"ask an ident server": lambda: connect(113), "bind to a free port": lambda: bind(0)}


def follow(folder: Path) -> None:
    descriptor = LIBC.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0 or LIBC.inotify_add_watch(descriptor, bytes(folder), 2) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    os.close(descriptor)


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
    assert known is not None
    all_sockets = seccomp.Outgoing(tcp=True, udp=True, bind=True)
    some = {*seccomp.allowed(all_sockets), *seccomp.bounded(all_sockets)}
    known_numbers = {number for name, number in known[1].items() if name in some}
    numbers = set(range(NEWEST + 1)) - known_numbers - {URETPROBE, UPROBE}
    calls: dict[str, Attempt] = {f"call {number}": partial(call, number, *6 * [0]) for number in numbers}
    calls |= {f"call {name}": partial(raw, name, *6 * [0]) for name in seccomp.UNKNOWN}
    return calls | {"call one that is new": lambda: call(NEWEST + 1)}


def attempts_of(orders: dict[str, Any]) -> dict[str, dict[str, Attempt]]:
    """Return everything that is tried."""
    folder = Path(orders["folder"])
    return {
        "files": files(folder),
        "programs": programs(folder / "program"),
        "others": others(orders["pid"], orders["victim"]),
        "sockets": sockets(orders["port"], orders["free"], orders["path"]),
        "privileges": privileges(),
        "work": work(folder),
        "dns": dns(orders["port"]),
        "ident": ident(),
        "calls": filtered() if {*sys.argv[1:]} <= {"tls"} else {},
    }


class HostileTls:
    """In place of what serves handshakes: do everything that is tried."""

    def __init__(self, master: Any, *_others: object) -> None:
        """Be asked by the master."""
        self._sock = master.sock

    def run(self) -> None:
        """Try all, and answer."""
        self._sock.setblocking(True)
        attempts = attempts_of(json.loads(self._sock.recv(100_000)))
        answer = {
            kind: {name: outcome(attempt) for name, attempt in some.items()}
            for kind, some in attempts.items()
        }
        self._sock.send(json.dumps(answer).encode())


async def hostile(channel: Any, *_others: object) -> None:
    """Do everything that is tried, in a thread too: what holds one must hold all."""
    wait = asyncio.Event()
    asyncio.get_running_loop().add_reader(channel.fileno(), wait.set)
    await wait.wait()
    attempts = attempts_of(json.loads(channel.receive()[0]))
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
        seccomp.restrict = lambda outgoing: False  # noqa: ARG005 - as the real one
    if "landlock" in sys.argv:
        landlock.version = lambda: 0
    if "tls" in sys.argv:
        ucspid.tls.main.TlsProcess = HostileTls  # type: ignore[assignment, misc]
        sys.exit(ucspid.tls.main.main())
    ucspid.loop._run = hostile  # type: ignore[assignment]
    sys.exit(ucspid.loop.main())
