"""A script of sh(1) as words and operators: quotes, variables and substitutions are seen, not carried out."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_DEPTH
from ucspid.records import dataclass, field

_OPERATORS = re.compile(r"&&|\|\||;;|[;&|()\n]")
_REDIRECTION = re.compile(r"[0-9]*(?:<<-|<<|>>|<&|>&|<>|>\||<|>)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])(?:(:?[-=+?])([^{}$`\"'\\]*))?\}")


class ShellPart(NamedTuple):
    """A piece of a word.

    kind is text, variable, command, or unknown: what the importer does not understand. A variable has
    an operator such as :- and the text that follows it.
    """

    kind: str
    text: str
    quoted: bool
    operator: str = ""
    otherwise: str = ""


@dataclass
class ShellWord:
    """A word of a command."""

    line: int
    parts: list[ShellPart] = field(default_factory=list)

    def literal(self) -> str | None:
        """Return the text of a word that is only that, None for others."""
        if any(part.kind != "text" for part in self.parts):
            return None
        return "".join(part.text for part in self.parts)

    def plain(self) -> str | None:
        """Return the text of a word without quotes and variables: it may be a reserved word."""
        if any(part.quoted for part in self.parts):
            return None
        return self.literal()


class ShellOperator(NamedTuple):
    """What stands between commands, or a redirection; its target is a word of its own."""

    line: int
    text: str

    @property
    def redirects(self) -> bool:
        """Say whether it is a redirection."""
        return "<" in self.text or ">" in self.text


ShellToken = ShellWord | ShellOperator


class ShellLexer:
    """Reads a script from its text."""

    def __init__(self, text: str, label: str, line: int = 1, depth: int = 0) -> None:
        """Read a text that begins at a line. Raises ConfigError where substitutions nest too deeply."""
        if depth > MAX_DEPTH:
            raise ConfigError(
                [f"{label}:{line}: substitutions inside each other more than {MAX_DEPTH} levels deep"]
            )
        self._text = text
        self._at = 0
        self._line = line
        self._label = label
        self._here: list[tuple[str, bool]] = []
        self.comments: list[tuple[int, str]] = []

    def tokens(self) -> Iterator[ShellToken]:
        """Yield the words and operators, newlines too. Raises ConfigError for quotes without an end."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t":
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._skip(2)
            elif char == "#":
                self._comment()
            elif found := _REDIRECTION.match(self._text, self._at):
                yield ShellOperator(self._line, found[0])
                self._skip(len(found[0]))
                if "<<" in found[0]:
                    self._here_document(strip=found[0].endswith("-"))
            elif found := _OPERATORS.match(self._text, self._at):
                yield ShellOperator(self._line, found[0])
                self._skip(len(found[0]))
                if found[0] == "\n":
                    self._skip_here_documents()
            else:
                yield self._word()

    def _comment(self) -> None:
        end = self._text.find("\n", self._at)
        end = len(self._text) if end < 0 else end
        self.comments.append((self._line, self._text[self._at + 1 : end]))
        self._at = end

    def _skip(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _here_document(self, *, strip: bool) -> None:
        while self._text[self._at : self._at + 1] in {" ", "\t"}:
            self._at += 1
        self._here.append((self._word().literal() or "", strip))

    def _skip_here_documents(self) -> None:
        for end, strip in self._here:
            while self._at < len(self._text):
                stop = self._text.find("\n", self._at)
                line = self._text[self._at : stop if stop >= 0 else len(self._text)]
                self._skip(min(len(line) + 1, len(self._text) - self._at))
                if (line.lstrip("\t") if strip else line) == end:
                    break
        self._here = []

    def _word(self) -> ShellWord:
        word = ShellWord(self._line)
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t\n;&|()<>":
                break
            if char == "'":
                word.parts.append(ShellPart("text", self._until("'"), quoted=True))
            elif char == '"':
                self._skip(1)
                self._double(word)
            elif char == "\\":
                if self._text[self._at + 1 : self._at + 2] != "\n":
                    word.parts.append(ShellPart("text", self._text[self._at + 1 : self._at + 2], quoted=True))
                self._skip(2)
            elif char in "$`":
                word.parts.append(self._expansion(quoted=False))
            else:
                word.parts.append(self._bare())
        return word

    def _bare(self) -> ShellPart:
        found = re.compile(r"[^ \t\n;&|()<>'\"\\$`]+").match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return ShellPart(
            "unknown" if set("*?[") & set(found[0]) and len(found[0]) > 1 else "text", found[0], quoted=False
        )

    def _until(self, quote: str) -> str:
        """Return what is between two quotes, and go on behind the second."""
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise ConfigError([f"{self._label}:{self._line}: a {quote} without its second"])
        text = self._text[self._at + 1 : end]
        self._skip(end + 1 - self._at)
        return text

    def _double(self, word: ShellWord) -> None:
        """Read up to the second of two double quotes; the first is read."""
        start, text = self._line, ""
        word.parts.append(ShellPart("text", "", quoted=True))
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\\" and self._text[self._at + 1 : self._at + 2] in set('$`"\\\n'):
                text += self._text[self._at + 1].replace("\n", "")
                self._skip(2)
            elif char in '"$`':
                word.parts.append(ShellPart("text", text, quoted=True))
                text = ""
                if char == '"':
                    self._skip(1)
                    return
                word.parts.append(self._expansion(quoted=True))
            else:
                text += char
                self._skip(1)
        raise ConfigError([f'{self._label}:{start}: a " without its second'])

    def _expansion(self, *, quoted: bool) -> ShellPart:
        if self._text[self._at] == "`":
            return ShellPart("command", self._until("`"), quoted)
        if self._text.startswith("$(", self._at):
            text = self._balanced()
            sums = text.startswith("$((")
            return ShellPart("unknown", text, quoted) if sums else ShellPart("command", text[2:-1], quoted)
        if self._text.startswith("${", self._at):
            return self._braced(quoted=quoted)
        if found := _VARIABLE.match(self._text, self._at + 1):
            self._at = found.end()
            return ShellPart("variable", found[0], quoted)
        self._at += 1
        return ShellPart("text", "$", quoted)

    def _braced(self, *, quoted: bool) -> ShellPart:
        if found := _BRACED.match(self._text, self._at + 1):
            self._skip(found.end() - self._at)
            return ShellPart("variable", found[1], quoted, found[2] or "", found[3] or "")
        end = self._text.find("}", self._at)
        text = self._text[self._at : end + 1 if end >= 0 else len(self._text)]
        self._skip(len(text))
        return ShellPart("unknown", text, quoted)

    def _balanced(self) -> str:
        """Return $( and all up to the parenthesis that belongs to it."""
        depth, end = 0, self._at + 1
        while end < len(self._text):
            depth += {"(": 1, ")": -1}.get(self._text[end], 0)
            end += 1
            if depth == 0:
                text = self._text[self._at : end]
                self._skip(end - self._at)
                return text
        raise ConfigError([f"{self._label}:{self._line}: a $( without its )"])
