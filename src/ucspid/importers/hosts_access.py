"""hosts.allow and hosts.deny: access rules of libwrap, by the names of daemons."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_DEPTH, MAX_RULES
from ucspid.importers.description import AccessRule, Description, Imported, SourceLine
from ucspid.importers.host import Host
from ucspid.importers.rule_sources import alone, checked, written
from ucspid.records import dataclass, field
from ucspid.rules.patterns import parse_pattern

_SEPARATOR = re.compile(r":(?![^\[]*\])")
_OCTETS = 4
_UNKNOWABLE = {"LOCAL", "KNOWN", "UNKNOWN", "PARANOID"}
_ECHO = re.compile(r"(?:/bin/)?echo\s+(.*)")
TCPD_DIRECTORY = "/usr/sbin"
"""Where Debian's tcpd has its daemons."""
_HARMLESS = {"severity", "keepalive", "linger", "rfc931"}


@dataclass
class Wrapper:
    """A line of one of the files: for which daemons, for which clients, and what it decides."""

    place: SourceLine
    daemons: list[list[str]]
    """Names, those of them that are excepted, and so on."""
    clients: list[list[str]]
    allow: bool
    env: dict[str, str] = field(default_factory=dict)
    message: str | None = None
    lost: list[str] = field(default_factory=list)


def read_wrappers(lines: list[str], path: str, host: Host, *, allow: bool) -> list[Wrapper]:
    """Return the rules of a file: of hosts.allow, or else of hosts.deny."""
    found: list[Wrapper] = []
    for number, line in _joined(lines):
        fields = [part.strip() for part in _SEPARATOR.split(line)]
        if line.lstrip().startswith("#") or not line.strip():
            continue
        place = SourceLine(host.label(path), number)
        if len(fields) < 2:  # noqa: PLR2004
            raise ConfigError([f"{place}: no colon between daemons and clients"])
        wrapper = Wrapper(
            place, _lists(fields[0]), [_patterns(host, part) for part in _lists(fields[1])], allow
        )
        for option in fields[2:]:
            _option(wrapper, option.replace("\\:", ":"))
        found.append(wrapper)
    return found


