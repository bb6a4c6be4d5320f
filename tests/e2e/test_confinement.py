"""The event loop's process, taken over, as what it is: what it must not do is refused, what it does is not.

Its main() runs for real, with the test as its master, up to where its work would begin; see
programs/hostile_loop.py for what it tries instead, on a process of its own user's and in a folder
that is its own.
"""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import contract
from folders import NOBODY, public_folder
from ucspid.ipc import ban_memory, counters, orders
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import pair
from ucspid.linux import landlock, seccomp
from ucspid.linux.memfd import sealed_memory
from ucspid.linux.syscalls import NEWEST, NUMBERS, architecture
from ucspid.master import roles
from ucspid.observe import pseudonyms

Outcomes = dict[str, dict[str, str]]

REFUSED = {"EPERM", "EACCES", "ENOSYS"}
NOTHING_THERE = {"done", "ECONNREFUSED"}
"""Of a connection to a port at which somebody may listen, or not."""

LANDLOCK = landlock.version()
SECCOMP = architecture() is not None and Path("/proc/sys/kernel/seccomp/actions_avail").exists()
NET, SCOPES, UDP = 4, 6, 10
"""Versions of Landlock that can restrict TCP, signals, and UDP."""

BY_LANDLOCK_ONLY = {
    "connect": NET, "bind": NET, "bind for UDP": UDP, "read memory": 1, "read the environment": 1,
}  # fmt: skip
"""What seccomp cannot see where ident servers are asked, and since which version Landlock can refuse it."""
BEYOND_LANDLOCK = {
    "fork", "clone", "open as a descriptor", "set limits", "set the priority", "set the processor",
    "change the mode", "change the group", "change the times", "set an attribute",
    "connect by multipath TCP", "connect by sending", "connect by sending a message", "listen",
    "bind for UDP", "filter packets", "route packets", "send to a path", "send a message to a path",
    "connect to a path",
    "a Unix socket", "a netlink socket", "a ping socket", "an SCTP socket", "a kernel crypto socket",
    "a VM socket", "a pair of TIPC sockets", "kill by input", "own a socket", "own a socket, extended",
    "own a socket by ioctl", "own a socket by another ioctl", "choose the signal", "have input signalled",
    "have input signalled by ioctl",
}  # fmt: skip
"""What only seccomp refuses: no rule of Landlock's is about it."""


SURVIVED = {"end": str(-signal.SIGTERM)}


