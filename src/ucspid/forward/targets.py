"""Where connections are forwarded to, as the file writes it, and in which order targets are tried."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

UNIX = "unix:"

T = TypeVar("T")


class Destination(NamedTuple):
    """A server: a name or an address with a port; or, where port is 0, a socket's path, or @ and a name."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the form that the file has."""
        if not self.port:
            return f"{UNIX}{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Destination:
    """Return the target that str() has returned."""
    if text.startswith(UNIX):
        return Destination(text[len(UNIX) :], 0)
    host, _, port = text.rpartition(":")
    return Destination(host.strip("[]"), int(port))


def rotated(targets: Sequence[T], number: int) -> tuple[T, ...]:
    """Return all targets, beginning with one that a random number chooses, and then around."""
    first = number % len(targets)
    return (*targets[first:], *targets[:first])


def alternating(addresses: Sequence[tuple[int, T]]) -> list[tuple[int, T]]:
    """Return addresses, each after its family, with their families in turn (RFC 8305, section 4).

    They come in the order of RFC 6724: its first family begins.
    """
    families: dict[int, list[tuple[int, T]]] = {}
    for item in addresses:
        families.setdefault(item[0], []).append(item)
    rows = list(families.values())
    longest = max(map(len, rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]
