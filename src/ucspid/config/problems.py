"""The list of what is wrong with a file, and the place of each key in it.

Every step of reading adds to one list, by the path of a key; none stops at the first
mistake. A path is written as in services.smtp.listen[1];
keys of other characters than letters, digits, _ and - are quoted in it.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TypeVar

_PLAIN = re.compile(r"[A-Za-z0-9_-]+|<<")
_LAST_STEP = re.compile(r'(?:\[[0-9]+\]|(?:^|\.)(?:"(?:[^"\\]|\\.)*"|[^."\[\]]+))$')

_MAX_TEXT = 400
_WIDTH = 90
_INDENT = "    "

T = TypeVar("T")


def under(path: str, key: str) -> str:
    """Return the path of a mapping's key; a key of unusual characters is quoted."""
    step = key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{step}" if path else step


class Problems:
    """Mistakes found so far, each with line and column (from 1), and where each key stands."""

    def __init__(self) -> None:
        """Start with no mistakes and no keys."""
        self.places: dict[str, tuple[int, int]] = {}
        self._found: dict[tuple[int, int, str], str] = {}
        self._elsewhere: list[str] = []
        self._wrong: set[str] = set()
        self._wrong_as_such: set[str] = set()
        self._dropped: set[str] = set()

    def given(self, path: str) -> bool:
        """Say whether the file has this key."""
        return path in self.places

    def wrong(self, path: str) -> bool:
        """Say whether a mistake was found in the value of this key, or anywhere in it."""
        return path in self._wrong

    def wrong_as_such(self, path: str) -> bool:
        """Say whether the value of this key is a mistake, and not only something in it."""
        return path in self._wrong_as_such

    def items(self, path: str, values: Iterable[T]) -> Iterator[tuple[str, T]]:
        """Yield the values of a list with their paths; those that were dropped are not among them.

        One that stands in the place of a list has the path of the list.
        """
        index = 0
        for value in values:
            while (item := f"{path}[{index}]") in self._dropped:
                index += 1
            yield item if self.given(item) else path, value
            index += 1

    def drop(self, path: str) -> None:
        """Take note that an item of a list is not among its values, as it is wrong."""
        self._dropped.add(path)

    def dropped(self, path: str) -> bool:
        """Say whether an item of a list is not among its values."""
        return path in self._dropped

    def add(self, path: str, text: str) -> None:
        """Add a mistake at a key; at the nearest key around it, if the file does not have it."""
        place, around = None, path
        self.distrust(path)
        while place is None and around:
            place = self.places.get(around)
            around = _LAST_STEP.sub("", around)
        line, column = place or (1, 1)
        self.add_at(line, column, f"{path}: {text}" if path else text)

    def add_at(self, line: int, column: int, text: str, source: str = "") -> None:
        """Add a mistake at a place that is no key's; source is the line, if it is to be shown."""
        self._found[line, column, _shown(text)] = source

    def add_elsewhere(self, path: str, lines: Iterable[str]) -> None:
        """Add mistakes in another file, which a key names; the lines say where in it they are."""
        self.distrust(path)
        self._elsewhere.extend(map(_shown, lines))

    def distrust(self, path: str) -> None:
        """Count a key and what holds it as wrong, without a mistake of its own."""
        self._wrong_as_such.add(path)
        while path:
            self._wrong.add(path)
            path = _LAST_STEP.sub("", path)

    def lines(self, file: str) -> list[str]:
        """Return the mistakes in the order of the file, FILE:LINE:COLUMN: TEXT, then those elsewhere.

        Where a line is shown, it follows, indented, and below it a ^ that marks the place.
        """
        own = []
        for (line, column, text), source in sorted(self._found.items()):
            own.append(f"{file}:{line}:{column}: {text}")
            own += _excerpt(source, column - 1) if source.strip() else []
        return own + self._elsewhere


def _shown(text: str) -> str:
    shown = text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
    return "".join(map(_printable, shown))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _excerpt(source: str, column: int) -> list[str]:
    """Return the part of a line around a column, as it can be printed, and a line that marks the column."""
    start = 0 if column < _WIDTH else column - _WIDTH // 2
    before = ("..." if start else "") + "".join(map(_printable, source[start:column]))
    after = "".join(map(_printable, source[column : start + _WIDTH]))
    more = "..." if len(source) > start + _WIDTH else ""
    return [f"{_INDENT}{before}{after}{more}", f"{_INDENT}{' ' * sum(map(_columns, before))}^"]


def _columns(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
