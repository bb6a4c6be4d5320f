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

    def run(self, address: tuple[str, int], enough: threading.Event) -> None:
        """Connect, say something, expect it back; again until it is enough."""
        while not enough.is_set():
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
    clients, enough = Clients(), threading.Event()
    threads = [threading.Thread(target=clients.run, args=(address, enough)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        enough.set()
        for thread in threads:
            thread.join(TIMEOUT)
