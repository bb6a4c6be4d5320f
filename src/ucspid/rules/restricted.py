"""A set of rules of which some cannot be carried out yet: their variables may not be set."""

from ucspid.policy.client_facts import NO_TLS, TlsFacts
from ucspid.records import replace
from ucspid.rules.rule import Rule, Rules


class Restricted:
    """Rules as they are (the protocol Rules), but for those that set other variables than the allowed ones.

    A client whom such a rule lets in is refused: what it was meant to be let in with is not there.
    """

    def __init__(self, rules: Rules, allowed: frozenset[bytes]) -> None:
        """Take the rules, and the names of the variables that they may set."""
        self._rules = rules
        self._allowed = allowed

    def match(
        self, ip: str, host: bytes | None = None, info: bytes | None = None, tls: TlsFacts = NO_TLS
    ) -> Rule:
        """Return the rule for this client."""
        return self._restrict(self._rules.match(ip, host, info, tls))

    def decide_early(self, ip: str) -> Rule | None:
        """Return the rule that match() gives for every host, info and tls, None if that depends on them."""
        rule = self._rules.decide_early(ip)
        return None if rule is None else self._restrict(rule)

    def _restrict(self, rule: Rule) -> Rule:
        if rule.verdict == "deny" or all(name in self._allowed for name, _value in rule.env):
            return rule
        return replace(rule, verdict="deny", env=(), refusal="no_rules")
