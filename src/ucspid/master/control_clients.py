"""The control clients who wait for a reload or an upgrade: known by tokens of the loop that serves them."""

from collections.abc import Callable, Iterable
from typing import Any

from ucspid.errors import ConfigError, UcspidError, WireError
from ucspid.master.text import shortened

MAX_CLIENTS = 100
"""Clients who may wait for the same; the loop has 16 at a time, and is not trusted."""

Answer = Callable[..., None]
"""Has the loop answer a client: answer(token, ok=..., ...)."""


class ControlClients:
    """Who waits, and for what."""

    def __init__(self, answer: Answer) -> None:
        """Begin with nobody."""
        self._answer = answer
        self.for_next_reload: list[int] = []
        self.for_reload: list[int] = []
        """Who waits for the reload that is under way."""
        self.for_upgrade: list[int] = []

    def wait(self, waiting: list[int], token: int) -> None:
        """Have a client wait, among those who wait for the same; token 0 is nobody.

        Raises WireError if more wait than a loop can have, before any more is kept.
        """
        if not token:
            return
        if len(waiting) >= MAX_CLIENTS:
            raise WireError(f"more than {MAX_CLIENTS} of its clients wait for the same")
        waiting.append(token)

    def begin_reload(self) -> None:
        """Have those who wait for the next reload wait for the one that begins."""
        self.for_reload, self.for_next_reload = self.for_next_reload, []

    def forget(self) -> None:
        """Forget everybody: the loop whose clients they were is gone."""
        for waiting in self._all():
            waiting.clear()

    def succeed(self, waiting: list[int], result: dict[str, Any]) -> None:
        """Answer those who wait what came of it."""
        for token in _taken_out(waiting):
            self._answer(token, ok=True, result=result)

    def fail(self, waiting: list[int], problem: UcspidError) -> None:
        """Answer those who wait why it did not come about."""
        kind = "config" if isinstance(problem, ConfigError) else "system"
        for token in _taken_out(waiting):
            self._answer(token, ok=False, kind=kind, error=shortened(problem))

    def fail_all(self, problem: UcspidError) -> None:
        """Answer everybody that nothing will come of it."""
        for waiting in self._all():
            self.fail(waiting, problem)

    def _all(self) -> Iterable[list[int]]:
        return self.for_next_reload, self.for_reload, self.for_upgrade


def _taken_out(waiting: list[int]) -> list[int]:
    tokens = waiting[:]
    waiting.clear()
    return tokens