@contextlib.contextmanager
def sleeping(user: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process of the user's that does nothing."""
    groups = None if user is None else [user]
    with subprocess.Popen(
        ["sleep", "100"], user=user, group=user, extra_groups=groups, process_group=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@functools.cache
def tried(without: str = "", asks: str = "dns ident") -> Outcomes:
    """Return what became of all attempts, with a kernel that lacks something and a plan that asks servers."""
    user = NOBODY if os.geteuid() == 0 else None
    first = orders.Begin(
        log_format="json", log_level="error", uid=user, gid=user, groups=None if user is None else (user,),
        nameservers=(), looks_up=True, asks_dns="dns" in asks, asks_ident="ident" in asks,
        owner=os.geteuid(), config="", began=0.0,
    )  # fmt: skip
    tls = "tls" in without
    rights = wire.TakeTlsRights(wire.VERSION, user, user, 0, "00" * 32, None if user is None else ())
    ours, theirs = pair()
    ours.settimeout(30)
    with (
        ours,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as no_loop,
        public_folder() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket() as bound,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as by_path,
        sleeping(user) as other,
        sleeping(user) as victim,
        Path(os.devnull).open("r+b") as null,
    ):
        (folder / "empty").mkdir()
        (folder / "mine").touch()
        (folder / "program").write_text("no program")
        (folder / "program").chmod(0o755)
        by_path.bind(str(folder / "socket"))
        bound.bind(("127.0.0.1", 0))
        free = bound.getsockname()[1]
        bound.close()
        if user is not None:
            for path in folder.iterdir():
                os.chown(path, user, user)
        with theirs:
            program = [str(contract.PROGRAMS / "hostile_loop.py"), *without.split()]
            descriptors = {0: null.fileno(), 1: null.fileno(), 3: theirs.fileno()}
            if tls:
                descriptors[4] = no_loop.fileno()
                ours.send(rights.pack())
            pid = roles._start([*roles.PYTHON[:2], *program], descriptors, {})
        if tls:
            assert wire.Ready.unpack(ours.recv(100)).version == wire.VERSION
        else:
            assert wire.Note.unpack(ours.recv(100)).kind == wire.NOTE_READY
        counts = sealed_memory("counters", counters.SIZE)
        bans = sealed_memory("bans", ban_memory.SIZE)
        log_key = sealed_memory("key", pseudonyms.SIZE)
        if not tls:
            socket.send_fds(ours, [orders.pack(first)], [counts, bans, log_key])
        for descriptor in (counts, bans, log_key):
            os.close(descriptor)
        target = {
            "folder": str(folder), "pid": other.pid, "victim": victim.pid, "port": listener.getsockname()[1],
            "free": free, "path": str(folder / "socket"),
        }  # fmt: skip
        ours.send(json.dumps(target).encode())
        reported: Outcomes = json.loads(ours.recv(100_000))
        os.waitpid(pid, 0)
        victim.terminate()  # too late for one that was killed
        reported["victim"] = {"end": str(victim.wait(30))}
    return reported


def refused(reported: Outcomes, *kinds: str) -> set[str]:
    """Return which attempts were refused for want of permission, and not because they cannot be."""
    return {name for kind in kinds for name, outcome in reported[kind].items() if outcome in REFUSED}


KINDS = ("files", "programs", "others", "sockets")


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
@pytest.mark.parametrize("kind", [*KINDS, "privileges", "in a thread"])
def test_a_loop_that_was_taken_over_can_do_none_of_it(kind: str) -> None:
    beyond = {name for name, since in BY_LANDLOCK_ONLY.items() if since > LANDLOCK}
    assert tried()[kind].keys() - refused(tried(), kind) - beyond == set()
    assert tried()["victim"] == SURVIVED


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
@pytest.mark.parametrize("without", ["tls", "tls landlock"])
def test_a_tls_process_that_was_taken_over_can_do_none_of_it_and_has_no_connections_of_its_own(
    without: str,
) -> None:
    reported = tried(without)
    beyond = {name for name, since in BY_LANDLOCK_ONLY.items() if since > LANDLOCK or "landlock" in without}
    for kind in (*KINDS, "privileges", "dns", "ident"):
        assert reported[kind].keys() - refused(reported, kind) - beyond == set()
    assert reported["victim"] == SURVIVED
    assert set(reported["calls"].values()) <= {"EPERM", "ENOSYS"}


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
@pytest.mark.parametrize("asks", ["", "dns"])
def test_where_no_ident_server_is_asked_nothing_is_bound(asks: str) -> None:
    assert {"bind", "bind for UDP"} <= refused(tried(asks=asks), "sockets")
    assert "bind to a free port" in refused(tried(asks=asks), "ident")


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
def test_where_only_ident_servers_are_asked_there_is_no_udp() -> None:
    assert "bind for UDP" in refused(tried(asks="ident"), "sockets")
    assert "ask a name server by UDP" in refused(tried(asks="ident"), "dns")


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
@pytest.mark.parametrize("without", ["", "landlock"])
def test_where_nobody_is_asked_the_loop_has_no_connections_of_its_own(without: str) -> None:
    reported = tried(without, asks="")
    for kind in ("sockets", "dns", "ident"):
        assert reported[kind].keys() - refused(reported, kind) == set()


@pytest.mark.parametrize("without", ["", "seccomp", "landlock", "seccomp landlock"])
@pytest.mark.parametrize("asks", ["", "dns", "ident", "dns ident"])
def test_the_loop_can_do_its_work(without: str, asks: str) -> None:
    reported = tried(without, asks)
    for kind in ("work", *asks.split()):
        assert {name: end for name, end in reported[kind].items() if end not in NOTHING_THERE} == {}


@pytest.mark.skipif(SCOPES > LANDLOCK, reason="no Landlock that knows of signals here")
def test_landlock_alone_refuses_what_it_can_see() -> None:
    reported = tried("seccomp")
    assert {name for kind in KINDS for name in reported[kind]} - refused(reported, *KINDS) <= BEYOND_LANDLOCK
    assert reported["victim"] == SURVIVED


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
def test_seccomp_alone_refuses_all_but_what_it_cannot_see() -> None:
    reported = tried("landlock")
    assert {name for kind in KINDS for name in reported[kind]} - refused(
        reported, *KINDS
    ) == BY_LANDLOCK_ONLY.keys()
    assert reported["victim"] == SURVIVED


def test_without_either_the_attempts_would_succeed() -> None:
    """Show that the attempts are real: what is refused here needs a privilege."""
    reported = tried("seccomp landlock")
    assert {name for kind in KINDS for name, outcome in reported[kind].items() if outcome == "done"} >= {
        "write", "append", "create", "fork", "spawn", "run", "kill", "set the priority", "connect", "bind",
        "listen", "a Unix socket", "connect by sending", "connect by sending a message",
        "read the environment", "bind for UDP", "filter packets", "route packets", "send to a path",
        "send a message to a path", "connect to a path", "kill by input", "own a socket",
        "own a socket, extended", "own a socket by ioctl", "own a socket by another ioctl",
        "choose the signal", "have input signalled", "have input signalled by ioctl",
    }  # fmt: skip
    assert reported["victim"] == {"end": str(-signal.SIGKILL)}


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
def test_what_is_not_on_the_list_of_system_calls_is_refused() -> None:
    calls = tried()["calls"]
    assert {name: outcome for name, outcome in calls.items() if outcome not in {"EPERM", "ENOSYS"}} == {}
    assert calls["call one that is new"] == calls["call clone3"] == calls["call openat2"] == "ENOSYS"
    assert len(calls) > 300


@pytest.mark.parametrize(
    ("column", "path"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
    ids=["x86_64", "aarch64"],
)
def test_the_numbers_are_the_kernels(column: int, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"{path} is not here (Debian package linux-libc-dev)")
    lines = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(path).read_text(), re.MULTILINE)
    kernels = {name: int(number) for name, number in lines}
    kernels.setdefault("newfstatat", kernels.get("fstatat", -1))  # its name depends on the size of a word
    known = {name: pair[column] for name, pair in NUMBERS.items()}
    # The kernel's headers may be older than the newest calls.
    newest = max(kernels.values())
    assert {name: (number, kernels.get(name)) for name, number in known.items()
            if number is not None and number <= newest and kernels.get(name) != number} == {}  # fmt: skip
    assert not {name for name, number in known.items() if number is None} & kernels.keys()


@pytest.mark.parametrize("audit", [0xC000003E, 0xC00000B7])
def test_the_filter_is_within_the_bounds_of_the_kernel(audit: int) -> None:
    column = int(audit == 0xC00000B7)
    numbers = {name: pair[column] for name, pair in NUMBERS.items()}
    instructions = seccomp.program(
        audit,
        {name: number for name, number in numbers.items() if number is not None},
        seccomp.Outgoing(tcp=True, udp=True, bind=True),
    )
    assert {len(item) for item in instructions} == {8}
    assert len(instructions) <= 4096
    assert max(number or 0 for number in numbers.values()) <= NEWEST


def test_an_architecture_whose_calls_are_not_known_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert not seccomp.restrict(seccomp.Outgoing(tcp=False, udp=False, bind=False))
