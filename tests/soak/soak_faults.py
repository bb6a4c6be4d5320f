"""The soak test's faults: what is done to the daemon while clients are there."""

import asyncio
import collections
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from daemon import TIMEOUT, Daemon
from soak_clients import Clients
from ucspid.errors import ResourceError

Answer = TypeVar("Answer")


def asked(ask: Callable[[], Answer]) -> Answer:
    """Return the daemon's answer. A loop that dies or hands over sends control clients away: ask again."""
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            return ask()
        except (ConnectionError, ResourceError):
            if time.monotonic() > end:
                raise


class Faults:
    """Hurts a daemon at random."""

    def __init__(self, daemon: Daemon, chance: random.Random, clients: Clients) -> None:
        """Hurt nothing yet."""
        self._daemon = daemon
        self._chance = chance
        self._clients = clients
        self._services = dict(daemon.config["services"])
        self._stopped: set[int] = set()
        self._done: collections.Counter[str] = collections.Counter()
        self._faults: list[tuple[int, Callable[[], None]]] = [
            (6, self._kill_loop),
            (6, self._kill_launcher),
            (2, self._kill_both),
            (3, self._stop_launcher),
            (2, self._stop_loop),
            (6, self._reload_valid),
            (3, self._reload_broken),
            (3, self._reload_impossible),
            (2, self._reload_many),
            (3, self._change_rules),
            (2, self._upgrade),
        ]

    def summary(self) -> str:
        """Return how often what was done."""
        return ", ".join(f"{count} {name}" for name, count in self._done.most_common())

    async def until(self, load: "asyncio.Task[None]") -> None:
        """Do something now and then while the load lasts."""
        weights, faults = zip(*self._faults, strict=True)
        while not load.done():
            await asyncio.wait({load}, timeout=self._chance.uniform(0.1, 1.5))
            self._continue()
            (fault,) = self._chance.choices(faults, weights)
            self._done[fault.__name__.strip("_").replace("_", " ")] += 1
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                fault()

    async def heal(self) -> None:
        """Undo what was done, and wait until the daemon has settled."""
        self._continue()
        self._write(self._services)
        await asyncio.to_thread(asked, self._daemon.reload)

    # Faults

    def _kill_loop(self) -> None:
        self._kill(self._daemon.children("ucspid: loop"))

    def _kill_launcher(self) -> None:
        self._kill(self._some_launcher())

    def _kill_both(self) -> None:
        self._kill(self._daemon.children("ucspid: loop") + self._some_launcher())

    def _stop_launcher(self) -> None:
        self._stop(self._some_launcher())

    def _stop_loop(self) -> None:
        self._stop(self._daemon.children("ucspid: loop"))

    def _reload_valid(self) -> None:
        services = self._services
        if self._chance.random() < 0.5:
            services = services | {"extra": {"listen": "127.0.0.1:0", "program": ["/bin/cat"]}}
        echo = services["echo"] | {"max_connections": self._chance.randint(40, 80)}
        self._write(services | {"echo": echo})
        self._daemon.signal(signal.SIGHUP)

    def _reload_broken(self) -> None:
        self._daemon.replace("services: {x: {listen: [}")
        self._daemon.signal(signal.SIGHUP)

    def _reload_impossible(self) -> None:
        """Ask for an address that nobody here has (RFC 5737)."""
        impossible = {"listen": "192.0.2.1:9", "program": ["/bin/cat"], "umask": "070"}
        self._write(self._services | {"impossible": impossible})
        self._daemon.signal(signal.SIGHUP)

    def _reload_many(self) -> None:
        self._write(self._services)
        for _ in range(50):
            self._daemon.signal(signal.SIGHUP)

    def _change_rules(self) -> None:
        path = Path(self._services["ruled"]["rules"])
        replacement = path.with_suffix(".new")
        replacement.write_text(f"# {self._chance.random()}\n127.0.9.:deny\n:allow\n")
        replacement.rename(path)

    def _upgrade(self) -> None:
        self._daemon.signal(signal.SIGUSR2)

    # What they have in common

    def _write(self, services: dict[str, Any]) -> None:
        self._daemon.replace(yaml.safe_dump(self._daemon.config | {"services": services}))

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            self._clients.deaths.append(time.monotonic())
            os.kill(pid, signal.SIGKILL)

    def _stop(self, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            self._stopped.add(pid)

    def _continue(self) -> None:
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    def _some_launcher(self) -> list[int]:
        launchers = self._daemon.children("ucspid: launche")
        return [self._chance.choice(launchers)] if launchers else []
