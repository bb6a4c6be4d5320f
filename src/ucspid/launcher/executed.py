"""Programs that are executed, in a process of their own from the first instruction: posix_spawn(3)."""

import os
from collections.abc import Sequence

from ucspid.ipc.messages import CONTROL, SetProgram
from ucspid.launcher.programs import Program
from ucspid.linux import posix_spawn
from ucspid.linux.lending import Lending


class ExecutedProgram(Program):
    """A program as execve(2) gets it."""

    __slots__ = ("_arguments", "_executable", "_lending")

    def __init__(self, lending: Lending, message: SetProgram, descriptors: list[int]) -> None:
        """Take the master's message; lending has what each start is lent."""
        super().__init__(message, descriptors)
        self._lending = lending
        self._executable = os.fsencode(message.executable)
        self._arguments = posix_spawn.ExecStrings(message.arguments)

    def start(self, client: int, others: Sequence[int], variables: bytes) -> int:
        """Start the program. All descriptors of a launcher but those that it lends are close-on-exec.

        Others are not lent, but moved in the new process: the launcher has its channels where they go. Those
        are open for as long as it lives, so no socket was received with such a number.
        """
        environment = posix_spawn.ExecStrings({**self.environment, **self.set_by(variables)}.values())
        if not others:
            return self._start(client, environment)
        moves = posix_spawn.Moves(others, CONTROL)
        try:
            return self._start(client, environment, moves)
        finally:
            moves.free()

    def _start(
        self, client: int, environment: posix_spawn.ExecStrings, moves: posix_spawn.Moves | None = None
    ) -> int:
        lending = self._lending
        lending.lend(client, client if self.stderr_is_client else self.stderr)
        try:
            process = posix_spawn.start(self._executable, self._arguments, environment, moves)
            lending.started(process)
        finally:
            lending.take_back()
        return process
