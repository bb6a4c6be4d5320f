"""Rules that need nothing but the client's address: first, since they cost least."""

from ucspid.admission.connection import Connection
from ucspid.admission.stage import Outcome, Resources, denied, no_rules, refusal_of


class AddressRules:
    """Finds the rule of a client, unless that depends on a name."""

    def __init__(self, resources: Resources) -> None:
        """Take the rules of a service that has some."""
        assert resources.rules is not None
        self._rules = resources.rules
        self._settings = resources.settings
        self._followed = resources.followed

    def enter(self, connection: Connection) -> Outcome:
        """Refuse a client that the rules deny whatever its name is, and one of whom no rules are known."""
        rules = connection.rules = self._rules()
        if rules is None:
            return no_rules(self._followed)
        rule = connection.rule = rules.decide_early(connection.ip)
        if rule is None:
            return None
        if denied(rule, self._settings):
            return refusal_of(rule)
        connection.env = rule.env
        return None


def make(resources: Resources) -> AddressRules | None:
    """Return the stage of a service that has rules, unless all names are to be looked up before these."""
    late = resources.rules is None or resources.settings.lookup.before_rules
    return None if late else AddressRules(resources)
