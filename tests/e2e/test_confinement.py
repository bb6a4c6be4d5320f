"""The event loop's process, taken over, as what it is: what it must not do is refused, what it does is not.

Its main() runs for real, with the test as its master, up to where its work would begin; see
programs/hostile_loop.py for what it tries instead, on a process of its own user's and in a folder
that is its own.
"""

import functools
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import contract
from folders import NOBODY, public_folder
from ucspid.ipc import counters
from ucspid.ipc import messages as wire
from ucspid.ipc.channel import pair
from ucspid.linux import landlock, seccomp
from ucspid.linux.memfd import sealed_memory
from ucspid.linux.syscalls import NEWEST, NUMBERS, architecture
from ucspid.master import roles

Outcomes = dict[str, dict[str, str]]

REFUSED = {"EPERM", "EACCES", "ENOSYS"}
NOTHING_THERE = {"done", "ECONNREFUSED"}
"""Of a connection to a port at which somebody may listen, or not."""

LANDLOCK = landlock.version()
SECCOMP = architecture() is not None and Path("/proc/sys/kernel/seccomp/actions_avail").exists()
NET, SCOPES = 4, 6
"""Versions of Landlock that can restrict TCP, and signals."""

BY_LANDLOCK_ONLY = {"connect": NET, "bind": NET, "read memory": 1, "read the environment": 1}
"""What seccomp cannot see, and since which version Landlock can refuse it."""
BEYOND_LANDLOCK = {
    "fork", "clone", "open as a descriptor", "set limits", "set the priority", "set the processor",
    "change the mode", "change the group", "change the times", "set an attribute",
    "connect by multipath TCP", "connect by sending", "connect by sending a message", "listen",
    "a Unix socket", "a netlink socket", "a ping socket", "an SCTP socket", "a kernel crypto socket",
}  # fmt: skip
"""What only seccomp refuses: no rule of Landlock's is about it."""


@functools.cache
def tried(without: str = "") -> Outcomes:
    """Return what became of all attempts, with a kernel that lacks something."""
    user = NOBODY if os.geteuid() == 0 else None
    groups = None if user is None else [user]
    first = {
        "log": {"format": "json", "level": "error"},
        "uid": user, "gid": user, "groups": groups,
        "nameservers": [], "looks_up": True,
    }  # fmt: skip
    ours, theirs = pair()
    ours.settimeout(30)
    with (
        ours,
        public_folder() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            ["sleep", "100"], user=user, group=user, extra_groups=groups, process_group=0
        ) as other,
        Path(os.devnull).open("r+b") as null,
    ):
        (folder / "empty").mkdir()
        (folder / "mine").touch()
        (folder / "program").write_text("no program")
        (folder / "program").chmod(0o755)
        if user is not None:
            for path in folder.iterdir():
                os.chown(path, user, user)
        with theirs:
            program = [str(contract.PROGRAMS / "hostile_loop.py"), *without.split()]
            descriptors = {0: null.fileno(), 1: null.fileno(), 3: theirs.fileno()}
            pid = roles._start(["-I", *program], descriptors, {})
        assert wire.unpack(wire.NOTE_HEAD, ours.recv(100))[0] == wire.NOTE_READY
        counts = sealed_memory("counters", counters.SIZE)
        socket.send_fds(ours, [json.dumps(first).encode()], [counts])
        os.close(counts)
        target = {"folder": str(folder), "pid": other.pid, "port": listener.getsockname()[1]}
        ours.send(json.dumps(target).encode())
        told: Outcomes = json.loads(ours.recv(100_000))
        os.waitpid(pid, 0)
        other.kill()
    return told


def refused(told: Outcomes, *kinds: str) -> set[str]:
    """Return which attempts were refused for want of permission, and not because they cannot be."""
    return {name for kind in kinds for name, outcome in told[kind].items() if outcome in REFUSED}


KINDS = ("files", "programs", "others", "sockets")


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
@pytest.mark.parametrize("kind", [*KINDS, "privileges", "in a thread"])
def test_a_loop_that_was_taken_over_can_do_none_of_it(kind: str) -> None:
    beyond = {name for name, since in BY_LANDLOCK_ONLY.items() if since > LANDLOCK}
    assert tried()[kind].keys() - refused(tried(), kind) - beyond == set()


@pytest.mark.parametrize("without", ["", "seccomp", "landlock", "seccomp landlock"])
def test_the_loop_can_do_its_work(without: str) -> None:
    assert {
        name: outcome for name, outcome in tried(without)["work"].items() if outcome not in NOTHING_THERE
    } == {}


@pytest.mark.skipif(SCOPES > LANDLOCK, reason="no Landlock that knows of signals here")
def test_landlock_alone_refuses_what_it_can_see() -> None:
    told = tried("seccomp")
    assert {name for kind in KINDS for name in told[kind]} - refused(told, *KINDS) <= BEYOND_LANDLOCK


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
def test_seccomp_alone_refuses_all_but_what_it_cannot_see() -> None:
    told = tried("landlock")
    assert {name for kind in KINDS for name in told[kind]} - refused(told, *KINDS) == BY_LANDLOCK_ONLY.keys()


def test_without_either_the_attempts_would_succeed() -> None:
    """Show that the attempts are real: what is refused here needs a privilege."""
    told = tried("seccomp landlock")
    assert {name for kind in KINDS for name, outcome in told[kind].items() if outcome == "done"} >= {
        "write", "append", "create", "fork", "spawn", "run", "kill", "set the priority", "connect", "bind",
        "listen", "a Unix socket", "connect by sending", "connect by sending a message",
        "read the environment",
    }  # fmt: skip


@pytest.mark.skipif(not SECCOMP, reason="no seccomp here")
def test_no_system_call_of_the_list_is_left_out_of_the_filter() -> None:
    calls = tried()["calls"]
    assert {name: outcome for name, outcome in calls.items() if outcome not in {"EPERM", "ENOSYS"}} == {}
    assert calls["call one that is new"] == calls["call clone3"] == "ENOSYS"
    assert len(calls) > 100


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
    known = {name: pair[column] for name, pair in NUMBERS.items()}
    # The kernel's headers may be older than the newest calls.
    newest = max(kernels.values())
    assert {name: (number, kernels.get(name)) for name, number in known.items()
            if number is not None and number <= newest and kernels.get(name) != number} == {}  # fmt: skip
    assert {name for name, number in known.items() if number is None} & kernels.keys() <= {"clone3"}


@pytest.mark.parametrize("audit", [0xC000003E, 0xC00000B7])
def test_the_filter_is_within_the_bounds_of_the_kernel(audit: int) -> None:
    column = int(audit == 0xC00000B7)
    numbers = {name: pair[column] for name, pair in NUMBERS.items()}
    instructions = seccomp.program(
        audit, {name: number for name, number in numbers.items() if number is not None}
    )
    assert {len(item) for item in instructions} == {8}
    assert len(instructions) <= 4096
    assert max(number or 0 for number in numbers.values()) <= NEWEST


def test_an_architecture_whose_calls_are_not_known_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert not seccomp.restrict()
