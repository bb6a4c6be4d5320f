"""Access rules from many forms: sorted into the order in which they are to be tried, and put together."""

from collections.abc import Iterable
from ipaddress import collapse_addresses, ip_network
from typing import NamedTuple

from ucspid.config.ruleforms import ClientPattern
from ucspid.importers.description import AccessRule, Imported, SourceLine
from ucspid.rules.patterns import Pattern, parse_pattern


class RankedRule(NamedTuple):
    """A rule of a source: rank says when it is tried, the smallest first."""

    rank: tuple[int, int]
    patterns: list[str]
    rule: AccessRule
    place: SourceLine


def add_sources(
    service: Imported, sources: Iterable[RankedRule], *, names: bool = True, users: bool = True
) -> None:
    """Add rules in their order; those that need what is not looked up match nobody, and are left out.

    names and users say whether the source's server looked them up.
    """
    for source in sorted(sources, key=lambda source: source.rank):
        usable = [
            pattern
            for pattern in source.patterns
            if _is_usable(service, source, pattern, names=names, users=users)
        ]
        if source.patterns and not usable:
            continue
        _add(service, source.rule, _collapsed(usable))


def _is_usable(service: Imported, source: RankedRule, pattern: str, *, names: bool, users: bool) -> bool:
    """Say whether a pattern can be written, and have looked up what it needs."""
    try:
        parsed = checked(pattern)
    except ValueError:
        service.note(
            source.place,
            f"the rule for {pattern} has an address that ucspid does not have",
            "write its network",
        )
        if not source.rule.allow:
            service.reasons.append("a rule that denies is lost")
        return False
    needs_name, needs_user = isinstance(parsed.where, bytes), parsed.user is not None
    if (needs_name and not names) or (needs_user and not users):
        service.remark(
            f"{source.place}: the rule for {pattern} matched nobody, since names were not looked up."
        )
        return False
    if needs_name:
        service.need_lookup(remote_host=True)
    if needs_user:
        service.need_lookup(ident=True)
    return True


def _add(service: Imported, rule: AccessRule, patterns: list[str]) -> None:
    """Add a rule, or its patterns to the rule before it if that says the same."""
    rules = service.settings.get("rules", [])
    before = rules[-1] if rules else None
    if before is not None and before.patterns and patterns and not rule.comment and _same(before, rule):
        before.patterns += [pattern for pattern in patterns if pattern not in before.patterns]
        return
    service.add_rule(
        AccessRule(
            allow=rule.allow, patterns=patterns, env=rule.env, max_per_ip=rule.max_per_ip,
            message=rule.message, comment=rule.comment,
        )
    )  # fmt: skip


def _same(one: AccessRule, other: AccessRule) -> bool:
    return (one.allow, one.env, one.max_per_ip, one.message) == (
        other.allow, other.env, other.max_per_ip, other.message
    )  # fmt: skip


def _collapsed(patterns: list[str]) -> list[str]:
    """Return networks as few as possible where all patterns are of one family: a range was written out."""
    if len(patterns) < 2:  # noqa: PLR2004
        return patterns
    try:
        networks = [ip_network(pattern) for pattern in patterns]
    except ValueError:
        return patterns
    if len({network.version for network in networks}) > 1:
        return patterns
    return [written(str(network)) for network in collapse_addresses(networks)]  # type: ignore[type-var]


def checked(pattern: str) -> Pattern:
    """Return what a pattern means. Raises ValueError for one that the configuration file does not take."""
    return parse_pattern(ClientPattern.parse(pattern))


def written(network: str) -> str:
    """Return a network as rules write it: without a prefix length if it is one address."""
    return network.removesuffix("/128") if ":" in network else network.removesuffix("/32")


def variables(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return variables as text."""
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in pairs
    }


def alone(label: str, name: str) -> Imported:
    """Return a service for rules without one: they are to be moved to the service that they are for."""
    service = Imported(name, SourceLine(label))
    service.settings |= {"listen": "127.0.0.1:0", "program": ["/bin/cat"], "user": "nobody"}
    service.note(
        SourceLine(label),
        "these are rules without a service",
        "move them, and lookup:, to the service that they are for",
    )
    return service
