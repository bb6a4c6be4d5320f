"""ucspid top in a real terminal: tmux."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from daemon import TIMEOUT, Daemon, running
from folders import public_folder
from peers import require

TMUX = require("tmux")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    echo = {"program": ["cat"], "listen": "127.0.0.1:0", "max_connections": 4}
    services = {"echo": echo, "other": echo}
    with public_folder() as folder, running(folder, {"services": services}) as daemon:
        yield daemon


class Terminal:
    """A terminal in which ucspid top runs."""

    def __init__(self, daemon: Daemon, width: int, height: int, terminal: str) -> None:
        self._socket = str(daemon.folder / "tmux")
        command = f"{sys.executable} -m ucspid top --control {daemon.control} --interval 0.2"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
            f"TERM={terminal} sh -c '{command}; echo ended with $?; exec sleep 1000'",
        )  # fmt: skip

    def _tmux(self, *arguments: str) -> str:
        command = [TMUX, "-S", self._socket, *arguments]
        environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        environ |= {"LC_ALL": "C.UTF-8", "TERM": "screen"}
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=TIMEOUT, env=environ
        )
        return done.stdout

    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def type(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def until(self, pattern: str) -> str:
        """Return the screen once a pattern is on it; pytest ends a wait that is in vain."""
        while not re.search(pattern, text := self.text(), re.MULTILINE):
            """It looks again five times a second."""
        return text

    def close(self) -> None:
        self._tmux("kill-server")


@contextmanager
def top(daemon: Daemon, width: int = 80, height: int = 24, terminal: str = "screen") -> Iterator[Terminal]:
    shown = Terminal(daemon, width, height, terminal)
    try:
        yield shown
    finally:
        shown.close()


@pytest.mark.parametrize("terminal", ["screen", "vt100", "screen-256color"])
def test_it_shows_what_the_daemon_does(daemon: Daemon, terminal: str) -> None:
    with top(daemon, terminal=terminal) as shown:
        shown.until(r"^> echo +listening +0/4 \.{10}")
        with daemon.connect("echo", "127.0.0.9") as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            text = shown.until(r"^> echo +listening +1/4 ##\.{8}")
            text = shown.until(r"CLIENTS  1, the busiest: 127\.0\.0\.9 \(1\)")
        assert len(text.rstrip("\n").splitlines()) == 24
        shown.until(r"^\d\d:\d\d:\d\d\.\d{3} info    connection_served service=echo")
        shown.type("q")
        shown.until("ended with 0")


def test_a_wide_terminal_shows_more(daemon: Daemon) -> None:
    with top(daemon, 160, 40) as shown:
        shown.until(r"FAILED +START 50% +95% +SESSION 50% +CPU$")


def test_keys_change_what_is_shown_and_what_is_done(daemon: Daemon) -> None:
    with top(daemon) as shown, daemon.connect("other") as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        shown.until(r"^> echo ")
        shown.type("l")
        shown.until(r"sorted by live[\s\S]*^  other .*1/4[\s\S]*^> echo")
        shown.type("k")
        shown.until(r"^> other")
        shown.type("d")
        shown.until(r"^other accepts nothing more until u")
        assert daemon.service("other")["state"] == "paused"
        shown.type("u")
        shown.until(r"^other accepts again")
        shown.type("x")
        shown.until(r"^end all sessions of other\? y: _")
        shown.type("n", "Enter")
        shown.until(r"^q quit")
        shown.type("x")
        shown.until(r"^end all sessions of other\? y: _")
        shown.type("y", "Enter")
        shown.until(r"^the sessions of other were sent SIGTERM")
        assert sock.recv(1) == b""
        shown.type("b")
        shown.until(r"^deny this network for 10 minutes: _")
        shown.type("192.0.2.0/24", "Enter")
        shown.until(r"^192\.0\.2\.0/24 is denied")
        shown.until("1 denied")
        assert daemon.status()["denied"] == 1
        shown.type("b")
        shown.until(r"^deny this network")
        shown.type("nonsense", "Enter")
        shown.until(r"^network: not an IP address: 'nonsense'")
        shown.type("/")
        shown.until(r"^only services whose name has: _")
        shown.type("ech", "Enter")
        assert "\n  other " not in shown.until(r"only \*ech\*[\s\S]*^> echo")


def test_without_a_terminal_it_says_so(daemon: Daemon) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ucspid", "top", "--control", str(daemon.control)],
        capture_output=True, text=True, check=False, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        100, "ucspid top needs a terminal: `ucspid status` and `ucspid tail` do not\n",
    )  # fmt: skip
