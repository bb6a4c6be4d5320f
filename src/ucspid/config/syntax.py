"""YAML's syntax errors in plain words, each where one would look for it.

The parsers, libyaml and its Python twin, say what they lacked and where they stopped. What is meant
is read from the kind of error and from the lines around it. Lines and columns count from 0 here.
"""

import re
from collections.abc import Sequence
from typing import Any

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_KEY_AND_VALUE = re.compile(r"\s*(?:- +)*[^\s#'\"{\[][^#]*?:\s+\S")
_NO_SPACE = re.compile(r"\s*(?:- +)*[A-Za-z_][\w.-]*:\S")
_LOOKED_AT = 1000
"""Characters at the beginning of a line that these are tried on."""
_OPENING = {"]": "[", "}": "{"}
_BEGINS = {"?": "a key", "*": "an alias", "&": "a name for an alias"}
"""What a character begins, which is why a value cannot begin with it unquoted."""

Found = tuple[int, int, str]
"""Line and column, and what is wrong there."""


def split_lines(text: str) -> list[str]:
    """Return the lines as YAML counts them."""
    return _BREAK.split(text)


def explain(error: Any, lines: Sequence[str]) -> Found:
    """Return where a yaml.MarkedYAMLError is, and what is wrong there."""
    place, begun = error.problem_mark, error.context_mark
    if place is None:
        return 0, 0, f"not YAML: {error.problem}"
    row = min(place.line, max((row for row, line in enumerate(lines) if line.strip()), default=0))
    source = _Source(lines, row, place.column if row == place.line else len(lines[row]))
    opened = None if begun is None else (begun.line, begun.column)
    what = f"{error.context or ''}: {error.problem or ''}"
    return source.tab() or source.of_kind(what, opened) or source.here(f"not YAML: {what}")


