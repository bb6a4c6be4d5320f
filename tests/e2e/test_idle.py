"""A daemon that has nothing to do does nothing: no process of it wakes up."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import certificates
from daemon import Daemon, running
from faults import wait_while_alive
from folders import public_folder

IDLE = 3.0
"""Seconds for which nothing may wake up."""

ROUNDS = 6
"""How often that is tried: timers of the traffic before may still run out in the first rounds."""


def wake_ups(daemon: Daemon) -> dict[str, int]:
    """Return how often each thread of each process has gone to sleep of its own accord."""
    counts = {}
    for pid in [daemon.pid, *daemon.processes_left()]:
        for task in Path(f"/proc/{pid}/task").iterdir():
            fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            name = f"{pid}/{task.name}/{fields['Name'].strip()}"
            counts[name] = int(fields["voluntary_ctxt_switches"])
    return counts


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below /tmp, where others make folders: what happens beside a rules file's path is reported.
    with public_folder(parent="/var/tmp") as path:
        yield path


@pytest.mark.waits
def test_an_idle_daemon_does_not_wake_up(folder: Path) -> None:
    (folder / "rules").write_text(":allow\n")
    services = {
        "echo": {"listen": "127.0.0.1:0", "program": ["cat"], "max_lifetime": "1s"},
        "full": {"listen": "127.0.0.1:0", "program": ["cat"], "max_connections": 1, "rate": "10/s"},
        "refused": {"listen": "127.0.0.1:0", "program": ["cat"], "rate": "1/h", "on_full": "refuse"},
        "ruled": {"listen": "127.0.0.1:0", "program": ["cat"], "rules": str(folder / "rules")},
        "secure": {"listen": "127.0.0.1:0", "program": ["cat"], "tls": "implicit"},
        "noisy": {"listen": "127.0.0.1:0", "program": ["sh", "-c", "seq 1000 >&2; printf end >&2"]},
    }
    certificate = shutil.copy(certificates.shared() / "mail.example.org.pem", folder)
    config = {"tls": {"certificates": certificate}, "services": services}
    with running(folder, config) as daemon:
        daemon.wait_event("certificates_loaded")
        for name in services:
            for _ in range(3):
                daemon.talk(name)
        daemon.wait_event("program_stderr_dropped")
        with daemon.connect("full") as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            for _ in range(ROUNDS):
                before = wake_ups(daemon)
                wait_while_alive(daemon.pid, IDLE)
                woken = {name: count - before.get(name, 0) for name, count in wake_ups(daemon).items()}
                if not any(woken.values()):
                    break
            assert set(woken.values()) == {0}, woken
