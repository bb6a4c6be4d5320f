"""What each process of the daemon has: ids, capabilities, descriptors, as docs/security.md says it."""

import contextlib
import ctypes
import os
import pwd
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import certificates
import contract
from daemon import Daemon, running
from folders import public_folder
from ucspid.linux.syscalls import architecture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give privileges away")

NOBODY = pwd.getpwnam("nobody")
UID, GID = 64011, 64012
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
NONE = "0" * 16
SESSIONS = 5
PIDFD_GETFD = 438
LIBC = ctypes.CDLL(None, use_errno=True)

REGAIN = """
import ctypes, os
tries = {
    "setuid": lambda: os.setuid(0),
    "setresuid": lambda: os.setresuid(-1, 0, -1),
    "setgid": lambda: os.setgid(0),
    "setgroups": lambda: os.setgroups([0]),
    "chroot": lambda: os.chroot("/"),
    "nice": lambda: os.setpriority(os.PRIO_PROCESS, 0, -1),
    "read": lambda: open("/proc/1/environ", "rb"),
    "signal": lambda: os.kill(os.getppid(), 0) if os.getuid() != %d else os.kill(1, 0),
}
for name, attempt in tries.items():
    try:
        attempt()
    except OSError as problem:
        print(name, "refused" if problem.errno in (1, 13) else problem)
    else:
        print(name, "done")
securebits = ctypes.CDLL(None).prctl(27, 0, 0, 0, 0)
print("securebits", securebits)
"""


@pytest.fixture(scope="module")
def daemon(each_launcher: str) -> Iterator[Daemon]:
    """Return a daemon with two privilege profiles and a control client that nobody uses."""
    own = {"listen": "127.0.0.1:0", "user": UID, "group": GID, "groups": []}
    config = {
        "launcher": each_launcher,
        "user": "nobody",
        "tls": {
            "user": "daemon",
            "processes": 1,
            "certificates": str(certificates.shared() / "mail.example.org.pem"),
        },
        "services": {
            "secured": {"listen": "127.0.0.1:0", "program": ["cat"], "stderr": "null", "tls": "implicit"},
            "default": {"listen": ["127.0.0.1:0", "127.0.0.2:0"], "program": ["cat"]},
            "own": {**own, "program": ["cat"]},
            "quiet": {**own, "program": ["cat"], "stderr": "null"},
            "status": {**own, "program": contract.STATUS},
            "regain": {**own, "program": [contract.PYTHON, "-I", "-S", "-c", REGAIN % UID]},
        },
    }
    with public_folder(owner=0) as folder, running(folder, config) as started:
        yield started


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def pids(daemon: Daemon) -> dict[str, int]:
    """Return the loop's process and, by a service each, the launchers'."""
    found = {"loop": daemon.processes("loop")[0]["pid"]}
    for process in daemon.processes("launcher"):
        found["launcher of " + process["services"][0]] = process["pid"]
    return found


# Ids and capabilities


def test_no_process_has_capabilities_but_the_master(daemon: Daemon) -> None:
    sets = {name: {status_of(pid)[field] for field in CAPABILITIES} for name, pid in pids(daemon).items()}
    assert sets == {"loop": {NONE}, "launcher of default": {NONE}, "launcher of own": {NONE}}


def test_each_process_has_the_ids_of_its_role_and_no_other(daemon: Daemon) -> None:
    def all_ids(pid: int) -> tuple[set[str], set[str], set[str]]:
        fields = status_of(pid)
        return set(fields["Uid"].split()), set(fields["Gid"].split()), set(fields["Groups"].split())

    uid, gid = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
    groups = set(map(str, os.getgrouplist("nobody", NOBODY.pw_gid)))
    assert {name: all_ids(pid) for name, pid in pids(daemon).items()} == {
        "loop": ({uid}, {gid}, groups),
        "launcher of default": ({uid}, {gid}, groups),
        "launcher of own": ({str(UID)}, {str(GID)}, set()),
    }


def test_the_loop_is_confined_and_launchers_are_as_their_programs(daemon: Daemon) -> None:
    fields = {name: status_of(pid) for name, pid in pids(daemon).items()}
    filters = {name: (field["NoNewPrivs"], field["Seccomp"]) for name, field in fields.items()}
    assert filters == {
        "loop": ("1", "2" if architecture() is not None else "0"),
        "launcher of default": ("0", "0"),
        "launcher of own": ("0", "0"),
    }


def test_no_process_can_be_read_or_traced_by_others_of_its_user(daemon: Daemon) -> None:
    """The kernel gives the files below /proc/PID of a process that is not dumpable to root: proc(5)."""
    owners = {name: Path(f"/proc/{pid}/environ").stat().st_uid for name, pid in pids(daemon).items()}
    assert set(owners.values()) == {0}


def test_a_program_cannot_regain_what_its_launcher_gave_up(daemon: Daemon) -> None:
    reported = dict(line.split(" ", 1) for line in daemon.talk("regain").decode().splitlines())
    assert reported.pop("securebits") == "0"
    assert {name: outcome for name, outcome in reported.items() if outcome != "refused"} == {}
    assert len(reported) == 8


