"""What a set of access rules answers, whatever form the rules were written in."""

from typing import Literal, Protocol

from ucspid.plan import Rate
from ucspid.policy.client_facts import NO_TLS, TlsFacts
from ucspid.records import dataclass

Verdict = Literal["allow", "deny"]
RuleRefusal = Literal["denied", "no_rules"]
Environment = tuple[tuple[bytes, bytes], ...]
"""Variables in the order in which they are to be set: the last of one name holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The one rule that applies to a client; None means that the rule says nothing.

    where is FILE:LINE, the name of a compiled file, or "default" where no rule matched.
    key is the address part of a tcprules rule as it is written or stored: empty for the rule
    that matches everyone, None where no rule matched and for a rule in YAML. refusal is the reason
    that is counted for a client whom the rule denies: no_rules for one that cannot be carried out.
    """

    verdict: Verdict
    env: Environment
    where: str
    key: bytes | None = None
    max_per_ip: int | None = None
    rate_per_ip: Rate | None = None
    message: str | None = None
    refusal: RuleRefusal = "denied"


class Rules(Protocol):
    """A set of rules, from YAML or from a tcprules file.

    ip is the client's address in any form; ValueError is raised if it is none. host is the
    client's name as the resolver gave it, None if there is none. info is what its ident server
    answered: None if there was no answer, empty if the answer was an error. tls is what its TLS handshake
    has shown.
    """

    def match(
        self, ip: str, host: bytes | None = None, info: bytes | None = None, tls: TlsFacts = NO_TLS
    ) -> Rule:
        """Return the rule for this client: the default rule if none matches."""

    def decide_early(self, ip: str) -> Rule | None:
        """Return the rule that match() gives for every host, info and tls, None if that depends on them."""
