"""Options as the originals read them: their getopt, and their numbers."""

from __future__ import annotations

from ucspid.tools.messages import write_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WRONG = "?"
"""What an option is called that does not exist or lacks its argument; it has been reported."""
_ULONG_BITS = 64
"""Of an unsigned long; as 10 is even, digits before the last so many do not matter either."""


class Options:
    """The options of a command line, one after the other: a tool may act on one before the next is read."""

    def __init__(self, argv: list[bytes], letters: str) -> None:
        """Take the command line and the letters, each with a colon after it if it has an argument."""
        self._argv = argv
        self._letters = letters.replace(":", "")
        self._with_argument = {letters[place - 1] for place, sign in enumerate(letters) if sign == ":"}
        self._next = 1

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Yield each option and its argument, empty if it has none; WRONG for what is not one."""
        while self._next < len(self._argv):
            word = self._argv[self._next]
            if word == b"--":
                self._next += 1
                return
            if len(word) < 2 or not word.startswith(b"-"):  # noqa: PLR2004 - the hyphen and a letter
                return
            yield from self._bundle(word)

    @property
    def rest(self) -> list[bytes]:
        """Return what comes after the options; known when all have been read."""
        return self._argv[self._next :]

    def _bundle(self, word: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield the options of one word, such as -vRl0."""
        for place in range(1, len(word)):
            letter = chr(word[place])
            if letter not in self._letters:
                self._report(b"illegal option", word[place])
                yield WRONG, b""
            elif letter not in self._with_argument:
                yield letter, b""
            else:
                yield self._argument(letter, word[place + 1 :])
                return
        self._next += 1

    def _argument(self, letter: str, attached: bytes) -> tuple[str, bytes]:
        """Return an option with its argument: the rest of the word, or the next word."""
        self._next += 1
        if attached:
            return letter, attached
        if self._next >= len(self._argv):
            self._report(b"option requires an argument", ord(letter))
            return WRONG, b""
        self._next += 1
        return letter, self._argv[self._next - 1]

    def _report(self, problem: bytes, letter: int) -> None:
        name = self._argv[0].rpartition(b"/")[2]
        write_line(name, b": ", problem, b" -- ", bytes([letter]))


def digits(text: bytes) -> int:
    """Return how many decimal digits a text begins with."""
    return len(text) - len(text.lstrip(b"0123456789"))


def number(text: bytes) -> int:
    """Return the number that a text begins with: 0 if with none, and modulo what an unsigned long holds."""
    return int(text[: digits(text)][-_ULONG_BITS:] or b"0") % (1 << _ULONG_BITS)


def ipv4(text: bytes) -> tuple[bytes, bytes] | None:
    """Return the four bytes of the dotted address that a text begins with, and the rest; None without one.

    Numbers are taken modulo 256.
    """
    address = bytearray()
    while length := digits(text):
        address.append(number(text) % 256)
        text = text[length:]
        if len(address) == 4:  # noqa: PLR2004 - of IPv4
            return bytes(address), text
        if not text.startswith(b"."):
            return None
        text = text[1:]
    return None