def test_capabilities_that_a_service_manager_gave_a_user_are_not_the_loops() -> None:
    # The second lets that user reach the interpreter, wherever it is.
    given = "+net_bind_service,+dac_read_search"
    command = ["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"]
    command += [f"--inh-caps={given}", f"--ambient-caps={given}", sys.executable, "-m", "ucspid"]
    config = {"services": {"a": {"listen": "127.0.0.1:0", "program": ["cat"]}}}
    with public_folder(owner=UID) as folder, running(folder, config, command=command) as daemon:
        assert daemon.talk("a", b"hello") == b"hello"
        (loop,) = daemon.processes("loop")
        assert {status_of(loop["pid"])[field] for field in CAPABILITIES} == {NONE}
        assert int(status_of(daemon.pid)["CapEff"], 16) == 1 << 10 | 1 << 2


# Descriptors


@contextlib.contextmanager
def borrowed(pid: int, number: int) -> Iterator[socket.socket]:
    """Return a copy of another process's socket: pidfd_getfd(2)."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = LIBC.syscall(PIDFD_GETFD, pidfd, number, 0)
        assert copy >= 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(pidfd)
    with socket.socket(fileno=copy) as sock:
        yield sock


def describe(pid: int, number: int) -> str:
    """Return what a descriptor of a process is."""
    link = os.readlink(f"/proc/{pid}/fd/{number}")
    kind = link.partition(":")[0]
    if kind == "pipe":
        flags = int(Path(f"/proc/{pid}/fdinfo/{number}").read_text().split()[3], 8)
        return "pipe to write" if flags & os.O_ACCMODE == os.O_WRONLY else "pipe to read"
    if kind != "socket":
        return link.replace("anon_inode:", "").split("-launcher")[0]
    with borrowed(pid, number) as sock:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if sock.family != socket.AF_UNIX:
            return "listener" if listens else "connection"
        if sock.type == socket.SOCK_SEQPACKET:
            return "channel"
        return "control" if listens else "pair"


def held(pid: int) -> Counter[str]:
    return Counter(describe(pid, int(entry.name)) for entry in Path(f"/proc/{pid}/fd").iterdir())


LOGGED = {"default", "own", "status", "regain"}
"""Services whose programs' standard error goes to the log."""


TRIES = 20


def expected_of_the_loop(launchers: int) -> Counter[str]:
    return Counter(
        {
            "/dev/null": 3,  # 0, 1 and the reserve
            "pipe to write": 1 + 2,  # the log on 2; two of libuv's for signals
            "pipe to read": 2 + len(LOGGED),
            "[eventpoll]": 1,
            "/memfd:ucspid-counters (deleted)": 2,  # mapped to count, and open to be read
            "/memfd:ucspid-bans (deleted)": 1,  # mapped
            "[eventfd]": 1,  # libuv, to be woken up by threads
            "pair": 2,  # uvloop, for signals
            "channel": 1 + launchers + 1,  # the master, a TLS process
            "control": 1,
            "listener": 7,
        }
    )


def expected_of_a_launcher(services: set[str], kind: str) -> Counter[str]:
    of_all = {
        "/dev/null": 2 + len(services - LOGGED),  # 0 and 1
        "channel": 2,
        "[signalfd]": 1,
        "pipe to write": 1 + len(services & LOGGED),  # the daemon's own on 2
    }
    of_python = {
        "/dev/null": 1,  # copies to take back after a start
        "pipe to write": 1,
        "/memfd:ucspid": 1,  # the table, mapped; the native one has closed it
    }
    return Counter(of_all) + Counter(of_python if kind == "python" else {})


def expected_of_tls(sessions: int) -> Counter[str]:
    return Counter(
        {
            "/dev/null": 2,  # 0 and 1
            "pipe to write": 1,  # the daemon's own on 2
            "channel": 2,
            "[eventpoll]": 1,
            "connection": sessions,
            "pair": sessions,
        }
    )


def check_descriptors(daemon: Daemon, over_tls: int = 0) -> None:
    """Compare until it is so: what we ask by is closed a moment later, and a launcher may come."""
    for _ in range(TRIES):
        processes = daemon.status()["processes"]
        assert daemon.talk("default", b"hello") == b"hello"
        launchers = [process for process in processes if process["role"] == "launcher"]
        loop, tls = (
            next(process["pid"] for process in processes if process["role"] == role)
            for role in ("loop", "tls")
        )
        try:
            found = {pid: held(pid) for pid in (loop, tls, *(process["pid"] for process in launchers))}
        except FileNotFoundError:
            continue  # one was closed after it was seen
        expected = {loop: expected_of_the_loop(len(launchers)), tls: expected_of_tls(over_tls)} | {
            process["pid"]: expected_of_a_launcher(set(process["services"]), process["kind"])
            for process in launchers
        }
        if found == expected:
            break
    assert found == expected


def test_each_process_holds_the_descriptors_that_it_needs_and_no_other(daemon: Daemon) -> None:
    check_descriptors(daemon)


def test_sessions_add_no_descriptor_to_any_process_but_those_of_tls(daemon: Daemon) -> None:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    with contextlib.ExitStack() as stack:
        for _ in range(SESSIONS):
            plain = stack.enter_context(daemon.connect("secured"))
            over_tls = stack.enter_context(context.wrap_socket(plain, server_hostname="mail.example.org"))
            over_tls.sendall(b"x")
            assert over_tls.recv(1) == b"x"
        for service in ("default", "own", "quiet"):
            for _ in range(SESSIONS):
                client = stack.enter_context(daemon.connect(service))
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        check_descriptors(daemon, SESSIONS)
