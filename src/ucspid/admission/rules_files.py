"""All rules files that services name: each is followed once, whoever shares it."""

from collections.abc import Callable, Iterable

from structlog.typing import FilteringBoundLogger

from ucspid.admission.rules_file import Followed, RulesReaders
from ucspid.plan import RulesFile
from ucspid.plan import Service as Settings


class RulesFiles:
    """The rules files of the plan in force."""

    def __init__(self, log: FilteringBoundLogger, unknown: Callable[[], None]) -> None:
        """Begin without files; unknown() is called when one sets variables that are not allowed yet."""
        self._readers = RulesReaders(log)
        self._unknown = unknown
        self._followed: dict[RulesFile, Followed] = {}

    @property
    def descriptors(self) -> set[int]:
        """What is open for all of them together."""
        return self._readers.watcher.descriptors

    def follow(self, file: RulesFile) -> Followed:
        """Return the rules of a file, the same for all services that name it."""
        if file not in self._followed:
            self._followed[file] = Followed(file, self._readers, self._unknown)
        return self._followed[file]

    def change(self, services: Iterable[Settings]) -> None:
        """Follow the files of these services, and no others.

        Their rules may set what the launchers of all services that name a file know of.
        """
        allowed: dict[RulesFile, frozenset[bytes]] = {}
        for service in services:
            if isinstance(service.rules, RulesFile):
                names = frozenset(name.encode("utf-8", "surrogateescape") for name in service.rule_env)
                allowed[service.rules] = names & allowed.get(service.rules, names)
        for file in self._followed.keys() - allowed:
            self._followed.pop(file).forget()
        for file, names in allowed.items():
            followed = self.follow(file)
            followed.allow(names)
            if not followed.fresh:
                followed.look()
