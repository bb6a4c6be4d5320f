"""The commands of a script, taken apart: what stands alone, and what stands inside if, while, case."""

from collections.abc import Sequence

from ucspid.importers.shell_words import ShellOperator, ShellToken, ShellWord
from ucspid.records import dataclass, field

_ENDS = {"if": "fi", "while": "done", "until": "done", "for": "done", "case": "esac", "{": "}"}
_INSIDE = {"then", "else", "elif", "do", "in"}


@dataclass
class ShellCommand:
    """A simple command with the operator before it; redirections have their targets beside them."""

    line: int
    before: str = ""
    words: list[ShellWord] = field(default_factory=list)
    redirections: list[tuple[str, ShellWord | None]] = field(default_factory=list)
    after: str = ""


@dataclass
class ShellCompound:
    """A compound command: its first word, and the simple commands in it."""

    line: int
    kind: str
    inside: list[ShellCommand] = field(default_factory=list)
    conditions: int = 0
    """How many of the commands inside, the first ones, are the condition of an if."""


def commands(tokens: Sequence[ShellToken]) -> list[ShellCommand | ShellCompound]:
    """Return the commands of a script in their order."""
    found: list[ShellCommand | ShellCompound] = []
    stack: list[str] = []
    compound: ShellCompound | None = None
    for command in _simple(tokens):
        compound = _reserved(command, stack, compound)
        if compound is None:
            if command.words or command.redirections:
                found.append(command)
            continue
        if command.words:
            compound.inside.append(command)
        if not stack:
            found.append(compound)
            compound = None
    return [*found, *([compound] if compound else [])]


def _reserved(
    command: ShellCommand, stack: list[str], compound: ShellCompound | None
) -> ShellCompound | None:
    """Take the reserved words from the beginning of a command; return the compound command that it is in."""
    while command.words and (word := command.words[0].plain()) is not None:
        if word in _ENDS:
            compound = compound or ShellCompound(command.line, word)
            stack.append(_ENDS[word])
        elif stack and word == stack[-1]:
            stack.pop()
        elif not (compound and word in _INSIDE):
            break
        elif word == "then" and not compound.conditions:
            compound.conditions = len(compound.inside)
        command.words.pop(0)
        if word in {"for", "case"}:
            break
    return compound


def _simple(tokens: Sequence[ShellToken]) -> list[ShellCommand]:
    """Return the simple commands; those in parentheses stand alone."""
    found: list[ShellCommand] = []
    current = ShellCommand(0)
    pending: str | None = None
    for token in tokens:
        if isinstance(token, ShellOperator) and not token.redirects:
            current.after = token.text
            found.append(current)
            current = ShellCommand(token.line, token.text)
            pending = None
        elif isinstance(token, ShellOperator):
            current.redirections.append((token.text, None))
            pending = None if "<<" in token.text else token.text
        elif pending is not None:
            current.redirections[-1] = (pending, token)
            pending = None
        else:
            current.line = current.line if current.words else token.line
            current.words.append(token)
    return [*found, current]
