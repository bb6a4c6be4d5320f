"""A container with a systemd of its own, booted for tests: what runs in it is a service like any other."""

import contextlib
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian's releases, and their Pythons: systemd 252 and 257."""

CACHE = Path("/var/cache/ucspid-tests")
TIMEOUT = 60.0
"""Seconds after which something that a test waits for will not come."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PACE = 0.1
"""Seconds between two looks at what cannot be waited for."""


def root_of(suite: str) -> Path:
    """Return where a suite's root file system is kept; another one for each version of what is in it."""
    inside = (TOP / "constraints.txt").read_bytes() + (TOP / "tests/systemd/roots.py").read_bytes()
    return CACHE / f"{suite}-{hashlib.sha256(inside).hexdigest()[:12]}"


class Container:
    """A container that has booted; what tests change in it is gone at its end."""

    def __init__(self, init: int, logs: Path) -> None:
        """Know its init, as a process of this machine."""
        self._init = init
        self._logs = logs

    def run(self, *command: str, data: str | None = None, check: bool = True) -> str:
        """Run a command in it; return what it prints. Fails the test if it fails."""
        done = self.attempt(*command, data=data)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, *command: str, data: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run(
            [*self._entering(), *command],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT * 2,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command in it until the end of the block, with its standard streams as pipes."""
        pipe = subprocess.PIPE
        whole = [*self._entering(), *command]
        process = subprocess.Popen(
            whole, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what was executed is a child of nsenter
            process.communicate()

    def _entering(self) -> list[str]:
        spaces = ("mount", "uts", "ipc", "net", "pid", "cgroup", "root")
        clean = ["env", "-i", f"PATH={PATH}", "HOME=/root"]
        return ["nsenter", f"--target={self._init}", *(f"--{space}" for space in spaces), "--wdns=/", *clean]

    def write(self, path: str, text: str) -> None:
        """Have a file be this text."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}); cat > {path}.new; mv {path}.new {path}", data=text)

    def wait(self, what: str, *command: str, until: str = "") -> None:
        """Run a command until it succeeds and prints what is waited for."""

        def so() -> bool:
            done = self.attempt(*command)
            return done.returncode == 0 and until in done.stdout

        self.until(what, so)

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Look until something is so; processes in the container cannot be waited for."""
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, what
            pause()

    def install(self) -> None:
        """Install the code under test, as the README says it."""
        with tempfile.TemporaryDirectory() as folder:
            build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
            source = Path(folder, "source")
            leave = shutil.ignore_patterns(".venv", ".git", "*.egg-info", "build", "dist", "results", "var")
            shutil.copytree(TOP, source, ignore=leave)
            subprocess.run([*build, "--wheel-dir", folder, str(source)], check=True, timeout=TIMEOUT * 4)
            (wheel,) = Path(folder).glob("*.whl")
            place = f"/proc/{self._init}/root/tmp/{wheel.name}"
            shutil.copy(wheel, place)
        self.run("/opt/ucspid/bin/pip", "install", "--no-index", "--no-deps", f"/tmp/{wheel.name}")


def pause() -> None:
    """Let a moment pass before the next look."""
    select.select([], [], [], PACE)


@contextlib.contextmanager
def booted(suite: str) -> Iterator[Container]:
    """Boot a suite for tests."""
    root = root_of(suite)
    if os.geteuid() != 0 or not root.exists():
        pytest.skip(f"there is no container with Debian {suite} here: make test-systemd, as root, makes it")
    machine = f"ucspid-{suite}-{os.getpid()}"
    nspawn = [
        "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network",
        "--console=pipe", "--notify-ready=no", "--volatile=overlay", f"--directory={root}",
        f"--machine={machine}", f"--hostname={suite}",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder, "console")
        with logs.open("w") as log:
            process = subprocess.Popen(
                nspawn,
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        init = 0
        try:
            init = _init_of(process, logs)
            container = Container(init, logs)
            container.wait("the container boots", "systemctl", "is-system-running", until="running")
            yield container
        finally:
            if init:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(init, signal.SIGKILL)
            process.terminate()
            process.wait(TIMEOUT)


def _init_of(process: subprocess.Popen[bytes], logs: Path) -> int:
    """Return the process of this machine that is the container's init, as soon as it is there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        for child in children.read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        pause()
    pytest.skip(f"no container boots here: {logs.read_text()[-500:] or 'systemd-nspawn says nothing'}")
