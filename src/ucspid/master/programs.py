"""What launchers have to know of services."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ucspid.ipc import messages as wire
from ucspid.ipc.messages import SetProgram
from ucspid.plan import Service
from ucspid.policy.environ import NAMES


@dataclass(frozen=True, slots=True)
class Program:
    """What a launcher has to know of a service; stderr is the descriptor beside the message, if one is.

    earlier are variables that connections may set since an earlier plan allowed them.
    """

    message: SetProgram
    stderr: int | None
    earlier: frozenset[bytes] = frozenset()

    @property
    def allowed(self) -> frozenset[bytes]:
        """All variables that connections may set."""
        return self.earlier.union(self.message.names)

    def packets(self) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        """Yield what a launcher that knows nothing is sent, with the descriptors beside it."""
        yield self.message.pack(), () if self.stderr is None else (self.stderr,)
        for names in wire.chunks_of_names(self.earlier):
            yield wire.AllowNames(self.message.service, names).pack(), ()


STDERR = {
    "log": wire.STDERR_GIVEN,
    "null": wire.STDERR_GIVEN,
    "inherit": wire.STDERR_KEPT,
    "client": wire.STDERR_CLIENT,
}


def program(number: int, service: Service, stderr: int | None) -> Program:
    """Return what a launcher has to know of a service; stderr is the descriptor that goes with it."""

    def texts(items: Iterable[str]) -> tuple[bytes, ...]:
        return tuple(item.encode("utf-8", "surrogateescape") for item in items)

    return Program(
        SetProgram(
            service=number,
            stderr=STDERR[service.stderr],
            executable=service.executable,
            arguments=texts(service.argv),
            environment=texts(f"{name}={value}" for name, value in service.env),
            names=texts((*NAMES[service.env_dialect], *service.rule_env)),
        ),
        stderr,
    )
