"""What the master orders the event loop: JSON, an object with the key `do`, with descriptors beside it.

The master is trusted, and what it orders is seldom; so the layout is not fixed as that of the messages.
"""

import json
from typing import Any, Literal

from ucspid import plain
from ucspid.records import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """As whom to run, how to log, and what never changes in a process; the first order to each.

    log_relay says that the relay to the journal is beside it, before the control socket.

    Beside it the memory of the counts, that of the bans and, if there is one, the control socket. owner is
    the user who has started the daemon, began when that was, by the monotonic clock.
    """

    log_format: Literal["auto", "console", "json", "logfmt", "tcpserver"]
    log_level: str
    log_clients: Literal["full", "prefix", "hashed"] = "full"
    log_started: Literal["debug", "info"] = "debug"
    log_relay: bool = False
    uid: int | None
    gid: int | None
    groups: tuple[int, ...] | None
    nameservers: tuple[str, ...]
    looks_up: bool
    asks_dns: bool
    asks_ident: bool
    owner: int
    config: str
    began: float
    stop: Literal["wait", "exit"] = "wait"
    control_group: int | None = None
    control_mode: int = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLauncher:
    """A launcher's channel is beside it; pid is for the status until the launcher speaks."""

    number: int
    pid: int
    profile: int
    kind: Literal["native", "python"]
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTls:
    """The channel of a TLS process is beside it; pid is for the status."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTls:
    """A TLS process gets no more connections."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPipe:
    """The reading end of a pipe for the standard error of a service is beside it; it is read to its end."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddListeners:
    """Listening sockets are beside it, in the order of their numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePlan:
    """Memory with a plan is beside it: a PlanFrame, then a PlannedService in each line."""

    generation: int
    log_level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLookers:
    """Ends of connections are beside it whose other ends may look: they are served as control clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowVariables:
    """Memory with the names of variables that a rules file may set is beside it; or reason says why not."""

    path: str
    kind: Literal["text", "cdb"]
    unusable: Literal["keep", "refuse", "allow_missing"]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeExpiries:
    """Memory with when certificates end is beside it: seconds since 1970, by the names of services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLauncher:
    """A launcher has exited."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Accept nothing more, wait for the sessions to end, or end them at once, and exit.

    alone says that the master exits now: sessions take as long as they take.
    """

    at_once: bool
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeHandover:
    """Memory that the loop of before has written is beside it; before the first plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Memory for what the next loop should know is beside it, if there is any: write that down, and exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCondition:
    """Say how you are: NOTE_CONDITION. An answer shows that the loop turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """An event of the master's, to be logged."""

    level: Literal["info", "warning", "error"]
    event: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a reload or an upgrade that a control client has asked for; error says why nothing."""

    token: int
    result: dict[str, Any] | None = None
    error: str | None = None
    of_file: bool = False
    """Whether the error is the file's, and not the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeStage:
    """What the master is doing now for a reload or an upgrade; None once nothing is under way."""

    stage: str | None


Order = (
    Begin | AddLauncher | AddTls | RemoveTls | AddPipe | AddListeners | AddLookers | TakePlan | AllowVariables
    | TakeExpiries | RemoveLauncher | Stop | TakeHandover | HandOver | ReportCondition | LogEvent | Answer
    | TakeStage
)  # fmt: skip

NAMES: dict[str, type[Order]] = {
    "begin": Begin,
    "add_launcher": AddLauncher,
    "add_tls": AddTls,
    "remove_tls": RemoveTls,
    "add_pipe": AddPipe,
    "add_listeners": AddListeners,
    "add_lookers": AddLookers,
    "take_plan": TakePlan,
    "allow_variables": AllowVariables,
    "take_expiries": TakeExpiries,
    "remove_launcher": RemoveLauncher,
    "stop": Stop,
    "take_handover": TakeHandover,
    "hand_over": HandOver,
    "report_condition": ReportCondition,
    "log": LogEvent,
    "answer": Answer,
    "take_stage": TakeStage,
}
"""The orders, by what `do` says."""

_DO = {order: name for name, order in NAMES.items()}


def pack(order: Order) -> bytes:
    """Return the packet."""
    values = {field.name: getattr(order, field.name) for field in fields(order)}
    return plain.to_json({"do": _DO[type(order)], **values}).encode()


def unpack(packet: bytes) -> Order:
    """Return what pack() has packed."""
    data = json.loads(packet)
    return plain.read(NAMES[data.pop("do")], data)
