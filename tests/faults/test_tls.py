"""TLS processes and the loop killed in turn under load: who loses what, and that clients are served again."""

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certificates
from daemon import TIMEOUT, Daemon, running, wait_gone
from faults import stopped
from folders import public_folder
from hung_disk import hung_disk
from processes import children
from ucspid.tls.truncation import reveal

KILLS = 5
CLIENTS = 4
"""Clients at a time, each of whom comes again as soon as it was served."""

TLS = "ucspid: tls"
HELD_BY_A_LOOP = 16 + 1
"""Connections that a loop may hold between accept(2) and a launcher, beside those in a handshake."""

ASKS = """
head -c 4 >/dev/null
printf y >&3
echo ok >&4
"""


class Load:
    """Clients of short sessions over TLS, from the first byte or when their program has asked."""

    def __init__(self, daemon: Daemon) -> None:
        self.served: list[float] = []
        """When those came who were served."""
        self.lost: list[str] = []
        self._context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
        self._addresses = [daemon.address(name) for name in ("implicit", "starttls")]
        self._over = threading.Event()
        self._news = threading.Condition()
        self._threads = [threading.Thread(target=self._come, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _come(self, number: int) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                got = self._visit(asks=bool(number % 2))
            except OSError as problem:  # ssl.SSLError is one
                got = type(problem).__name__.encode()
            with self._news:
                if got == b"ok\n":
                    self.served.append(began)
                else:
                    self.lost.append(got.decode())
                self._news.notify_all()

    def _visit(self, *, asks: bool) -> bytes:
        with socket.create_connection(self._addresses[asks], TIMEOUT) as plain:
            if asks:
                plain.sendall(b"TLS\n")
            with self._context.wrap_socket(plain, server_hostname="mail.example.org") as sock:
                return b"".join(iter(lambda: sock.recv(100), b""))

    def wait_served(self, since: float) -> None:
        """Wait until so many were served that came after a moment."""
        with self._news:
            assert self._news.wait_for(
                lambda: sum(began > since for began in self.served) >= 2 * CLIENTS, 2 * TIMEOUT
            ), self.lost[-10:]

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    services: dict[str, Any] = {
        "implicit": {"program": ["echo", "ok"], "tls": "implicit"},
        "starttls": {"program": ["sh", "-c", ASKS], "tls": "starttls"},
        "plain": {"program": ["cat"]},
    }
    for service in services.values():
        service["listen"] = "127.0.0.1:0"
    tls = {"processes": 2, "certificates": str(certificates.shared() / "mail.example.org.pem")}
    with public_folder() as folder, running(folder, {"tls": tls, "services": services}) as daemon:
        yield daemon


def secured(daemon: Daemon, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = daemon.connect("implicit")
    reveal(context)
    return context.wrap_socket(plain, server_hostname="mail.example.org", suppress_ragged_eofs=False)


def test_a_tls_process_that_hangs_is_replaced(tmp_path: Path) -> None:
    tls = {"processes": 1, "certificates": str(certificates.shared() / "mail.example.org.pem")}
    service = {"listen": "127.0.0.1:0", "program": ["cat"], "tls": "implicit"}
    config = {"watchdog": "8s", "tls": tls, "services": {"implicit": service}}
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    with running(tmp_path, config) as daemon:
        daemon.wait_event("started")
        (pid,) = daemon.children(TLS)
        with secured(daemon, context) as sock, stopped(pid):
            daemon.wait_event("process_died", role="tls", pid=pid, signal="SIGKILL")
            with pytest.raises(OSError):  # noqa: PT011 - an end without close_notify, or a reset
                sock.recv(1)
        assert daemon.wait_event("tls_broken", pid=pid)["reason"] == "it has not answered for 2 s"
        with secured(daemon, context) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"


def test_certificates_on_a_disk_that_hangs_hold_up_neither_clients_nor_a_stop() -> None:
    context = ssl.create_default_context(cafile=str(certificates.shared() / "ca.pem"))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(public_folder())
        disk, link = folder / "disk", folder / "mail.pem"
        disk.mkdir()
        link.symlink_to(certificates.shared() / "mail.example.org.pem")
        service = {"listen": "127.0.0.1:0", "program": ["cat"], "tls": "implicit"}
        config = {"tls": {"processes": 1, "certificates": str(link)}, "services": {"implicit": service}}
        with running(folder, config) as daemon:
            daemon.wait_event("certificates_loaded")
            stack.enter_context(hung_disk(disk))
            new = folder / "new"
            new.symlink_to(disk / "mail.pem")
            new.rename(link)
            while not any(_is_reader(pid) for pid in children(daemon.pid)):
                """The change has not been noticed yet."""
            for _ in range(3):
                with secured(daemon, context) as sock:
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
            assert any(_is_reader(pid) for pid in children(daemon.pid))
            began = time.monotonic()
        assert time.monotonic() - began < TIMEOUT


def _is_reader(pid: int) -> bool:
    try:
        return b"ucspid.config.certificates" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("names", "held"),
    [
        ([TLS], CLIENTS),
        (["ucspid: loop"], HELD_BY_A_LOOP + CLIENTS),
        ([TLS, "ucspid: loop"], HELD_BY_A_LOOP + 2 * CLIENTS),
    ],
    ids=["tls", "loop", "both"],
)
def test_parts_killed_again_and_again_lose_what_they_held_and_no_more(
    daemon: Daemon, names: list[str], held: int
) -> None:
    load = Load(daemon)
    try:
        with contextlib.ExitStack() as stack:
            lasting = [stack.enter_context(daemon.connect("plain")) for _ in range(CLIENTS)]
            for count in range(1, KILLS + 1):
                load.wait_served(time.monotonic())
                killed = [pids[count % len(pids)] for pids in map(daemon.children, names)]
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                for pid in killed:
                    wait_gone(pid)
                load.wait_served(time.monotonic())
            for sock in lasting:
                sock.sendall(b"still")
                assert sock.recv(5) == b"still"
    finally:
        load.stop()
    assert "ConnectionRefusedError" not in load.lost
    assert len(load.lost) <= KILLS * held
