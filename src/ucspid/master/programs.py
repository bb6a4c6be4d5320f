"""What launchers have to know of services."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ucspid.ipc import messages as wire
from ucspid.ipc.messages import SetProgram
from ucspid.plan import Service
from ucspid.policy.environ import names_of

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


def program(number: int, service: Service, stderr: int | None) -> HeldProgram:
    """Return what a launcher has to know of a service; stderr is the descriptor that goes with it."""

    def texts(items: Iterable[str]) -> tuple[bytes, ...]:
        return tuple(item.encode("utf-8", "surrogateescape") for item in items)

    tls = service.tls
    return HeldProgram(
        SetProgram(
            service=number,
            stderr=STDERR[service.stderr],
            executable=service.executable,
            arguments=texts(service.argv),
            environment=texts(f"{name}={value}" for name, value in service.env),
            names=texts(
                (
                    *names_of(
                        service.env_dialect,
                        proxied=service.proxy is not None,
                        tls=None if tls is None else tls.env,
                        starttls=tls is not None and tls.mode == "starttls",
                    ),
                    *service.rule_env,
                )
            ),
        ),
        stderr,
    )
