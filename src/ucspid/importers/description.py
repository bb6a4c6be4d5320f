"""What all importers make of their sources: services with settings, comments, and notes on what is lost."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_RULES, MAX_SERVICES
from ucspid.records import dataclass, field

UNLIMITED = 1000
"""Connections of a service that had no limit: as many as the daemon takes if its file says nothing."""


def printable(text: str) -> str:
    """Return a text with a question mark for each character that is none on paper."""
    return "".join(char if char.isprintable() else "?" for char in text.expandtabs())


class SourceLine(NamedTuple):
    """A line of a source; 0 is the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        """Return FILE:LINE."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Unmapped(NamedTuple):
    """Something of a source that has no equivalent: what it did, and what to do."""

    place: SourceLine
    what: str
    advice: str

    def __str__(self) -> str:
        """Return the line for standard error, with nothing in it that a terminal would obey."""
        return printable(f"{self.place}: {self.what}; {self.advice}")


@dataclass(kw_only=True)
class AccessRule:
    """An access rule; without patterns it is for everyone."""

    allow: bool
    patterns: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    max_per_ip: int | None = None
    message: str | None = None
    comment: str = ""


@dataclass
class Imported:
    """A service: its settings under the names that they have in ucspid's file.

    comments are those of the source, remarks what a reader should know, beside say something of one
    setting. A service with reasons is written as a comment: it was off, or cannot work as it is.
    """

    name: str
    place: SourceLine
    settings: dict[str, Any] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)
    notes: list[Unmapped] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    off: bool = False
    """Whether it was off in its source: what it lacks here is no loss."""
    daemon: str | None = None
    """Its name in hosts.allow and hosts.deny, if these protect it."""

    def note(self, place: SourceLine, what: str, advice: str) -> None:
        """Note what has no equivalent; the service works without it."""
        self.notes.append(Unmapped(place, what, advice))

    def cannot(self, place: SourceLine, what: str, advice: str) -> None:
        """Note what has no equivalent and without which the service is not to run."""
        self.note(place, what, advice)
        self.reasons.append("it cannot run as it is")

    def remark(self, text: str) -> None:
        """Have a comment, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def add_rule(self, rule: AccessRule) -> None:
        """Add an access rule after the others. Raises ConfigError for too many."""
        rules = self.settings.setdefault("rules", [])
        if len(rules) >= MAX_RULES:
            raise ConfigError([f"{self.place}: more than {MAX_RULES} access rules"])
        rules.append(rule)

    def need_lookup(self, **wanted: bool | str) -> None:
        """Have names looked up that rules or the program need."""
        self.settings.setdefault("lookup", {}).update(wanted)


@dataclass
class Description:
    """All that was found."""

    sources: list[str] = field(default_factory=list)
    services: list[Imported] = field(default_factory=list)
    notes: list[Unmapped] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    trailing: list[str] = field(default_factory=list)
    """Comments of the source after its last service."""

    def add(self, service: Imported) -> None:
        """Add a service. Raises ConfigError for too many."""
        if len(self.services) >= MAX_SERVICES:
            raise ConfigError([f"{service.place}: more than {MAX_SERVICES} services"])
        self.services.append(service)

    def note(self, place: SourceLine, what: str, advice: str) -> None:
        """Note what has no equivalent and belongs to no service."""
        self.notes.append(Unmapped(place, what, advice))

    def remark(self, text: str) -> None:
        """Have a comment at the top of the file, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def all_notes(self) -> Iterator[Unmapped]:
        """Yield all notes, those of no service first, and none of services that were off."""
        yield from self.notes
        for service in self.services:
            if not service.off:
                yield from service.notes

    def running(self) -> list[Imported]:
        """Return the services that are not written as comments."""
        return [service for service in self.services if not service.reasons]
