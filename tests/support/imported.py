"""What another server does with its own configuration, and what ucspid does with what was imported of it."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from daemon import TIMEOUT, Daemon, exchange
from ucspid.importers.collect import CONTROL, import_paths
from ucspid.importers.description import Description
from ucspid.importers.host import Host

LOOPBACK = "127.0.0.1"

REPORT = """#!/bin/sh
# Says what it was started with; sorted, so that it can be compared.
echo "argv $*"
echo "uid $(id -u) gid $(id -g) groups $(id -G)"
echo "umask $(umask) nice $(nice) cwd $(pwd)"
echo "limits as=$(ulimit -v) nofile=$(ulimit -n) fsize=$(ulimit -f) core=$(ulimit -c)"
env | sort | while read -r line; do echo "env $line"; done
"""
HOLD = """#!/bin/sh
# Stays until its client is gone.
echo ready
exec cat >/dev/null
"""

OF_THE_CONNECTION = (
    "PROTO=", "TCP", "UCSPID_", "REMOTE_", "PATH=", "PWD=",
    "inetd_dummy=", "LISTEN_", "SHLVL=", "_=", "OLDPWD=",
)  # fmt: skip
"""Variables that describe the connection, or that the shell or the server itself sets."""


def write_program(path: Path, text: str) -> Path:
    """Write a program that everybody may run."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def imported(*paths: Path | str, root: str = "/") -> tuple[str, Description]:
    """Return the text that ucspid import writes, and the description with its notes."""
    text, description = import_paths([str(path) for path in paths], Host(root))
    assert text is not None, [str(note) for note in description.all_notes()]
    return text, description


@contextlib.contextmanager
def usual_niceness() -> Iterator[None]:
    """Start processes as if no nice(1) ran the tests, where that is allowed: they say how nice they are."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


@contextlib.contextmanager
def running_text(folder: Path, text: str) -> Iterator[Daemon]:
    """Run a daemon with a text of ucspid import as its file, its control socket in the folder."""
    daemon = Daemon(folder, {})
    daemon.replace(text.replace(f"control: {CONTROL}\n", f"control: {daemon.control}\n"))
    with usual_niceness():
        daemon.start()
    try:
        yield daemon
        assert daemon.differences() == []
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0, daemon.stderr
    finally:
        daemon.kill()


@contextlib.contextmanager
def serving(command: Sequence[str | Path], port: int, *, env: dict[str, str] | None = None) -> Iterator[None]:
    """Run another server until it listens on the port, and end it with what it has started."""
    with usual_niceness():
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"]} | (env or {}),
            cwd="/",
            start_new_session=True,
        )
    said: list[bytes] = []
    assert process.stderr is not None
    reader = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        _wait_until_listening(process, port, said)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT)
        reader.join(TIMEOUT)
        process.stderr.close()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, said: list[bytes]) -> None:
    """Look into the kernel's table of sockets, without a connection that the server would count."""
    wanted, waiter = f":{port:04X} ", threading.Event()
    for _ in range(int(TIMEOUT / 0.01)):
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if f"{fields[1]} ".endswith(wanted) and fields[3] == "0A":
                    return
        assert process.poll() is None, said
        waiter.wait(0.01)
    raise AssertionError(f"nobody listens on port {port}: {said}")


def ask(port: int, source: str = LOOPBACK, host: str = LOOPBACK, data: bytes = b"") -> list[str]:
    """Connect, send, and return the lines of the answer, without those that describe the connection.

    Data is for programs that read it: of others, the answer is lost if they exit before it was sent.
    """
    try:
        with socket.create_connection((host, port), TIMEOUT, source_address=(source, 0)) as sock:
            answer = exchange(sock, data)
    except ConnectionError:
        answer = b""
    lines = answer.decode("utf-8", "replace").splitlines()
    return [line for line in lines if not line.startswith(tuple(f"env {name}" for name in OF_THE_CONNECTION))]


def variables(port: int, source: str = LOOPBACK) -> dict[str, str]:
    """Return the environment of a program, as the program reports it."""
    with socket.create_connection((LOOPBACK, port), TIMEOUT, source_address=(source, 0)) as sock:
        lines = exchange(sock).decode("utf-8", "replace").splitlines()
    return dict(line.removeprefix("env ").split("=", 1) for line in lines if line.startswith("env "))


def accepted(port: int, count: int, source: str = LOOPBACK) -> list[str]:
    """Connect so often, one after the other, to programs that stay, and return what each said first."""
    with contextlib.ExitStack() as stack:
        said = []
        for _ in range(count):
            try:
                sock = stack.enter_context(
                    socket.create_connection((LOOPBACK, port), TIMEOUT, source_address=(source, 0))
                )
                said.append(sock.recv(100).decode())
            except ConnectionError:
                said.append("")
        return said


def queued(port: int, limit: int, source: str = LOOPBACK) -> list[str]:
    """Fill a service up to its limit, have one more wait, let one go, and return what all said in order."""
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            made = socket.create_connection((LOOPBACK, port), TIMEOUT, source_address=(source, 0))
            return stack.enter_context(made)

        living = [connect() for _ in range(limit)]
        said = [sock.recv(100).decode() for sock in living]
        waiting = connect()
        waiting.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            said.append(f"did not wait: {waiting.recv(100)!r}")
        waiting.settimeout(TIMEOUT)
        living[0].close()
        said.append(waiting.recv(100).decode())
        return said
