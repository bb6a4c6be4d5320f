"""Rules that needed a name, and the limits that such a rule sets."""

import time

from ucspid.admission.connection import Connection
from ucspid.admission.stage import Outcome, Resources, denied, no_rules, refusal_of
from ucspid.admission.stages.client_limits import limits_of, loosest, over_limit
from ucspid.policy.client_facts import NO_TLS, TlsFacts


class NameRules:
    """Finds the rule of a client that the address alone did not decide on."""

    def __init__(self, resources: Resources) -> None:
        """Take the settings of a service that has rules."""
        self._settings = resources.settings
        self._limits = resources.limits
        self._followed = resources.followed
        self._rules = resources.rules
        self._rules_set_limits = loosest(resources.settings) is not None

    def enter(self, connection: Connection) -> Outcome:
        """Refuse a client that its rule denies, or that is over the limits of its rule."""
        if connection.rule is not None:
            return None
        rules = connection.rules
        if rules is None:  # all that was looked up comes first
            assert self._rules is not None
            rules = self._rules()
            if rules is None:
                return no_rules(self._followed)
        assert connection.slot is not None
        found = connection.found
        rule = connection.rule = rules.match(connection.ip, found.remote_host, found.info, _tls(connection))
        if denied(rule, self._settings):
            return refusal_of(rule)
        if self._rules_set_limits:
            limits = limits_of(rule, self._settings)
            refusal = self._limits.check(connection.slot, limits, time.monotonic())
            if refusal is not None:
                return over_limit(refusal, rule, self._settings)
        connection.env = rule.env
        return None


def _tls(connection: Connection) -> TlsFacts:
    """Return what the handshake has shown that rules may be for."""
    tls = connection.over_tls
    if tls is None:
        return NO_TLS
    sni = None if tls.sni is None else tls.sni.encode()
    return TlsFacts(sni, tls.names, None if tls.fingerprint is None else tls.fingerprint.encode())


def make(resources: Resources) -> NameRules | None:
    """Return the stage of a service that has rules."""
    return None if resources.rules is None else NameRules(resources)
