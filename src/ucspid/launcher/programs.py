"""What a launcher may start: the programs that the master told it, each with its environment."""

import os

from ucspid.errors import WireError
from ucspid.ipc.messages import PEER_HEAD, Reader
from ucspid.linux import posix_spawn
from ucspid.linux.lending import Lending

_NAMES: dict[frozenset[bytes], frozenset[bytes]] = {}
"""Of variables: most services have the same ones, and a set of them takes a kilobyte."""


class Program:
    """A service's program: what execve(2) gets, and which variables a connection may set."""

    __slots__ = ("allowed", "arguments", "environment", "executable", "stderr")

    def __init__(self, packet: bytes, descriptors: list[int]) -> None:
        """Read a SERVICE message: executable, argv, NAME=VALUE strings, names allowed, stderr if any."""
        reader = Reader(packet, PEER_HEAD.size)
        (self.executable,) = reader.strings()
        self.arguments = posix_spawn.Strings(reader.strings())
        self.environment = {item.partition(b"=")[0]: item for item in reader.strings()}
        allowed = frozenset(reader.strings())
        self.allowed = _NAMES.setdefault(allowed, allowed)
        reader.end()
        self.stderr = descriptors[0] if descriptors else None

    def start(self, client: int, variables: bytes, lending: Lending) -> int:
        """Start the program with the client's socket as its descriptors 0 and 1; return its process.

        All other descriptors of a launcher are close-on-exec. Raises OSError, and WireError for a variable
        that connections may not set.
        """
        environment = self.environment.copy()
        for item in variables.split(b"\0") if variables else ():
            name = item.partition(b"=")[0]
            if name not in self.allowed:
                raise WireError(f"variable {name!r} is not a connection's to set")
            environment[name] = item
        lending.lend(client, self.stderr)
        try:
            process = posix_spawn.start(
                self.executable, self.arguments, posix_spawn.Strings(environment.values())
            )
            lending.started(process)
        finally:
            lending.take_back()
        return process

    def close(self) -> None:
        """Let go of the descriptor for stderr."""
        if self.stderr is not None:
            os.close(self.stderr)
