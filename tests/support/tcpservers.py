"""tcpserver as a process: Debian's and ours, for tests that expect the same of both.

Nothing here sleeps: it waits for the port on standard output, for lines on descriptor 2, for end of file.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon import exchange
from peers import require
from processes import descendants

TIMEOUT = 20.0
"""Seconds after which something that a test waits for will not come."""

LOOPBACK = "127.0.0.1"
QUICK = ("-R", "-H", "-l0")
"""Options without which each connection waits for name servers and an ident server."""

Prefix = Callable[..., list[str]]
"""Returns a command that runs another one, in a private network say."""


@dataclass(frozen=True)
class Which:
    """The original, or ours."""

    name: str

    @property
    def ours(self) -> bool:
        """Whether it is ours."""
        return self.name == "ucspid"

    def command(self) -> list[str]:
        """Return how it is started; the test is skipped where the original is not installed."""
        if not self.ours:
            return [require("tcpserver")]
        return [sys.executable, "-m", "ucspid", "tcpserver"]


BOTH = (Which("ucspi-tcp"), Which("ucspid"))


def usage_of(which: Which, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Return the exit status and what is said on descriptor 2 by one that does not come up."""
    ended = subprocess.run(
        [*which.command(), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        env=env,
    )
    return ended.returncode, ended.stderr


class TcpServer:
    """A tcpserver that runs, and says its port with -1."""

    def __init__(
        self,
        which: Which,
        *arguments: str,
        host: str = LOOPBACK,
        port: str = "0",
        program: Sequence[str] = ("cat",),
        prefix: Prefix | None = None,
        **popen: Any,
    ) -> None:
        """Start it, and wait for its port."""
        self.which = which
        command = [*which.command(), "-1", *arguments, host, port, *program]
        self.process = subprocess.Popen(
            command if prefix is None else prefix(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            **{"stderr": subprocess.PIPE, **popen},
        )
        self.lines: list[bytes] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            said = pipe.read()
        assert said, f"it did not come up: {self.process.wait(TIMEOUT)} {self.lines}"
        assert said == b"%d\n" % int(said)
        self.port = int(said)

    @property
    def pid(self) -> int:
        """Return its process."""
        return self.process.pid

    def _read(self) -> None:
        with self.process.stderr or open(os.devnull, "rb") as pipe:
            for line in pipe:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()

    def wait_lines(self, count: int) -> list[bytes]:
        """Return what it has said on descriptor 2 as soon as there are so many lines."""
        return self.wait_for(lambda lines: len(lines) >= count)

    def wait_for(self, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
        """Return what it has said on descriptor 2 as soon as that is enough."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self.lines), TIMEOUT), self.lines
            return [*self.lines]

    def connect(self, source: str = LOOPBACK, host: str = LOOPBACK) -> socket.socket:
        """Connect from a source address."""
        return socket.create_connection((host, self.port), TIMEOUT, source_address=(source, 0))

    def talk(self, data: bytes = b"", source: str = LOOPBACK) -> bytes:
        """Connect, send, shut down, and return all that comes back; nothing of a reset."""
        with self.connect(source) as sock, contextlib.suppress(ConnectionResetError):
            return exchange(sock, data)
        return b""

    def environment(self, source: str = LOOPBACK) -> dict[str, str]:
        """Return the environment of a program, `env -0`, for a client."""
        return parse_environment(self.talk(source=source))

    def signal(self, number: int) -> int:
        """Send it a signal; return its exit status as Popen has it."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)

    def wait_closed(self) -> None:
        """Wait until nobody has its descriptor 2 any more: neither itself nor a program."""
        self._reader.join(TIMEOUT)
        assert not self._reader.is_alive()

    def end(self) -> bytes:
        """Have it end, and return all that it has said on descriptor 2, that of its programs included."""
        assert self.signal(signal.SIGTERM) == 0
        self.wait_closed()
        return b"".join(self.lines)

    def kill(self) -> None:
        """End everything that is left, however."""
        for pid in [*descendants(self.pid), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def parse_environment(data: bytes) -> dict[str, str]:
    """Return what `env -0` has printed, without the number that only ours sets."""
    items = [os.fsdecode(item).partition("=") for item in data.split(b"\0") if item]
    return {name: value for name, _, value in items if name != "UCSPID_CONN_ID"}


@contextlib.contextmanager
def serving(which: Which, *arguments: str, **settings: Any) -> Iterator[TcpServer]:
    """Run a tcpserver for a test; whatever is left of it at the end is killed."""
    server = TcpServer(which, *arguments, **settings)
    try:
        yield server
    finally:
        server.kill()


def normal(said: bytes, server: TcpServer) -> list[str]:
    """Return lines with P1, P2 ... for processes in their order, PORT for the server's, N for clients'."""
    processes: dict[str, str] = {}

    def process(match: re.Match[str]) -> str:
        return match[1] + processes.setdefault(match[2], f"P{len(processes) + 1}")

    text = said.decode().replace(f":{server.port} ", ":PORT ")
    text = re.sub(r"((?:pid|ok|deny|end) )(\d+)", process, text)
    return re.sub(r":\d+( \w+)?$", ":N", text, flags=re.MULTILINE).splitlines()


def compiled(folder: Path, rules: str, name: str = "rules.cdb") -> Path:
    """Compile rules with Debian's tcprules."""
    cdb, new = folder / name, folder / f"{name}.new"
    subprocess.run([require("tcprules"), cdb, new], input=rules.encode(), check=True, timeout=TIMEOUT)
    return cdb
