"""Rules in YAML: the first one that matches decides, whatever kind of pattern it has.

Each pattern is indexed under the number of the first rule that has it; a client's rule is the
lowest number of all the patterns that match. So the cost depends on the client's name and on
how many different prefix lengths there are, not on the number of rules.
"""

import re
from collections.abc import Iterator, Sequence

from ucspid.errors import ConfigError
from ucspid.net.address import Network, parse_address
from ucspid.net.unix import UnixClient
from ucspid.plan import RuleSpec
from ucspid.policy.client_facts import NO_TLS, TlsFacts
from ucspid.rules.keys import suffixes
from ucspid.rules.patterns import EVERYWHERE, OVER_UNIX, LocalProcess, Pattern, TlsTrait, parse_pattern
from ucspid.rules.prefixes import PrefixIndex
from ucspid.rules.rule import Environment, Rule, Verdict

_NO_HOST = re.compile(rb"[@:/]")
"""In names of certificates that are no host's: addresses of mail, URIs."""


class YamlRules:
    """The rules of a service in YAML (the protocol Rules)."""

    def __init__(self, specs: Sequence[RuleSpec], default: Verdict) -> None:
        """Index the rules; default is for clients that none matches.

        Raises ConfigError with a problem for each pattern or variable that is wrong.
        """
        self._specs = tuple(specs)
        self._default = Rule(verdict=default, env=(), where="default")
        self._none = len(self._specs)
        self._anyone = _NumbersByPlace()
        self._users: dict[bytes, _NumbersByPlace] = {}
        self._some_user = _NumbersByPlace()
        self._first_name = self._none
        """The first rule that needs a name, or what a TLS handshake shows."""
        self._handshakes: dict[tuple[TlsTrait, bytes], int] = {}
        self._processes: dict[LocalProcess, int] = {}
        problems: list[str] = []
        for number, spec in enumerate(self._specs):
            problems += _wrong_variables(spec)
            for text in spec.from_:
                try:
                    self._add(parse_pattern(text), number)
                except ValueError as error:
                    problems.append(f"{spec.where}: from: {text!r}: {error}")
        if problems:
            raise ConfigError(problems)

    def _add(self, pattern: Pattern, number: int) -> None:
        if isinstance(pattern.where, LocalProcess):
            self._processes.setdefault(pattern.where, number)
            return
        if pattern.where is EVERYWHERE and pattern.user is None:
            self._processes.setdefault(OVER_UNIX, number)
        if isinstance(pattern.where, bytes):
            self._first_name = min(self._first_name, number)
        if pattern.trait is not None:
            assert isinstance(pattern.where, bytes)
            self._handshakes.setdefault((pattern.trait, pattern.where), number)
        elif pattern.user is None:
            self._anyone.add(pattern, number)
        else:
            self._users.setdefault(pattern.user, _NumbersByPlace()).add(pattern, number)
            self._some_user.add(pattern, number)

    def match(
        self, ip: str, host: bytes | None = None, info: bytes | None = None, tls: TlsFacts = NO_TLS
    ) -> Rule:
        """Return the first rule that matches this client, the default if none does."""
        if ":" in ip and isinstance(ip, UnixClient):
            return self._rule(self._of_process(ip, tls))
        address = parse_address(ip)
        number = self._anyone.lowest(address, host, self._none)
        if info is not None and info in self._users:
            number = self._users[info].lowest(address, host, number)
        return self._rule(self._of_handshake(tls, number))

    def _of_handshake(self, tls: TlsFacts, number: int) -> int:
        """Return the lowest number that matches what a handshake has shown, or number if that is lower."""
        if not self._handshakes or tls is NO_TLS:
            return number
        return min(number, *(self._handshakes.get(key, number) for key in _keys(tls)), self._none)

    def _of_process(self, client: UnixClient, tls: TlsFacts = NO_TLS) -> int:
        """Return the number of the rule of a client over a Unix socket; networks and names are not for it."""
        of_user, of_group = LocalProcess("uid", client.uid), LocalProcess("gid", client.gid)
        found = (self._processes.get(each, self._none) for each in (OVER_UNIX, of_user, of_group))
        return self._of_handshake(tls, min(found))

    def decide_early(self, ip: str) -> Rule | None:
        """Return the rule that match() gives for every host, info and tls, None if that depends on them."""
        if ":" in ip and isinstance(ip, UnixClient):
            number = self._of_process(ip)
            late = min(self._handshakes.values(), default=number) < number
            return None if late else self._rule(number)
        address = parse_address(ip)
        number = self._anyone.lowest(address, None, self._none)
        if self._first_name < number or self._some_user.lowest(address, None, number) < number:
            return None
        return self._rule(number)

    def _rule(self, number: int) -> Rule:
        if number == self._none:
            return self._default
        spec = self._specs[number]
        return Rule(
            verdict=spec.verdict,
            env=_encode(spec.env),
            where=spec.where,
            max_per_ip=spec.max_per_ip,
            rate_per_ip=spec.rate_per_ip,
            message=spec.message,
        )


def _keys(tls: TlsFacts) -> Iterator[tuple[TlsTrait, bytes]]:
    """Yield what rules may be for that a handshake has shown: names, and the domains that they are in."""
    if tls.sni is not None:
        name = tls.sni.lower()
        yield from (("sni", each) for each in (name, *suffixes(name)))
    for name in tls.names:
        yield "san", name
        if not _NO_HOST.search(name):
            yield from (("san", each) for each in suffixes(name))
    if tls.fingerprint is not None:
        yield "sha256", tls.fingerprint


class _NumbersByPlace:
    """Rule numbers by where a client is: its networks, its name and the domains it is in."""

    def __init__(self) -> None:
        self._networks = PrefixIndex()
        self._names: dict[bytes, int] = {}

    def add(self, pattern: Pattern, number: int) -> None:
        """Add a rule; numbers must not fall from one call to the next."""
        if isinstance(pattern.where, bytes):
            self._names.setdefault(pattern.where, number)
            return
        assert not isinstance(pattern.where, LocalProcess)
        for network in pattern.where:
            self._networks.add(network, number)

    def lowest(self, address: Network, host: bytes | None, default: int) -> int:
        """Return the lowest number of all that match, or default if that is lower."""
        number = min(default, self._networks.lowest(address, default))
        if host is None or not self._names:
            return number
        host = host.lower()
        names = (host, *suffixes(host))
        return min(number, *(self._names.get(name, default) for name in names))


def _wrong_variables(spec: RuleSpec) -> list[str]:
    return [
        f"{spec.where}: env: {name!r}: not a valid environment variable"
        for name, value in spec.env
        if not _possible(name, value)
    ]


def _possible(name: str, value: str) -> bool:
    try:
        _encode(((name, value),))
    except UnicodeEncodeError:
        return False
    return bool(name) and "=" not in name and "\0" not in name + value


def _encode(env: tuple[tuple[str, str], ...]) -> Environment:
    """Return the variables as bytes; those that were not UTF-8 in the file are as they were there."""
    return tuple(
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in env
    )
