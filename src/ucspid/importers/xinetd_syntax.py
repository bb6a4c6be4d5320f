"""The form of xinetd.conf: entries in braces, with the files that are included."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_DEPTH, MAX_WORDS
from ucspid.importers.description import Description, SourceLine
from ucspid.importers.host import Host
from ucspid.records import dataclass, field

Operator = Literal["=", "+=", "-="]
_ATTRIBUTE = re.compile(r"([A-Za-z0-9_]+)\s*(\+=|-=|=)\s*(.*)")


class XinetdLine(NamedTuple):
    """A line of an entry."""

    place: SourceLine
    name: str
    operator: str
    values: list[str]


@dataclass
class XinetdEntry:
    """What stands in braces: the defaults, or a service."""

    kind: Literal["defaults", "service"]
    name: str
    place: SourceLine
    comments: list[str]
    attributes: list[XinetdLine] = field(default_factory=list)


class XinetdReader:
    """Reads a file and what it includes, into entries in their order."""

    def __init__(self, host: Host, description: Description) -> None:
        """Read files of a host; what is no entry is noted."""
        self._host = host
        self._description = description
        self._open: list[str] = []
        self.entries: list[XinetdEntry] = []
        self.comments: list[str] = []

    def read(self, path: str) -> None:
        """Read a file. Raises OSError, ConfigError for files that include each other too deeply."""
        self.take(self._host.lines(path), path)

    def take(self, lines: list[str], path: str) -> None:
        """Read the lines of a file. Raises as read() does."""
        if len(self._open) >= MAX_DEPTH:
            raise ConfigError([f"{self._host.label(path)}: included more than {MAX_DEPTH} levels deep"])
        self._open.append(path)
        numbered = enumerate(lines, 1)
        for number, line in numbered:
            self._line(SourceLine(self._host.label(path), number), line, numbered)
        self._open.pop()

    def read_directory(self, path: str) -> None:
        """Read all files of a directory but those with a dot or, at the end, a tilde in their names."""
        for name in self._host.entries(path):
            if "." not in name and not name.endswith("~") and self._host.is_file(f"{path}/{name}"):
                self.read(f"{path}/{name}")

    def _line(self, place: SourceLine, line: str, ahead: Iterator[tuple[int, str]]) -> None:
        words = line.split()
        if not words:
            return
        if words[0].startswith("#"):
            self.comments.append(line.lstrip()[1:].removeprefix(" "))
        elif words[0] in {"include", "includedir"} and len(words) > 1:
            self._include(place, words)
        elif words[0] in {"service", "defaults"}:
            self._entry(place, words, ahead)
        else:
            what = f"{words[0]} begins no entry: xinetd ignores all up to the next }}"
            self._description.note(place, what, "remove the line")
            self._skip(ahead)

    def _include(self, place: SourceLine, words: list[str]) -> None:
        read = self.read if words[0] == "include" else self.read_directory
        try:
            read(words[1])
        except OSError as error:
            self._description.note(place, f"{words[1]} cannot be read: {error.strerror}", "correct the path")

    def _entry(self, place: SourceLine, words: list[str], ahead: Iterator[tuple[int, str]]) -> None:
        name = words[1] if len(words) > 1 else ""
        kind: Literal["defaults", "service"] = "defaults" if words[0] == "defaults" else "service"
        entry = XinetdEntry(kind, name, place, self.comments)
        self.comments = []
        opened = False
        for number, line in ahead:
            text, here = line.strip(), SourceLine(place.file, number)
            if text.startswith("#") or not text:
                entry.comments += [text[1:].strip()] if text else []
            elif not opened:
                if text != "{":
                    break
                opened = True
            elif text == "}":
                self.entries.append(entry)
                return
            elif found := _ATTRIBUTE.fullmatch(text):
                entry.attributes.append(XinetdLine(here, found[1], found[2], found[3].split()[:MAX_WORDS]))
            else:
                self._description.note(
                    here, f"{text} is not NAME = VALUE: xinetd ignores the entry", "correct it"
                )
                self._skip(ahead)
                return
        what = "has no end" if opened else "has no { on the next line"
        self._description.note(place, f"{' '.join(words)} {what}: xinetd ignores it", "correct it")
        self._skip(ahead)

    @staticmethod
    def _skip(ahead: Iterator[tuple[int, str]]) -> None:
        for _, line in ahead:
            if line.strip() == "}":
                return
