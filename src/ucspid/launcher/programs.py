"""What a launcher may start: the programs that the master has set, each with its environment."""

import os
from collections.abc import Iterable

from ucspid.errors import WireError
from ucspid.ipc.messages import STDERR_CLIENT, STDERR_GIVEN, SetProgram
from ucspid.linux import posix_spawn
from ucspid.linux.lending import Lending

MAX_SHARED = 64
"""Sets of variables that are remembered, to be shared between services."""

_SETS: dict[frozenset[bytes], frozenset[bytes]] = {}
"""Most services have the same variables, and a set of them takes a kilobyte."""


class Program:
    """A service's program: what execve(2) gets, and which variables a connection may set."""

    __slots__ = ("allowed", "arguments", "environment", "executable", "stderr", "stderr_is_client")

    def __init__(self, message: SetProgram, descriptors: list[int]) -> None:
        """Take the master's message; own the descriptor of standard error, if there is one."""
        self.executable = os.fsencode(message.executable)
        self.arguments = posix_spawn.Strings(message.arguments)
        self.environment = {item.partition(b"=")[0]: item for item in message.environment}
        self.allowed: frozenset[bytes] = frozenset()
        self.allow(message.names)
        self.stderr_is_client = message.stderr == STDERR_CLIENT
        if len(descriptors) != (message.stderr == STDERR_GIVEN):
            raise WireError(f"{len(descriptors)} descriptors with a program")
        self.stderr = descriptors[0] if descriptors else None

    def allow(self, names: Iterable[bytes]) -> None:
        """Let connections set these variables, too."""
        self.allowed = _shared(self.allowed.union(names))

    def forbid(self, names: Iterable[bytes]) -> None:
        """Let connections not set these variables any more."""
        self.allowed = _shared(self.allowed.difference(names))

    def start(self, client: int, variables: bytes, lending: Lending) -> int:
        """Start the program with the client's socket as its descriptors 0 and 1; return its process.

        All other descriptors of a launcher are close-on-exec. Raises OSError, and WireError for a variable
        that connections may not set.
        """
        environment = self.environment.copy()
        for item in variables.split(b"\0") if variables else ():
            name = item.partition(b"=")[0]
            if name not in self.allowed:
                raise WireError(f"a connection may not set variable {name!r}")
            environment[name] = item
        lending.lend(client, client if self.stderr_is_client else self.stderr)
        try:
            process = posix_spawn.start(
                self.executable, self.arguments, posix_spawn.Strings(environment.values())
            )
            lending.started(process)
        finally:
            lending.take_back()
        return process

    def close(self) -> None:
        """Close the descriptor of standard error."""
        if self.stderr is not None:
            os.close(self.stderr)


def _shared(names: frozenset[bytes]) -> frozenset[bytes]:
    """Return an equal set, the same for all services if it is remembered."""
    if len(_SETS) > MAX_SHARED:
        _SETS.clear()
    return _SETS.setdefault(names, names)
