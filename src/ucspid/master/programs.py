"""What launchers have to know of services."""

from collections.abc import Iterator
from functools import lru_cache

from ucspid.ipc import messages as wire
from ucspid.ipc.messages import SetProgram
from ucspid.plan import Service
from ucspid.policy.environ import names_of
from ucspid.records import dataclass

PackedMessage = tuple[bytes, tuple[int, ...]]
"""A packet and the descriptors beside it."""


@dataclass(frozen=True, slots=True)
class HeldProgram:
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

    def set_message(self) -> PackedMessage:
        """Return what launchers are sent when the program is new or another."""
        return self.message.pack(), () if self.stderr is None else (self.stderr,)

    def messages(self) -> Iterator[PackedMessage]:
        """Yield what a launcher that knows nothing is sent."""
        yield self.set_message()
        for names in wire.chunks_of_names(self.earlier):
            yield wire.AllowNames(self.message.service, names).pack(), ()


STDERR = {
    "log": wire.STDERR_GIVEN,
    "null": wire.STDERR_GIVEN,
    "inherit": wire.STDERR_KEPT,
    "client": wire.STDERR_CLIENT,
}


MAX_SHARED = 100
"""Tuples that are remembered, so that those which services have in common are there once."""


def program(number: int, service: Service, stderr: int | None) -> HeldProgram:
    """Return what a launcher has to know of a service; stderr is the descriptor that goes with it."""
    tls = service.tls
    names = names_of(
        service.env_dialect,
        proxied=service.proxy is not None,
        tls=None if tls is None else tls.env,
        starttls=tls is not None and tls.mode == "starttls",
        unix=any(address.family == "unix" for address in service.listen),
    )
    return HeldProgram(
        SetProgram(
            service=number,
            stderr=STDERR[service.stderr],
            executable=service.executable,
            arguments=_texts(service.argv),
            environment=_assignments(service.env),
            names=_texts((*names, *service.rule_env)),
        ),
        stderr,
    )


@lru_cache(MAX_SHARED)
def _texts(items: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(item.encode("utf-8", "surrogateescape") for item in items)


@lru_cache(MAX_SHARED)
def _assignments(variables: tuple[tuple[str, str], ...]) -> tuple[bytes, ...]:
    return _texts(tuple(f"{name}={value}" for name, value in variables))
