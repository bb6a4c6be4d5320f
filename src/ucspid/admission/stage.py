"""What a stage of admission is: it lets a connection go on, refuses it, or waits first."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol

from ucspid.admission.connection import Connection
from ucspid.admission.tls_channels import TlsChannels
from ucspid.limits import ServiceLimits
from ucspid.plan import Service as Settings
from ucspid.policy.bans import Banned
from ucspid.records import dataclass
from ucspid.rules.rule import Rule, Rules

if TYPE_CHECKING:
    from ucspid.admission.rules_file import FollowedRules
    from ucspid.lookup.names import Names

NO_RULES = "no_rules"
CLOSED = "closed"
TIMED_OUT = "timed_out"
BUG = "internal_error"
"""Reasons of refusals beside those of limits.Refusal and of rules: a rules file that could never be read;
a service that goes; a stage that is late; a bug of ours."""

TLS_FAILED = "tls_failed"
"""Reason of TLS: the handshake failed, or there was no process for it."""

NOT_PROXIED = "not_proxied"
PROXY_HEADER = "proxy_header"
HEALTH_CHECK = "health_check"
"""Reasons of the PROXY protocol: a peer that is no balancer; a balancer without a valid header; one that asks
only whether there is anybody."""

BANNED = "banned"
"""The reason of those whom an operator has denied for a time."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The end of a connection that is not admitted: reason is a name in the log and in the counts.

    message is sent to the client; rule is the one that decided, if one did; detail is for the log, number is
    an errno, where the system is the reason.
    """

    reason: str
    message: str = ""
    rule: Rule | None = None
    detail: str = ""
    number: int = 0


Outcome = Refused | None
"""None lets the connection go on to the next stage."""


class Stage(Protocol):
    """One decision on a connection."""

    def enter(self, connection: Connection) -> Outcome | Coroutine[None, None, Outcome]:
        """Decide at once, or return what decides later: once the network has answered, say.

        A coroutine must end by connection.deadline with what it has by then. It holds no
        session's slot while it waits.
        """


@dataclass(frozen=True, slots=True)
class Resources:
    """What stages of one service work with, under the settings that its connections meet."""

    settings: Settings
    limits: ServiceLimits
    names: "Names | None"
    rules: Callable[[], Rules | None] | None
    """Returns the rules as they are now; None where the service has none."""
    tls: TlsChannels
    next_connection: Callable[[], int]
    followed: "FollowedRules | None" = None
    """The file that the rules are from, if they are from one."""
    banned: Banned | None = None
    """Says whom an operator has denied; None while that is nobody."""


Make = Callable[[Resources], Stage | None]
"""Makes a service's stage, or None where its settings need none."""


def no_rules(followed: "FollowedRules | None") -> Refused:
    """Return the refusal of a client of whom no rules are known."""
    return Refused(NO_RULES, number=0 if followed is None else followed.number)


def denied(rule: Rule, settings: Settings) -> bool:
    """Say whether a rule, or the default of the service where none matched, refuses the client."""
    verdict = settings.default_action if rule.where == DEFAULT else rule.verdict
    return verdict == "deny"


def refusal_of(rule: Rule) -> Refused:
    """Return the refusal of a client whom a rule denies."""
    return Refused(rule.refusal, rule.message or "", rule)


DEFAULT = "default"
"""The place that is reported for the default rule."""
