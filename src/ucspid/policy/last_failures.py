"""What went wrong last in a service: one failure of each kind, for people who look at the status."""

from typing import Any, NamedTuple

from ucspid.policy import validate

NOT_STARTED = "failed"
KINDS = ("nonzero", "signal", NOT_STARTED)
"""A program exited with another status than 0; one died of a signal; one could not be started."""

MAX_TEXT = 200
"""Characters of a text; one that is longer, for the path of a program, is cut off."""

MAX_CONNECTION = (1 << 64) - 1


class LastFailure(NamedTuple):
    """A failure: in words, the client's address and port, the connection (0: it had no number), when."""

    what: str
    remote: str
    connection: int
    at: float


class LastFailures:
    """The last failure of each kind."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        """Begin without one."""
        self._last: dict[str, LastFailure] = {}

    def note(self, kind: str, failure: LastFailure) -> None:
        """Remember a failure in place of the one of its kind before."""
        self._last[kind] = failure._replace(what=_shown(failure.what))

    def items(self) -> list[tuple[str, LastFailure]]:
        """Return the kinds that there are with their failures, the last failure first."""
        return sorted(self._last.items(), key=lambda item: -item[1].at)

    def to_state(self) -> list[list[Any]]:
        """Return what from_state() takes, in values of JSON."""
        return [[kind, *failure] for kind, failure in self._last.items()]

    def from_state(self, state: Any, now: float) -> None:
        """Go on with the failures that to_state() was asked of.

        Raises ValueError for what it cannot have said by now, and changes nothing then.
        """
        taken = {}
        for item in validate.items(state, len(KINDS)):
            kind, what, remote, connection, at = validate.row(item, len(LastFailure._fields) + 1)
            taken[validate.one_of(kind, KINDS)] = LastFailure(
                validate.text(what, MAX_TEXT),
                validate.text(remote, MAX_TEXT),
                validate.whole(connection, 0, MAX_CONNECTION),
                validate.number(at, 0.0, now),
            )
        self._last = taken


def _shown(text: str) -> str:
    """Return a text that prints and is not too long: the path of a program may be neither."""
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT]
