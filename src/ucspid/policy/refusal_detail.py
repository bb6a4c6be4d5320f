"""What an event says of a refusal beyond its reason: the rule, or the limit and who counts as one client."""

from typing import Protocol

from ucspid.net.client import client_text
from ucspid.plan import Rate, Service


class MatchedRule(Protocol):
    """The rule that applies to a client, as far as refusals are about it."""

    @property
    def where(self) -> str:
        """FILE:LINE, the name of a compiled file, or "default"."""

    @property
    def max_per_ip(self) -> int | None:
        """The limit that the rule sets, if it does."""

    @property
    def rate_per_ip(self) -> Rate | None:
        """The rate that the rule sets, if it does."""


def refusal_detail(reason: str, ip: str, settings: Service, rule: MatchedRule | None) -> dict[str, int | str]:
    """Return the fields rule, client and allowed, as far as they say something of this reason.

    client is an address, or a network where the service counts clients by networks, or unix:uid=N.
    allowed is what the limit that was reached allows: a number of connections, or a rate as COUNT/SECONDSs.
    """
    allowed: int | Rate | None
    match reason:
        case "denied":
            return {} if rule is None else _rule_field(rule)
        case "full":
            return {"allowed": settings.max_connections}
        case "rate":
            return _allowed_field(settings.rate)
        case "per_ip":
            own = rule is not None and rule.max_per_ip is not None
            allowed = rule.max_per_ip if rule is not None and own else settings.max_per_ip
        case "rate_per_ip":
            own = rule is not None and rule.rate_per_ip is not None
            allowed = rule.rate_per_ip if rule is not None and own else settings.rate_per_ip
        case _:
            return {}
    return {
        "client": client_text(ip, settings.ipv4_prefix, settings.ipv6_prefix),
        **_allowed_field(allowed),
        **(_rule_field(rule) if rule is not None and own else {}),
    }


def _rule_field(rule: MatchedRule) -> dict[str, int | str]:
    return {"rule": "default_action" if rule.where == "default" else rule.where}


def _allowed_field(limit: int | Rate | None) -> dict[str, int | str]:
    """Return the field; none where a limit was taken away meanwhile."""
    if limit is None:
        return {}
    return {"allowed": f"{limit.count}/{limit.seconds:g}s" if isinstance(limit, Rate) else limit}
