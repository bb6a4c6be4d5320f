"""Asking a launcher what it runs: LIST, and what its answer is compared with.

A launcher answers in order. When its answer is complete, all that it had to say of what began and
ended before has been heard: a start that it was sent before the question and that has no answer never
happened, and a program that runs for the loop is in the answer, or has ended unseen. A question that
a launcher took with it when it died has its answer in that to the next one.
"""

import itertools
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from ucspid.errors import WireError
from ucspid.ipc.messages import ListSessions
from ucspid.ipc.session_table import CAPACITY

Answered = Callable[[Collection[int], Mapping[int, int]], None]
"""Takes an answer: the starts in flight when it was asked for, and the process of each connection."""


class KnownProgram(Protocol):
    """A program that the loop knows."""

    pid: int


class RollCall:
    """The questions to one launcher, and the answer that is coming in."""

    __slots__ = ("_asked", "_heard", "_tokens")

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self._asked: dict[int, tuple[Collection[int], Answered]] = {}
        self._heard: dict[int, int] = {}
        # None is an earlier loop's, whose answer may come yet and says nothing here.
        self._tokens = itertools.count(time.monotonic_ns())

    def ask(self, in_flight: Collection[int], answered: Answered) -> bytes:
        """Return the question to send; answered() is called once, with these starts and what runs."""
        token = next(self._tokens)
        self._asked[token] = set(in_flight), answered
        return ListSessions(token).pack()

    def heard(self, connection: int, pid: int) -> None:
        """Take a session that the launcher says it runs. Raises WireError for more than one can."""
        self._heard[connection] = pid
        if len(self._heard) > CAPACITY:
            raise WireError(f"a launcher has listed more than {CAPACITY} sessions")

    def listed(self, token: int) -> None:
        """Give the answer, which is complete, to the question with this token and to all before it.

        The newest is first: what a launcher's successor was asked settles what others only compare.
        """
        heard, self._heard = self._heard, {}
        if token in self._asked:
            for asked in sorted((asked for asked in self._asked if asked <= token), reverse=True):
                before, answered = self._asked.pop(asked)
                answered(before, heard)

    def restart(self) -> None:
        """Forget half an answer: another launcher process begins, and says everything again."""
        self._heard = {}

    def end(self) -> None:
        """Answer all questions: there is no launcher any more, and nothing runs there."""
        while self._asked:
            before, answered = self._asked.pop(next(iter(self._asked)))
            answered(before, {})


def differences(
    heard: Mapping[int, int], running: Mapping[int, KnownProgram], unanswered: Collection[int]
) -> list[str]:
    """Return how an answer differs from what the loop knows; unanswered are starts that have none."""
    found = [f"connection {number:x}: its launcher has not answered the start" for number in unanswered]
    for connection in heard.keys() | running.keys():
        there = heard.get(connection)
        here = running[connection].pid if connection in running else None
        if there != here:
            found.append(f"connection {connection:x}: process {here} in the loop, {there} at its launcher")
    return found
