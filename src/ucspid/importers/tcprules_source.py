"""Rules of tcprules, text and cdb: kept as a file where ucspid can read it, or written out."""

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import groupby

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_RULES
from ucspid.importers.description import AccessRule, Description, Imported, SourceLine
from ucspid.importers.host import Host
from ucspid.importers.rule_sources import RankedRule, add_sources, alone, variables
from ucspid.net.address import Network
from ucspid.rules.cdb import Cdb
from ucspid.rules.keys import parse
from ucspid.rules.tcprules import TextRule, parse_text

_USER_AT_ADDRESS, _USER_AT_NAME, _ADDRESS, _NAME, _NETWORK, _DOMAIN, _ANY_NAME, _ANYONE = range(8)
"""The order in which tcpserver looks: the first for which there is a rule decides."""


def set_rules_file(service: Imported, place: SourceLine, host: Host, path: str, *, may_lack: bool) -> None:
    """Set the rules to a compiled file: as it is, if its name ends in .cdb. Raises ConfigError."""
    lookup = service.settings.get("lookup", {})
    if not host.is_file(path):
        if may_lack and path.endswith(".cdb"):
            service.settings |= {"rules": path, "unusable_rules": "allow_missing"}
        elif may_lack:
            service.note(
                place, f"there is no {path}: -X allowed everyone", f"add rules: {path} when it is there"
            )
        else:
            service.cannot(place, f"there is no {path}: all clients were dropped", "create it, or remove -x")
    elif path.endswith(".cdb"):
        service.settings |= {"rules": path, "unusable_rules": "allow_missing" if may_lack else "refuse"}
    else:
        label = host.label(path)
        add_table(service, _from_cdb(host.read(path), label), label, lookup)
        service.remark(f"The rules are those of {path} when it was imported: changes of it have no effect.")


def import_tcprules(data: bytes, path: str, host: Host, description: Description) -> None:
    """Add rules alone, from a text or, if its name ends in .cdb, a compiled file. Raises ConfigError."""
    label = host.label(path)
    service = alone(label, path.rpartition("/")[2].partition(".")[0])
    table = _from_cdb(data, label) if path.endswith(".cdb") else _from_text(data, label)
    add_table(service, table, label, None)
    description.add(service)


def is_text(lines: list[str], label: str) -> bool:
    """Say whether lines are those of a text that tcprules takes, with a rule at least."""
    try:
        return bool(parse_text("\n".join(lines).encode("utf-8", "surrogateescape"), label))
    except ConfigError:
        return False


def _from_text(data: bytes, label: str) -> Iterator[tuple[TextRule, str]]:
    """Yield the rules of a text, each with the comment above it."""
    comments: dict[int, str] = {}
    above: list[str] = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if line.startswith("#"):
            above.append(line[1:].strip())
        elif line.strip():
            comments[number] = " ".join(above)
            above = []
    last = 0
    for rule in parse_text(data, label):
        yield rule, comments.get(rule.line, "") if rule.line != last else ""
        last = rule.line


def _from_cdb(data: bytes, label: str) -> Iterator[tuple[TextRule, str]]:
    for record in Cdb(data, label).records():
        try:
            target = parse(record.key)
        except ValueError as error:
            raise ConfigError([f"{label}: byte {record.offset}: {error}"]) from None
        yield TextRule(record.key, target, record.data, 0), ""


def add_table(
    service: Imported, table: Iterator[tuple[TextRule, str]], label: str, lookup: dict[str, object] | None
) -> None:
    """Add the rules of a file; lookup has what is looked up, None if all that the rules need.

    Raises ConfigError for too many of them.
    """
    found: list[RankedRule] = []
    seen: set[bytes] = set()
    for (line, data), group in groupby(table, key=lambda item: (item[0].line, item[0].data)):
        for rank, rules in groupby(group, key=lambda item: _rank(item[0])):
            batch = [(rule, comment) for rule, comment in rules if rule.key not in seen]
            seen.update(rule.key for rule, _ in batch)
            if len(seen) > MAX_RULES:
                raise ConfigError([f"{label}: more than {MAX_RULES} rules: have the service read the file"])
            place = SourceLine(label, line)
            if batch and _can_be_written(service, place, rank, batch[0][0]):
                patterns = [_pattern(rule) for rule, _ in batch if rule.key]
                found.append(RankedRule(rank, patterns, _rule(data, batch[0][1]), place))
    everything = lookup is None
    add_sources(
        service,
        found,
        names=everything or bool((lookup or {}).get("remote_host")),
        users=everything or bool((lookup or {}).get("ident")),
    )


def _rank(rule: TextRule) -> tuple[int, int]:
    """Return when a rule is tried."""
    if isinstance(rule.target, Network):
        return _NETWORK, -rule.target.length
    _, at, place = rule.target.rpartition(b"@")
    if at:
        return (_USER_AT_NAME if place.startswith(b"=") else _USER_AT_ADDRESS), 0
    if not place:
        return _ANYONE, 0
    if not place.startswith(b"="):
        return _ADDRESS, 0
    if place.startswith(b"=."):
        return _DOMAIN, -len(place)
    return (_NAME if place != b"=" else _ANY_NAME), 0


def _can_be_written(service: Imported, place: SourceLine, rank: tuple[int, int], rule: TextRule) -> bool:
    what = ""
    if rank[0] == _ANY_NAME:
        what = "a rule for everyone who has a name"
    elif rule.target[:1] == b"@":
        what = "a rule for clients whose ident server answered with an error"
    elif rank[0] == _ADDRESS and not _is_address(rule.key):
        service.remark(f"{place}: the rule for {rule.key.decode('latin-1')} matched nobody.")
        return False
    if what:
        service.note(place, what, "write rules for the networks that are meant")
        if rule.data.startswith(b"D"):
            service.reasons.append("a rule that denies is lost")
    return not what


def _is_address(key: bytes) -> bool:
    try:
        ip_address(key.decode("latin-1"))
    except ValueError:
        return False
    return True


def _pattern(rule: TextRule) -> str:
    if isinstance(rule.target, Network):
        return str(rule.target)
    user, at, place = rule.target.decode("utf-8", "surrogateescape").rpartition("@")
    return f"{user}{at}{place.removeprefix('=')}"


def _rule(data: bytes, comment: str) -> AccessRule:
    env = [item[1:].partition(b"=") for item in data.split(b"\0") if item.startswith(b"+")]
    pairs = [(name, value) for name, _, value in env]
    deny = data.startswith(b"D")
    return AccessRule(allow=not deny, env={} if deny else variables(pairs), comment=comment)
