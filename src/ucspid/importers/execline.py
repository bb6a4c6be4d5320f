"""A script of execline as words and blocks, and what its own commands do before the server."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_LINE, MAX_WORDS
from ucspid.importers.chain import CommandChain, Tool, set_nice
from ucspid.importers.shell_values import ShellValues, UnknownValueError

_WORD = re.compile(r'(?:[^ \t\r\n"\\#{}]|\\.|"(?:[^"\\]|\\.)*"|(?<=[^ \t\r\n])[#{}])+', re.DOTALL)
_PIECE = re.compile(r'\\(.)|"((?:[^"\\]|\\.)*)"|([^"\\]+)', re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ONE_BLOCK = {
    "if",
    "foreground",
    "background",
    "ifelse",
    "ifte",
    "iftrue",
    "pipeline",
    "trap",
    "forx",
    "loopwhilex",
}


class ExeclineWord(NamedTuple):
    """A word; { and } of blocks are words that are not text."""

    line: int
    text: str
    is_text: bool


def read(text: str, label: str) -> tuple[list[ExeclineWord], list[str]]:
    """Return the words of a script and its comments. Raises ConfigError for what is none."""
    words: list[ExeclineWord] = []
    comments: list[str] = []
    at, line = 0, 1
    while at < len(text):
        char = text[at]
        if char in " \t\r\n":
            line += char == "\n"
            at += 1
        elif char == "#":
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            comments += [] if line == 1 and text.startswith("#!") else [text[at + 1 : end].removeprefix(" ")]
            at = end
        elif char in "{}":
            words.append(ExeclineWord(line, char, is_text=False))
            at += 1
        elif found := _WORD.match(text, at):
            words.append(ExeclineWord(line, _unquoted(found[0]), is_text=True))
            line += found[0].count("\n")
            at = found.end()
        else:
            raise ConfigError([f'{label}:{line}: a " or a backslash without what belongs to it'])
        if len(words) > MAX_WORDS:
            raise ConfigError([f"{label}:{line}: more than {MAX_WORDS} words"])
    return words, comments


def _unquoted(word: str) -> str:
    return "".join(
        _ESCAPES.get(found[1], found[1])
        if found[1]
        else _unquoted(found[2])
        if found[2] is not None
        else found[3] or ""
        for found in _PIECE.finditer(word)
    )


class Execline:
    """Follows a script up to its server."""

    def __init__(
        self,
        words: list[ExeclineWord],
        chain: CommandChain,
        values: ShellValues,
        tools: Mapping[str, Tool] | None = None,
    ) -> None:
        """Begin at the first word; values knows what commands print."""
        self._tools = tools or {}
        self._words = words
        self._at = 0
        self._chain = chain
        self._values = values
        self._substituted: dict[str, str] = {}

    def command(self) -> list[str]:
        """Carry out, as settings, what comes before the server, and return the server with its words.

        Raises GetoptError for options that a tool does not have, ConfigError.
        """
        while self._at < len(self._words):
            word = self._words[self._at]
            self._chain.place = self._chain.place._replace(line=word.line)
            name = self._text(word.text).rpartition("/")[2]
            if name in self._tools:
                ahead = [self._text(item.text) for item in self._words[self._at + 1 :]]
                self._at = len(self._words) - len(self._tools[name](self._chain, ahead))
            elif not self._own(name):
                break
        return [self._text(word.text) for word in self._words[self._at :]]

    def _own(self, name: str) -> bool:
        """Carry out one command; return whether it is execline's."""
        chain = self._chain
        match name:
            case "export":
                chain.env[self._take(1)] = self._take(2)
                self._at += 3
            case "unexport":
                chain.env.pop(self._take(1), None)
                self._at += 2
            case "cd":
                chain.folder = chain.path(self._take(1))
                chain.service.settings["chdir"] = chain.folder
                self._at += 2
            case "umask":
                chain.service.settings["umask"] = f"0{self._take(1).lstrip('0') or '0'}"
                self._at += 2
            case "emptyenv":
                chain.env.clear()
                self._at += 1
                self._skip_options()
            case "nice":
                set_nice(chain, self._take(2))
                self._at += 3
            case "importas" | "define" | "backtick" | "multisubstitute":
                self._at += 1
                self._substitution(name)
            case _ if name in _ONE_BLOCK:
                self._block_command(name)
            case _:
                return False
        return True

    def _take(self, ahead: int) -> str:
        at = self._at + ahead
        return self._text(self._words[at].text) if at < len(self._words) else ""

    def _skip_options(self) -> list[str]:
        options: list[str] = []
        while self._at < len(self._words) and self._words[self._at].text.startswith("-"):
            options.append(self._words[self._at].text)
            self._at += 1
            if options[-1] in {"-D", "-d"}:
                self._at += 1
        return options

    def _substitution(self, name: str) -> None:
        if name == "multisubstitute":
            inner = Execline(self._block(), self._chain, self._values)
            while inner._at < len(inner._words):
                word = inner._words[inner._at].text
                inner._at += 1
                if word in {"importas", "define"}:
                    inner._substitution(word)
            self._substituted |= inner._substituted
            return
        self._skip_options()
        variable = self._take(0)
        self._at += 1
        if name == "backtick":
            command = " ".join(word.text for word in self._block())
            try:
                self._chain.env[variable] = self._values.printed(command)
            except UnknownValueError as what:
                self._chain.cannot(
                    f"{what} is not known without running it", "write the value into the script"
                )
            return
        value = self._take(0)
        self._at += 1
        if name == "importas":
            value = self._chain.env.get(value, "")
        self._substituted[variable] = value

    def _block_command(self, name: str) -> None:
        place = self._chain.place
        self._at += 1
        self._skip_options()
        while self._at < len(self._words) and not self._words[self._at].is_text:
            self._block()
        self._chain.service.note(
            place, f"{name} is not carried out", "have what it did done before ucspid starts"
        )

    def _block(self) -> list[ExeclineWord]:
        """Return what is in the block that begins here, and go on behind it."""
        depth, start = 0, self._at + 1
        while self._at < len(self._words):
            word = self._words[self._at]
            depth += {"{": 1, "}": -1}.get(word.text, 0) if not word.is_text else 0
            self._at += 1
            if depth <= 0:
                break
        return self._words[start : self._at - 1]

    def _text(self, text: str) -> str:
        made = _VARIABLE.sub(lambda found: self._substituted.get(found[1], found[0]), text)
        if len(made) > MAX_LINE:
            raise ConfigError([f"{self._chain.place}: a word gets longer than {MAX_LINE} characters"])
        return made