class _Source:
    """The lines of the file, and where the parser stopped."""

    def __init__(self, lines: Sequence[str], row: int, column: int) -> None:
        self._lines = lines
        self.row = row
        self.column = column
        self.line = self.at(row)
        self.character = self.line[column : column + 1]

    def at(self, row: int) -> str:
        return self._lines[row] if row < len(self._lines) else ""

    def character_at(self, row: int, column: int) -> str:
        return self.at(row)[column : column + 1]

    def here(self, text: str) -> Found:
        return self.row, self.column, text

    def tab(self) -> Found | None:
        """Find a tab where only spaces may be: before the text of the line, or at the place itself."""
        indent = self.line[: len(self.line) - len(self.line.lstrip())]
        if "\t" in indent:
            return self.row, indent.index("\t"), "a tab: lines are indented with spaces only"
        return self.here("a tab: write spaces") if self.character == "\t" else None

    def of_kind(self, what: str, opened: tuple[int, int] | None) -> Found | None:
        """Return what an error of the parser means."""
        if "mapping values are not allowed" in what:
            return self._colon()
        if opened is not None and (found := self._in_context(what, *opened)):
            return found
        if "cannot start any token" in what or "are not allowed" in what:
            return self._no_value(0, 0)
        for row, line in enumerate(self._lines):
            if line.startswith("%"):
                return row, 0, "a line cannot begin with %"
        if "document start" in what:
            return self.here("nothing may follow the end of the document")
        return None

    def _in_context(self, what: str, row: int, column: int) -> Found | None:
        """Return what an error means that is in something which began at a place before."""
        for words, meaning in (
            ("end of stream", self._never_closed),
            ("escape", self._escape),
            ("hexdecimal", self._escape),
            ("block scalar", self._after_indicator),
            ("could not find expected ':'", self._no_colon),
            ("alphabetic or numeric", self._no_name),
            ("',' or '", self._in_brackets),
            ("node content", self._no_value),
            ("block collection", self._after_item),
            ("block mapping", self._after_key),
        ):
            if words in what:
                return meaning(row, column)
        return None

    def _never_closed(self, row: int, column: int) -> Found:
        return row, column, f"the quote {self.character_at(row, column)} that opens here is never closed"

    def _after_indicator(self, row: int, column: int) -> Found:
        text = f"nothing may follow {self.character_at(row, column)} on its line"
        return self.here(f"{text}: quote a value that begins with it")

    def _no_name(self, row: int, column: int) -> Found:
        return row, column, _must_be_quoted(self.character_at(row, column))

    def _colon(self) -> Found:
        """Explain a colon that makes a key where there can be none."""
        if _has_value(self.line[: self.column]):
            return self.here("a colon with a space after it, inside a value: quote the value")
        before = self._line_before()
        start = _indent(self.line)
        if before is None:
            return self.here("a key cannot be as long as this")
        if _indent(self.at(before)) < start and _has_value(self.at(before)):
            text = f"indented further than line {before + 1}, which has a value already"
            return self.row, start, text
        return self._no_colon(before, 0)

    def _line_before(self) -> int | None:
        """Return the nearest line above that is not empty, nor a comment."""
        return next((row for row in range(self.row - 1, -1, -1) if _code(self.at(row))), None)

    def _no_colon(self, row: int, _column: int) -> Found:
        line = self.at(row)
        if found := _NO_SPACE.match(line[:_LOOKED_AT]):
            return row, found.end() - 1, "a space is missing after the colon"
        return row, _indent(line), "neither KEY: VALUE nor an item of a list: is a colon missing?"

    def _escape(self, _row: int, _column: int) -> Found:
        column = max(0, self.line.rfind("\\", 0, self.column + 1))
        shown = self.line[column : column + 2]
        text = (
            f"{shown} is not an escape" if shown[1:] not in ("x", "u", "U") else f"{shown} needs more digits"
        )
        return self.row, column, f"in double quotes {text}: write \\\\ for a backslash, or use single quotes"

    def _in_brackets(self, row: int, column: int) -> Found:
        opening = self.character_at(row, column)
        closing = "]" if opening == "[" else "}"
        if self.row == row and self.character == ":":
            return self.here(f"a colon with a space after it, inside {opening} {closing}: quote the value")
        if self.row == row and self.character:
            return self.here(f"a comma or {closing} is missing before this")
        return row, column, f"the {opening} that opens here is not closed by {closing}"

    def _after_item(self, row: int, column: int) -> Found:
        if self._begins_line() and self.column != column:
            return self._indented(row, column)
        if self._begins_line():
            return self.here(f"a key in the place of an item of the list that begins at line {row + 1}")
        return self._rest_of_value()

    def _after_key(self, row: int, column: int) -> Found:
        if self.character == ":" and self._begins_line():
            return self.here("a key is missing before the colon")
        if self._begins_line() and self.column != column:
            return self._indented(row, column)
        if self._begins_line():
            return self.here("an item of a list in the place of a key")
        return self._rest_of_value()

    def _begins_line(self) -> bool:
        return not self.line[: self.column].strip()

    def _indented(self, row: int, column: int) -> Found:
        """Explain a line that belongs neither to the line above nor to the block that began at a place."""
        before = self._line_before()
        above = row if before is None else before
        indent = _indent(self.at(above))
        if indent == self.column and ":" not in self.at(above):
            return self._no_colon(above, 0)
        if indent == column or above == row:
            return self.here(f"indented by {self.column}, and not by {column} as line {row + 1}")
        others = f"neither the {indent} of line {above + 1} nor the {column} of line {row + 1}"
        return self.here(f"indented by {self.column}, which is {others}")

    def _rest_of_value(self) -> Found:
        """Explain what follows a value that was complete."""
        before = self.line[: self.column].rstrip()
        if self.character in _OPENING:
            return self.here(f"{self.character} closes nothing: no {_OPENING[self.character]} is open")
        if not before.endswith(("'", '"')):
            return self.here("something follows a value that is complete: quote the whole value")
        quote = before[-1]
        if before.count(quote) % 2:
            return self.row, len(before) - 1, f"this {quote} closes a text that an earlier line opens"
        inside = "''" if quote == "'" else '\\"'
        return self.here(f"something follows the closing {quote}; inside of a text it is written {inside}")

    def _no_value(self, _row: int, _column: int) -> Found:
        """Explain a character that no value begins with."""
        if self.character in _OPENING:
            return self.here(f"{self.character} closes nothing: no {_OPENING[self.character]} is open")
        if self.character == "-":
            return self.here("an item of a list begins a line of its own, or stands in [ ] without its -")
        if not self.character:
            return self.here("the file ends where a value is expected")
        return self.here(_must_be_quoted(self.character))


def _must_be_quoted(character: str) -> str:
    begins = f": there it begins {_BEGINS[character]}" if character in _BEGINS else ""
    return f"a value that begins with {character} must be quoted{begins}"


def _has_value(line: str) -> bool:
    """Say whether a line, or what there is of it, has a key and a value."""
    return _KEY_AND_VALUE.match(line[:_LOOKED_AT]) is not None


def _code(line: str) -> str:
    """Return what there is in a line besides spaces and a comment."""
    text = line.strip()
    return "" if text.startswith("#") else text


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
