"""Unit files of systemd: sections with keys, files that are dropped in, words of a command line."""

import re
from typing import NamedTuple

from ucspid.errors import ConfigError
from ucspid.importers.description import SourceLine
from ucspid.importers.host import Host

FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system",
)  # fmt: skip
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|(.))", re.DOTALL)


class UnitValue(NamedTuple):
    """What stands behind a key, and where."""

    place: SourceLine
    text: str


class Unit:
    """A unit: for each section and key its values, in order; an empty one takes away those before it."""

    def __init__(self, name: str) -> None:
        """Begin with nothing."""
        self.name = name
        self.values: dict[tuple[str, str], list[UnitValue]] = {}
        self.comments: list[str] = []

    def take(self, lines: list[str], label: str) -> None:
        """Take the lines of a file. Raises ConfigError for what is no assignment."""
        section, ahead = "", iter(enumerate(lines, 1))
        for number, line in ahead:
            text = line.strip()
            if text.startswith(("#", ";")):
                self.comments.append(text[1:].strip())
            elif text.startswith("[") and text.endswith("]"):
                section = text[1:-1]
            elif text:
                while text.endswith("\\"):
                    _, following = next(ahead, (0, ""))
                    if not following.lstrip().startswith(("#", ";")):
                        text = f"{text[:-1]} {following.strip()}"
                key, equals, value = text.partition("=")
                if not equals:
                    raise ConfigError([f"{label}:{number}: neither a section nor KEY=VALUE"])
                self._set(section, key.strip(), UnitValue(SourceLine(label, number), value.strip()))

    def _set(self, section: str, key: str, value: UnitValue) -> None:
        if value.text:
            self.values.setdefault((section, key), []).append(value)
        else:
            self.values[section, key] = []

    def all(self, section: str, key: str) -> list[UnitValue]:
        """Return all values of a key."""
        return self.values.get((section, key), [])

    def last(self, section: str, key: str) -> UnitValue | None:
        """Return the value of a key that counts."""
        return next(reversed(self.all(section, key)), None)

    def text(self, section: str, key: str, otherwise: str = "") -> str:
        """Return the text of a key."""
        value = self.last(section, key)
        return otherwise if value is None else value.text


def read_unit(path: str, host: Host) -> Unit:
    """Return a unit with what is dropped in. Raises OSError, ConfigError."""
    unit = Unit(path.rpartition("/")[2])
    unit.take(host.lines(path), host.label(path))
    seen: set[str] = set()
    for folder in dict.fromkeys([path.rpartition("/")[0] or ".", *FOLDERS]):
        if not host.is_directory(f"{folder}/{unit.name}.d"):
            continue
        for name in host.entries(f"{folder}/{unit.name}.d"):
            if name.endswith(".conf") and name not in seen:
                seen.add(name)
                unit.take(
                    host.lines(f"{folder}/{unit.name}.d/{name}"), host.label(f"{folder}/{unit.name}.d/{name}")
                )
    return unit


def find_unit(name: str, beside: str, host: Host) -> str | None:
    """Return the path of a unit: beside another one, or where systemd looks."""
    for folder in (beside.rpartition("/")[0] or ".", *FOLDERS):
        if host.is_file(f"{folder}/{name}"):
            return f"{folder}/{name}"
    return None


def split_words(text: str) -> list[str]:
    """Return the words of a value, quotes and escapes resolved.

    Raises ValueError for a quote without its second.
    """
    words: list[str] = []
    current: str | None = None
    quote, at = "", 0
    while at < len(text):
        char = text[at]
        if char == "\\" and (found := _ESCAPE.match(text, at)):
            current = (current or "") + _unescaped(found)
            at = found.end()
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "\"'" and current in {None, ""}:
            quote, current = char, current or ""
        elif not quote and char in "\"'":
            quote = char
        elif not quote and char.isspace():
            words += [] if current is None else [current]
            current = None
        else:
            current = (current or "") + char
        at += 1
    if quote:
        raise ValueError(f"a {quote} without its second")
    return words if current is None else [*words, current]


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    if found[2]:
        return chr(int(found[2], 8) & 0xFF)
    return _ESCAPES.get(found[3], found[3])


def seconds(text: str) -> float:
    """Return a time span such as 2s, 1min 30s or 500ms in seconds, infinity too. Raises ValueError."""
    if text.strip() in {"infinity", "0"}:
        return float("inf")
    total, rest = 0.0, text.strip()
    while rest:
        found = re.match(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zµ]*)\s*", rest)
        if found is None or found[2] not in _SPANS:
            raise ValueError(text)
        total += float(found[1]) * _SPANS[found[2]]
        rest = rest[found.end() :]
    return total


_SPANS = {
    "": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "ms": 0.001, "msec": 0.001, "us": 1e-6, "µs": 1e-6,
    "usec": 1e-6, "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600,
    "hours": 3600, "d": 86400, "day": 86400, "days": 86400, "w": 604800, "week": 604800, "weeks": 604800,
}  # fmt: skip
