"""All rules files that services name: each is followed once, even if services share it."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from structlog.typing import FilteringBoundLogger

from ucspid.admission.rules_file import FollowedRules, RulesReaders
from ucspid.plan import RulesFile
from ucspid.plan import Service as Settings


class RulesFiles:
    """The rules files of the plan in force."""

    def __init__(self, log: FilteringBoundLogger, ask: Callable[[int], None]) -> None:
        """Begin without files.

        ask() has the variables allowed that the file of a service, by its number, sets: allow() or
        refuse() says what came of it.
        """
        self._readers = RulesReaders(log)
        self._ask = ask
        self._followed: dict[RulesFile, FollowedRules] = {}
        self._services: dict[RulesFile, dict[int, str]] = {}
        """By file: the numbers and names of the services that name it."""

    @property
    def descriptors(self) -> set[int]:
        """What is open for all of them together."""
        return self._readers.watcher.descriptors

    def status(self) -> list[dict[str, Any]]:
        """Return for each file its path, its services, why it is not in force, if so, or else its age.

        The age is in seconds since it was written.
        """
        now = time.time()
        return [
            {
                "path": file.path,
                "services": list(names.values()),
                "problem": self._followed[file].problem,
                "age": _age(self._followed[file], now),
            }
            for file, names in self._services.items()
        ]

    def follow(self, file: RulesFile) -> FollowedRules:
        """Return the rules of a file, the same for all services that name it."""
        if file not in self._followed:
            self._followed[file] = FollowedRules(file, self._readers, partial(self._ask_for, file))
        return self._followed[file]

    def change(self, services: Iterable[tuple[int, Settings]]) -> None:
        """Follow the files of these services, given with their numbers, and no others.

        Their rules may set what the launchers of all services that name a file know of.
        """
        allowed: dict[RulesFile, frozenset[bytes]] = {}
        self._services = {}
        for number, service in services:
            if isinstance(service.rules, RulesFile):
                names = encoded(service.rule_env)
                allowed[service.rules] = names & allowed.get(service.rules, names)
                self._services.setdefault(service.rules, {})[number] = service.name
        for file in self._followed.keys() - allowed:
            self._followed.pop(file).forget()
        for file, names in allowed.items():
            followed = self.follow(file)
            followed.allow(names)
            if not followed.fresh:
                followed.look()

    def allow(self, file: RulesFile, names: Iterable[str]) -> None:
        """Let the rules of a file set these variables, of which all launchers know by now."""
        if file in self._followed:
            self._followed[file].allow(encoded(names))
            self._followed[file].answer("")

    def refuse(self, file: RulesFile, reason: str) -> None:
        """Say why the rules of a file may set no further variables."""
        if file in self._followed:
            self._followed[file].answer(reason)

    def _ask_for(self, file: RulesFile) -> None:
        for number in self._services.get(file, ()):
            self._ask(number)
            return


def _age(followed: FollowedRules, now: float) -> float | None:
    if followed.seen is None or followed.problem is not None:
        return None
    return round(now - followed.seen.written, 3)


def encoded(names: Iterable[str]) -> frozenset[bytes]:
    """Return names of variables as a rules file has them."""
    return frozenset(name.encode("utf-8", "surrogateescape") for name in names)
