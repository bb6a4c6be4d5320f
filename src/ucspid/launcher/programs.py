"""What a launcher may start: the programs that the master has set, each with its environment."""

import os
from collections.abc import Callable, Iterable, Sequence

from ucspid.errors import WireError
from ucspid.ipc.messages import (
    STDERR_CLIENT,
    STDERR_GIVEN,
    AllowNames,
    ForbidNames,
    RemovePrograms,
    SetProgram,
)

MAX_SHARED = 64
"""Sets of variables that are remembered, to be shared between services."""

_SETS: dict[frozenset[bytes], frozenset[bytes]] = {}
"""Most services have the same variables, and a set of them takes a kilobyte."""


class Program:
    """A service's program: its environment, its standard error, and which variables a connection may set."""

    __slots__ = ("allowed", "environment", "stderr", "stderr_is_client")

    def __init__(self, message: SetProgram, descriptors: list[int]) -> None:
        """Take the master's message; own the descriptor of standard error, if there is one."""
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

    def set_by(self, variables: bytes) -> dict[bytes, bytes]:
        """Return what a connection sets, NAME=VALUE by name; between variables is a NUL.

        Raises WireError for one that connections may not set.
        """
        items = by_name(variables)
        for name in items:
            if name not in self.allowed:
                raise WireError(f"a connection may not set variable {name!r}")
        return items

    def start(self, client: int, others: Sequence[int], variables: bytes) -> int:
        """Start it with the client's socket as its descriptors 0 and 1; return its process.

        Others become its descriptors CONTROL and PLAIN, if there are any.
        Raises OSError, and WireError as set_by() does.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the descriptor of standard error."""
        if self.stderr is not None:
            os.close(self.stderr)


def by_name(variables: bytes) -> dict[bytes, bytes]:
    """Return variables, NAME=VALUE by name; between them is a NUL."""
    items = variables.split(b"\0") if variables else ()
    return {item.partition(b"=")[0]: item for item in items}


MakeProgram = Callable[[SetProgram, "list[int]"], Program]
"""Makes a program from the master's message and the descriptors beside it."""


class Programs:
    """All services' programs, as the master sets them; others are not to be started."""

    def __init__(self, make: MakeProgram) -> None:
        """Begin with none."""
        self.by_service: dict[int, Program] = {}
        self._make = make

    def __getitem__(self, service: int) -> Program:
        """Return a service's program. Raises WireError if it has none here."""
        try:
            return self.by_service[service]
        except KeyError:
            raise WireError(f"service {service} has no program here") from None

    def set(self, packet: bytes, descriptors: list[int]) -> None:
        """Take a service's program, or another one for a service that has one."""
        message = SetProgram.unpack(packet)
        program = self._make(message, descriptors)
        before = self.by_service.get(message.service)
        if before is not None:
            program.allow(before.allowed)
            before.close()
        self.by_service[message.service] = program

    def allow(self, packet: bytes, _descriptors: list[int]) -> None:
        """Let connections of a service set further variables."""
        message = AllowNames.unpack(packet)
        self[message.service].allow(message.names)

    def forbid(self, packet: bytes, _descriptors: list[int]) -> None:
        """Let connections of a service set some variables no longer."""
        message = ForbidNames.unpack(packet)
        self[message.service].forbid(message.names)

    def remove(self, packet: bytes, _descriptors: list[int]) -> None:
        """Forget services."""
        for service in RemovePrograms.unpack(packet).services:
            self[service].close()
            del self.by_service[service]


def _shared(names: frozenset[bytes]) -> frozenset[bytes]:
    """Return an equal set, the same for all services if it is remembered."""
    if len(_SETS) > MAX_SHARED:
        _SETS.clear()
    return _SETS.setdefault(names, names)
