"""Clients of an echo service that come one after another, for as long as a test does something else."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from daemon import TIMEOUT, exchange


class Clients:
    """What became of them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        """How long each was there that was served."""
        self.failed: list[str] = []
        self._enough = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, address: tuple[str, int], count: int) -> None:
        """Have so many at a time come."""
        self._threads = [threading.Thread(target=self._run, args=(address,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have no more come, and wait for the last."""
        self._enough.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _run(self, address: tuple[str, int]) -> None:
        """Connect, say something, expect it back; again until it is enough."""
        while not self._enough.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection(address, TIMEOUT) as sock:
                    answer = exchange(sock, b"hello")
            except OSError as problem:
                self.failed.append(str(problem))
            else:
                if answer == b"hello":
                    self.seconds.append(time.monotonic() - began)
                else:
                    self.failed.append(repr(answer))


@contextlib.contextmanager
def load(address: tuple[str, int], count: int = 1) -> Iterator[Clients]:
    """Have so many clients at a time come until the end of the block."""
    clients = Clients()
    clients.start(address, count)
    try:
        yield clients
    finally:
        clients.stop()
