"""The values of a script's words, by variables, files and users of the host. Nothing is executed."""

import re
import socket

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_LINE, MAX_WORDS
from ucspid.importers.host import SEARCH_PATH, Host
from ucspid.importers.shell_words import ShellLexer, ShellOperator, ShellPart, ShellWord


class UnknownValueError(Exception):
    """A value that is not known without executing something: what it is."""


class ShellValues:
    """The variables of a script, and what words mean with them."""

    def __init__(self, host: Host, label: str) -> None:
        """Begin without any but the PATH that programs have without a script."""
        self._host = host
        self._label = label
        self._known: dict[str, str] = {"PATH": SEARCH_PATH}
        self._unknown: dict[str, str] = {}
        self.exported: dict[str, str] = {}
        self._depth = 0

    def set(self, name: str, word: ShellWord) -> None:
        """Set a variable to what a word means; one that cannot be known is missed when it is used."""
        try:
            self.set_text(name, self.text(word))
        except UnknownValueError as why:
            self._known.pop(name, None)
            self._unknown[name] = str(why)

    def set_text(self, name: str, value: str) -> None:
        """Set a variable. Raises ConfigError for a value without end."""
        if len(value) > MAX_LINE:
            raise ConfigError([f"{self._label}: {name} gets longer than {MAX_LINE} characters"])
        self._known[name] = value
        self._unknown.pop(name, None)
        if name in self.exported:
            self.exported[name] = value

    def forget(self, name: str, why: str) -> None:
        """Have a variable be unknown."""
        self._known.pop(name, None)
        self.exported.pop(name, None)
        self._unknown[name] = why

    def export(self, name: str) -> None:
        """Have programs see a variable."""
        if name in self._known:
            self.exported[name] = self._known[name]

    def text(self, word: ShellWord) -> str:
        """Return what a word means as one text. Raises UnknownValueError."""
        return "".join(self._part(part) for part in word.parts)

    def words(self, words: list[ShellWord]) -> list[str]:
        """Return what words mean, split where a value without quotes has blanks.

        Raises UnknownValueError, ConfigError.
        """
        found: list[str] = []
        for word in words:
            found += self._split(word)
            if len(found) > MAX_WORDS:
                raise ConfigError([f"{self._label}:{word.line}: more than {MAX_WORDS} words"])
        return found

    def _split(self, word: ShellWord) -> list[str]:
        done: list[str] = []
        current: str | None = None
        for part in word.parts:
            value = self._part(part)
            if part.quoted or part.kind == "text":
                current = (current or "") + value
                continue
            pieces = value.split()
            if value[:1].isspace() and current is not None:
                done.append(current)
                current = None
            for number, piece in enumerate(pieces):
                if number:
                    done.append(current or "")
                    current = piece
                else:
                    current = (current or "") + piece
            if pieces and value[-1:].isspace():
                done.append(current or "")
                current = None
        return [*done, current] if current is not None else done

    def _part(self, part: ShellPart) -> str:
        if part.kind == "text":
            return part.text
        if part.kind == "variable":
            return self._variable(part)
        if part.kind == "command":
            return self.printed(part.text)
        raise UnknownValueError(part.text)

    def _variable(self, part: ShellPart) -> str:
        value = self._known.get(part.text)
        if value is None and part.text in self._unknown:
            raise UnknownValueError(f"${part.text}, which is {self._unknown[part.text]},")
        absent = value is None or (part.operator.startswith(":") and value == "")
        if part.operator.endswith("-") and absent:
            return part.otherwise
        if part.operator.endswith("+"):
            return "" if absent else part.otherwise
        if value is None:
            raise UnknownValueError(f"${part.text}")
        return value

    def printed(self, text: str) -> str:
        """Return what a command would print, of the few that are known.

        Raises UnknownValueError, ConfigError.
        """
        self._depth += 1
        try:
            words = self._words_of(text)
        finally:
            self._depth -= 1
        try:
            printed = self._printed(words)
        except (OSError, LookupError, ValueError):
            raise UnknownValueError(f"`{' '.join(words)}`") from None
        return printed.rstrip("\n")

    def _words_of(self, text: str) -> list[str]:
        words: list[str] = []
        for token in ShellLexer(text, self._label, depth=self._depth).tokens():
            if isinstance(token, ShellOperator):
                if token.text == "<" and not words:
                    words.append("cat")
                    continue
                raise UnknownValueError(f"`{text.strip()}`")
            words += self._split(token)
        return words

    def _printed(self, words: list[str]) -> str:
        match [words[0].rpartition("/")[2], *words[1:]]:
            case ["id", "-u" | "-ur" | "-g" | "-gr" as option, name]:
                return str(_present(self._host.accounts.user(name))["g" in option])
            case ["cat", path]:
                return "\n".join(self._host.lines(path))
            case ["head", "-1" | "-n1", path] | ["head", "-n", "1", path] | ["sed", "1q", path]:
                return self._host.lines(path)[0]
            case ["echo", *rest] if not (rest and re.match("-[neE]+$", rest[0])):
                return " ".join(rest)
            case ["hostname"]:
                return (
                    socket.gethostname() if self._host.is_this_one else self._host.lines("/etc/hostname")[0]
                )
        raise LookupError(words)


def _present(ids: tuple[int, int] | None) -> tuple[int, int]:
    if ids is None:
        raise LookupError
    return ids
