"""What a launcher may start: the programs that the master told it, each with its environment."""

import os

from ucspid.errors import WireError
from ucspid.ipc.messages import PEER_HEAD, Reader
from ucspid.linux.fd_limit import Lending

_NAMES: dict[frozenset[bytes], frozenset[bytes]] = {}
"""Of variables: most services have the same ones, and a set of them takes a kilobyte."""


class Program:
    """A service's program: what execve(2) gets, and which variables a connection may set."""

    __slots__ = ("allowed", "argv", "environment", "executable", "stderr")

    def __init__(self, packet: bytes, descriptors: list[int]) -> None:
        """Read a SERVICE message: executable, argv, NAME=VALUE strings, names allowed, stderr if any."""
        reader = Reader(packet, PEER_HEAD.size)
        (self.executable,) = reader.strings()
        self.argv = reader.strings()
        fixed = [item.partition(b"=") for item in reader.strings()]
        self.environment = {name: value for name, _, value in fixed}
        allowed = frozenset(reader.strings())
        self.allowed = _NAMES.setdefault(allowed, allowed)
        reader.end()
        self.stderr = descriptors[0] if descriptors else None

    def start(self, client: int, variables: bytes, lending: Lending) -> int:
        """Start the program with the client's socket as its descriptors 0 and 1; return its process.

        It gets a process group of its own and an empty signal mask; all other descriptors of
        a launcher are close-on-exec, all signal dispositions default. Raises OSError, and
        WireError for a variable that connections may not set.
        """
        environment = self.environment.copy()
        for item in variables.split(b"\0") if variables else ():
            name, _, value = item.partition(b"=")
            if name not in self.allowed:
                raise WireError(f"variable {name!r} is not a connection's to set")
            environment[name] = value
        lending.lend(client, self.stderr)
        try:
            return os.posix_spawn(self.executable, self.argv, environment, setpgroup=0, setsigmask=())
        finally:
            lending.take_back()

    def close(self) -> None:
        """Let go of the descriptor for stderr."""
        if self.stderr is not None:
            os.close(self.stderr)
