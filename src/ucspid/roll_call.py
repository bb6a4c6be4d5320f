"""Asking a launcher what it runs, to compare it with the loop's books, and not to change them.

A launcher answers in order: when its answer is complete, all that it had to say of what began and
ended before has been heard, so that both sets must be the same.
"""

import asyncio
import itertools
import time
from collections.abc import Collection, Mapping
from typing import Protocol

from ucspid.errors import WireError
from ucspid.ipc.session_table import CAPACITY


class Program(Protocol):
    """A program in the books."""

    pid: int


class RollCall:
    """The questions to one launcher."""

    __slots__ = ("_asked", "_heard", "_tokens")

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self._asked: dict[int, tuple[set[int], asyncio.Future[list[str]]]] = {}
        self._heard: dict[int, int] = {}
        self._tokens = itertools.count(time.monotonic_ns())  # no LIST of other kinds has one of these

    @property
    def under_way(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._asked)

    def begin(self, in_flight: Collection[int]) -> tuple[int, asyncio.Future[list[str]]]:
        """Return the token of a LIST to be sent, and where its answer comes: what differs.

        Whoever waits no longer cancels it. The starts in flight must be answered before.
        """
        token = next(self._tokens)
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._asked[token] = set(in_flight), answer
        answer.add_done_callback(lambda _answer: self._asked.pop(token, None))
        return token, answer

    def heard(self, connection: int, pid: int) -> None:
        """Take a session that the launcher says it runs. Raises WireError for more than one can."""
        if self._asked:
            self._heard[connection] = pid
            if len(self._heard) > CAPACITY:
                raise WireError(f"a launcher has listed more than {CAPACITY} sessions")

    def listed(self, token: int, running: Mapping[int, Program], in_flight: Collection[int]) -> None:
        """Compare: the launcher has said all."""
        heard, self._heard = self._heard, {}
        asked = self._asked.get(token)
        if asked is None or asked[1].done():
            return
        before, answer = asked
        answer.set_result(_differences(heard, running, before & set(in_flight)))

    def forget(self) -> None:
        """Drop what was heard: another launcher process begins, and says everything again."""
        self._heard = {}

    def gone(self) -> None:
        """Have nobody wait: there is no launcher any more, and nothing that could differ."""
        for _before, answer in list(self._asked.values()):
            if not answer.done():
                answer.set_result([])


def _differences(heard: Mapping[int, int], running: Mapping[int, Program], unanswered: set[int]) -> list[str]:
    found = [f"connection {number:x}: its launcher has not answered the start" for number in unanswered]
    for connection in heard.keys() | running.keys():
        there = heard.get(connection)
        here = running[connection].pid if connection in running else None
        if there is None:
            found.append(f"connection {connection:x}: process {here} in the books, and none at its launcher")
        elif here is None:
            found.append(f"connection {connection:x}: process {there} at a launcher, and none in the books")
        elif here != there:
            found.append(f"connection {connection:x}: process {here} in the books, {there} at its launcher")
    return found
