"""Programs that are executed, in a process of their own from the first instruction: posix_spawn(3)."""

import os

from ucspid.ipc.messages import SetProgram
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

    def start(self, client: int, variables: bytes) -> int:
        """Start the program. All other descriptors of a launcher are close-on-exec."""
        environment = posix_spawn.ExecStrings({**self.environment, **self.set_by(variables)}.values())
        lending = self._lending
        lending.lend(client, client if self.stderr_is_client else self.stderr)
        try:
            process = posix_spawn.start(self._executable, self._arguments, environment)
            lending.started(process)
        finally:
            lending.take_back()
        return process
