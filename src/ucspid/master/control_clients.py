"""The control clients that wait for a reload, a forecast of one, or an upgrade, by the tokens of the loop."""

from collections.abc import Callable, Iterable
from typing import Any

from ucspid.errors import ConfigError, UcspidError, WireError
from ucspid.ipc.orders import Answer
from ucspid.master.text import shortened

MAX_CLIENTS = 100
"""Clients that may wait for the same thing; the loop serves 16 at a time, but is not trusted."""

SendAnswer = Callable[[Answer], None]
"""Has the loop answer a client."""


class ControlClients:
    """Tokens of waiting clients, by what they wait for."""

    def __init__(self, send: SendAnswer) -> None:
        """Begin with no clients."""
        self._send = send
        self.for_next_reload: list[int] = []
        self.for_reload: list[int] = []
        """Clients that wait for the reload under way."""
        self.for_upgrade: list[int] = []
        self.for_next_forecast: list[int] = []
        self.for_forecast: list[int] = []
        """Clients that wait for the look at the file that is under way."""

    def wait(self, waiting: list[int], token: int) -> None:
        """Add a client to a list of waiting ones; token 0 is no client.

        Raises WireError if the list is full.
        """
        if not token:
            return
        if len(waiting) >= MAX_CLIENTS:
            raise WireError(f"more than {MAX_CLIENTS} of its clients wait for the same")
        waiting.append(token)

    def begin_reload(self) -> None:
        """The next reload begins: its clients wait for it now."""
        self.for_reload, self.for_next_reload = self.for_next_reload, []

    def forget(self) -> None:
        """Forget all clients: the loop process that served them has exited."""
        for waiting in self._all():
            waiting.clear()

    def succeed(self, waiting: list[int], result: dict[str, Any]) -> None:
        """Answer the clients of a list with a result."""
        for token in _taken_out(waiting):
            self._send(Answer(token=token, result=result))

    def fail(self, waiting: list[int], problem: UcspidError) -> None:
        """Answer the clients of a list with an error."""
        of_file = isinstance(problem, ConfigError)
        for token in _taken_out(waiting):
            self._send(Answer(token=token, error=shortened(problem), of_file=of_file))

    def fail_all(self, problem: UcspidError) -> None:
        """Answer all clients with an error."""
        for waiting in self._all():
            self.fail(waiting, problem)

    def _all(self) -> Iterable[list[int]]:
        return (
            self.for_next_reload, self.for_reload, self.for_upgrade, self.for_next_forecast,
            self.for_forecast,
        )  # fmt: skip


def _taken_out(waiting: list[int]) -> list[int]:
    tokens = waiting[:]
    waiting.clear()
    return tokens