def _joined(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines with those that continue them."""
    whole, start = "", 0
    for number, line in enumerate(lines, 1):
        start = start or number
        if line.endswith("\\"):
            whole += line[:-1]
            continue
        yield start, whole + line
        whole, start = "", 0


def _lists(text: str) -> list[list[str]]:
    """Return the words of a list, those behind EXCEPT in lists of their own."""
    found: list[list[str]] = [[]]
    for word in re.split(r"[\s,]+", text):
        if word == "EXCEPT":
            found.append([])
        elif word:
            found[-1].append(word)
    return found


def _patterns(host: Host, words: list[str]) -> list[str]:
    """Return the words, files of them read; one that is not there has none, as libwrap has it."""
    found: list[str] = []
    for word in words:
        if not word.startswith("/"):
            found.append(word)
            continue
        try:
            found += [name for line in host.lines(word) for name in line.split()]
        except OSError:
            continue
    return found


def _option(wrapper: Wrapper, text: str) -> None:
    name, _, rest = text.partition(" ")
    name, equals, value = name.partition("=") if "=" in name else (name, "", rest)
    rest = f"{value} {rest}".strip() if equals else rest.strip()
    match name:
        case "allow" | "ALLOW":
            wrapper.allow = True
        case "deny" | "DENY":
            wrapper.allow = False
        case "setenv":
            variable, _, content = rest.partition(" ")
            wrapper.env[variable] = content.strip()
        case "twist":
            wrapper.allow = False
            if found := _ECHO.fullmatch(rest):
                wrapper.message = found[1].strip("\"'") + "\n"
            else:
                wrapper.lost.append(f"twist {rest} answered in place of the program")
        case _ if name not in _HARMLESS and text:
            wrapper.lost.append(f"{text} was done for each of these clients")


def apply_wrappers(description: Description, wrappers: Sequence[Wrapper], host: Host) -> None:
    """Add the rules to the services that libwrap protected, or to services of their own if there are none."""
    if not wrappers:
        return
    if not description.services:
        names = {word: None for wrapper in wrappers for word in wrapper.daemons[0] if word != "ALL"}
        for name in names or ["all"]:
            made = alone(wrappers[0].place.file, name)
            made.daemon = name
            description.add(made)
    for service in description.services:
        if service.daemon is not None:
            _apply(service, [wrapper for wrapper in wrappers if _is_for(wrapper, service.daemon)], host)


def _is_for(wrapper: Wrapper, daemon: str) -> bool:
    """Say whether a line is for a daemon: named, and not among the exceptions."""
    named = [any(word.partition("@")[0] in {"ALL", daemon} for word in words) for words in wrapper.daemons]
    depth = next((number for number, matches in enumerate(named) if not matches), len(named))
    return depth % 2 == 1


def _apply(service: Imported, wrappers: list[Wrapper], host: Host) -> None:
    _without_tcpd(service, host)
    rules = _WrapperRules(service)
    before = service.settings.pop("rules", [])
    allowed = [pattern for rule in before if rule.allow for pattern in rule.patterns]
    for rule in before:
        if not rule.allow:
            service.add_rule(rule)
    within = allowed if service.settings.get("default_action") == "deny" else ["*"]
    for rule in rules.of(wrappers, within):
        service.add_rule(rule)
    if within != ["*"] and within:
        service.add_rule(AccessRule(allow=True, patterns=within))
    parsed = [
        parse_pattern(pattern) for rule in service.settings.get("rules", []) for pattern in rule.patterns
    ]
    if any(isinstance(pattern.where, bytes) for pattern in parsed):
        service.need_lookup(remote_host=True, paranoid=True)
    if any(pattern.user is not None for pattern in parsed):
        service.need_lookup(ident=True)


def _without_tcpd(service: Imported, host: Host) -> None:
    """Take tcpd out of the program: it started what its own name says."""
    program, name = service.settings.get("program", [""]), service.settings.get("argv0")
    if program[0].rpartition("/")[2] == "tcpd" and name:
        service.settings["program"] = [name if "/" in name else f"{TCPD_DIRECTORY}/{name}", *program[1:]]
        del service.settings["argv0"]
        if not host.has_program(service.settings["program"][0]):
            what = f"there is no program {service.settings['program'][0]}, which tcpd started"
            service.cannot(service.place, what, "install it, or remove the service")


class _WrapperRules:
    """Makes the rules of one service."""

    def __init__(self, service: Imported) -> None:
        self._service = service
        self._count = 0

    def of(self, wrappers: list[Wrapper], within: list[str], depth: int = 0) -> Iterator[AccessRule]:
        """Yield the rules for clients within some patterns.

        Exceptions of a line come before it, decided by the lines that follow. Raises ConfigError where
        too many lines except the same clients.
        """
        if depth > MAX_DEPTH:
            raise ConfigError(
                [f"{wrappers[0].place}: more than {MAX_DEPTH} lines before it except the same clients"]
            )
        for number, wrapper in enumerate(wrappers):
            clients = [self._converted(wrapper, words) for words in wrapper.clients]
            if len(clients) > 3:  # noqa: PLR2004
                self._service.cannot(
                    wrapper.place, "EXCEPT is nested too deeply", "write the networks that are meant"
                )
                continue
            self._lose(wrapper)
            excepted = self._within(wrapper, clients[1], within) if len(clients) > 1 else []
            for_all_the_same = self._within(wrapper, clients[2], within) if len(clients) > 2 else []  # noqa: PLR2004
            if for_all_the_same:
                yield self._rule(wrapper, self._within(wrapper, clients[0], for_all_the_same))
            if excepted:
                yield from self.of(wrappers[number + 1 :], excepted, depth + 1)
                yield AccessRule(allow=True, patterns=excepted)
            if patterns := self._within(wrapper, clients[0], within):
                yield self._rule(wrapper, patterns)

    def _rule(self, wrapper: Wrapper, patterns: list[str]) -> AccessRule:
        self._count += 1
        if self._count > MAX_RULES:
            raise ConfigError([f"{wrapper.place}: more than {MAX_RULES} access rules"])
        everyone = patterns == ["*"]
        return AccessRule(
            allow=wrapper.allow,
            patterns=[] if everyone else patterns,
            env=wrapper.env if wrapper.allow else {},
            message=wrapper.message,
        )

    def _lose(self, wrapper: Wrapper) -> None:
        for what in wrapper.lost:
            if not any(note.what == what for note in self._service.notes):
                self._service.note(wrapper.place, what, "have the program do it")

    def _converted(self, wrapper: Wrapper, words: list[str]) -> list[str]:
        made: list[str] = []
        for word in words:
            try:
                made.append(pattern_of(word))
            except ValueError:
                self._cannot(wrapper, f"{word} has no equivalent")
        return made

    def _cannot(self, wrapper: Wrapper, what: str) -> None:
        if any(note.what == what for note in self._service.notes):
            return
        if wrapper.allow and len(wrapper.clients) == 1:
            self._service.note(wrapper.place, what, "allow networks in place of it")
        else:
            self._service.cannot(wrapper.place, what, "write the networks that are meant")

    def _within(self, wrapper: Wrapper, patterns: list[str], within: list[str]) -> list[str]:
        found: list[str] = []
        for one in patterns:
            for other in within:
                try:
                    common = intersection(one, other)
                except ValueError:
                    self._cannot(wrapper, f"clients that are both {one} and {other} cannot be named")
                    continue
                if common is not None and common not in found:
                    found.append(common)
        return found


def pattern_of(word: str) -> str:
    """Return the pattern of a rule for a word of hosts_access(5). Raises ValueError where there is none."""
    user, at, place = word.rpartition("@")
    if word.startswith("@") or place in _UNKNOWABLE or set("*?") & set(place):
        raise ValueError(word)
    if at and user != "ALL":
        if user in _UNKNOWABLE:
            raise ValueError(word)
        return f"{user}@{pattern_of(place)}"
    if place == "ALL":
        return "*"
    if place.startswith("["):
        address, _, length = place[1:].partition("]")
        return written(str(ip_network(f"{address}{length}", strict=False)))
    if re.fullmatch(r"[0-9.]+\.", place):
        octets = place.rstrip(".").split(".")
        return str(ip_network(f"{'.'.join([*octets, '0', '0', '0'][:_OCTETS])}/{8 * len(octets)}"))
    if "/" in place:
        return written(str(ip_network(place, strict=False)))
    checked(place)
    return place.lower()


def intersection(one: str, other: str) -> str | None:
    """Return the clients that two patterns have in common, None for nobody.

    Raises ValueError if that is not known.
    """
    if "*" in {one, other} or one == other:
        return one if other == "*" else other
    if "@" in one or "@" in other:
        raise ValueError(one)
    first, second = parse_pattern(one).where, parse_pattern(other).where
    if isinstance(first, bytes) and isinstance(second, bytes):
        for inner, outer, text in ((first, second, one), (second, first, other)):
            if outer.startswith(b".") and inner.endswith(outer):
                return text
        return None
    if isinstance(first, bytes) or isinstance(second, bytes):
        raise ValueError(one)  # noqa: TRY004
    networks = ip_network(str(first[0])), ip_network(str(second[0]))
    if networks[0].version != networks[1].version or not networks[0].overlaps(networks[1]):
        return None
    return one if networks[0].prefixlen >= networks[1].prefixlen else other
