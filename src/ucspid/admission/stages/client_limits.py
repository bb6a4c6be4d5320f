"""The client's limits and the service's rate, and a session's slot where nothing is waited for."""

from ucspid.admission.connection import Connection
from ucspid.admission.stage import Outcome, Refused, Resources
from ucspid.limits import ClientLimits, Refusal
from ucspid.plan import Service as Settings
from ucspid.rules.rule import Rule


class LimitsOfClient:
    """Takes what a connection holds in the limits: everything, or nothing if one of them refuses."""

    __slots__ = ("_has_rules", "_limits", "_loosest", "_session", "_settings")

    def __init__(self, resources: Resources) -> None:
        """Take the limits of a service."""
        self._settings = resources.settings
        self._limits = resources.limits
        self._has_rules = resources.rules is not None
        self._loosest = loosest(resources.settings)
        self._session = not resources.settings.lookup.wanted

    def enter(self, connection: Connection) -> Outcome:
        """Take a slot; for a client whose rule is not known yet, under the loosest limits of any rule."""
        limits = None
        rule = connection.rule
        if self._has_rules:
            limits = self._loosest if rule is None else limits_of(rule, self._settings)
        session = self._session and not connection.waited
        slot = self._limits.admit(connection.ip, connection.began, limits, session=session)
        if isinstance(slot, Refusal):
            return over_limit(slot, rule, self._settings)
        connection.slot = slot
        return None


def make(resources: Resources) -> LimitsOfClient:
    """Return the stage, which every service has."""
    return LimitsOfClient(resources)


def over_limit(refusal: Refusal, rule: Rule | None, settings: Settings) -> Refused:
    """Return the refusal of a client that is over a limit: with its rule's message, else the service's."""
    message = None if rule is None else rule.message
    return Refused(refusal.value, message or settings.refuse_message, rule)


def limits_of(rule: Rule, settings: Settings) -> ClientLimits:
    """Return a client's limits: the rule's, where it sets them, else the service's."""
    return ClientLimits(
        settings.max_per_ip if rule.max_per_ip is None else rule.max_per_ip,
        settings.rate_per_ip if rule.rate_per_ip is None else rule.rate_per_ip,
    )


def loosest(settings: Settings) -> ClientLimits | None:
    """Return what holds while a client's rule is not known: as many as any rule allows, no rate.

    None if no rule sets limits: then the service's own are known to hold.
    """
    rules = settings.rules if isinstance(settings.rules, tuple) else ()
    if all(spec.max_per_ip is None and spec.rate_per_ip is None for spec in rules):
        return None
    if settings.max_per_ip is None:
        return ClientLimits(None, None)
    return ClientLimits(max(settings.max_per_ip, *(spec.max_per_ip or 0 for spec in rules)), None)
