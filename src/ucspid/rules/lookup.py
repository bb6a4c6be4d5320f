"""Tables of tcprules rules, from a text or from a compiled file, and the order of looking up.

The first of these keys that has a rule decides, no other is looked at; without one, the client
is allowed: INFO@IP, INFO@=HOST, IP, =HOST, the networks that the address is in (the longest
prefix first), =.SUFFIX (the longest first), = (any host name), the empty key.
"""

from array import array
from collections.abc import Callable, Iterable

from ucspid.errors import ConfigError
from ucspid.net.address import Network, parse_address, plain
from ucspid.net.unix import UnixClient
from ucspid.policy.client_facts import NO_TLS, TlsFacts
from ucspid.rules.bounds import too_large
from ucspid.rules.cdb import Cdb, CdbError
from ucspid.rules.keys import after_prefixes, before_prefixes, parse
from ucspid.rules.prefixes import PrefixIndex
from ucspid.rules.rule import Environment, Rule, Verdict
from ucspid.rules.tcprules import TextRule, parse_text

_DEFAULT = Rule(verdict="allow", env=(), where="default")
_Action = tuple[Verdict, Environment]


class RuleTable:
    """A tcprules file in memory (the protocol Rules); of rules with the same key the first holds.

    Looking up takes one step for each key that the client has (at most one for each label of its
    name) and one for each prefix length in the file, however many rules there are.
    """

    def __init__(self, path: str) -> None:
        """Make an empty table; path is for Rule.where."""
        self._path = path
        self._keys: list[bytes] = []
        self._lines = array("L")
        self._actions: list[_Action] = []
        self._exact: dict[bytes, int] = {}
        self._prefixes = PrefixIndex()
        self._host_keys = False
        self._info_and_host_keys = False
        self._info_addresses: set[bytes] = set()
        self._known: dict[bytes, _Action] = {}
        self._variables: set[bytes] = set()

    def add(self, record: TextRule) -> None:
        """Add a rule after the others. Raises ValueError if its data is garbage or too large."""
        action = self._known.get(record.data)
        if action is None:
            action = self._known[record.data] = decode(record.data)
            if why := too_large(action[1]):
                raise ValueError(why)
            self._variables.update(name for name, _value in action[1])
        number = len(self._keys)
        self._keys.append(record.key)
        self._lines.append(record.line)
        self._actions.append(action)
        if isinstance(record.target, Network):
            self._prefixes.add(record.target, number)
        else:
            self._exact.setdefault(record.target, number)
            self._note_needs(record.target)

    def _note_needs(self, key: bytes) -> None:
        if key.startswith(b"="):
            self._host_keys = True
        if b"@=" in key:
            self._info_and_host_keys = True
        if b"@" in key:
            self._info_addresses.add(key.rpartition(b"@")[2])

    def __len__(self) -> int:
        """Return the number of rules."""
        return len(self._keys)

    def variables(self) -> frozenset[bytes]:
        """Return the names of all variables that rules set."""
        return frozenset(self._variables)

    def match(
        self,
        ip: str,
        host: bytes | None = None,
        info: bytes | None = None,
        tls: TlsFacts = NO_TLS,  # noqa: ARG002 - tcprules knows nothing of it
    ) -> Rule:
        """Return the rule for this client: allow with nothing set if none matches.

        Only the rule for everyone matches a client over a Unix socket: keys are addresses and names.
        """
        if ":" in ip and isinstance(ip, UnixClient):
            number = self._first(after_prefixes(None))
            return _DEFAULT if number is None else self._rule(number)
        number = self._first(before_prefixes(plain(ip).encode(), host, info))
        if number is None:
            number = self._prefixes.longest(parse_address(ip))
        if number is None:
            number = self._first(after_prefixes(host))
        return _DEFAULT if number is None else self._rule(number)

    def decide_early(self, ip: str) -> Rule | None:
        """Return the rule that match() gives for every host, info and tls, None if that depends on them."""
        if ":" in ip and isinstance(ip, UnixClient):
            return self.match(ip)
        address = plain(ip).encode()
        if self._info_and_host_keys or address in self._info_addresses:
            return None
        if self._host_keys and address not in self._exact:
            return None
        return self.match(ip)

    def _first(self, keys: Iterable[bytes]) -> int | None:
        for key in keys:
            number = self._exact.get(key)
            if number is not None:
                return number
        return None

    def _rule(self, number: int) -> Rule:
        verdict, env = self._actions[number]
        line = self._lines[number]
        where = f"{self._path}:{line}" if line else self._path
        return Rule(verdict=verdict, env=env, where=where, key=self._keys[number])


def decode(data: bytes) -> tuple[Verdict, Environment]:
    """Return what the data of a rule says: ValueError if it is not as tcprules writes it."""
    verdict: Verdict = "allow"
    env: list[tuple[bytes, bytes]] = []
    *parts, rest = data.split(b"\0")
    if rest:
        raise ValueError("the data of a rule does not end with a NUL byte")
    for part in parts:
        name, equals, value = part[1:].partition(b"=")
        if part == b"D":
            verdict = "deny"
        elif part.startswith(b"+") and name and equals:
            env.append((name, value))
        else:
            raise ValueError(f"{part[:40]!r} in the data of a rule is neither D nor +NAME=VALUE")
    return verdict, tuple(env)


def table_from_text(text: bytes, path: str) -> RuleTable:
    """Return the table of a tcprules text. Raises ConfigError."""
    table = RuleTable(path)
    for record in parse_text(text, path):
        try:
            table.add(record)
        except ValueError as error:
            raise ConfigError([f"{path}:{record.line}: {error}"]) from None
    return table


def table_from_cdb(content: bytes, path: str) -> RuleTable:
    """Return the table of a compiled file. Raises CdbError."""
    table = RuleTable(path)
    for offset, key, data in Cdb(content, path).records():
        try:
            table.add(TextRule(key, parse(key), data, 0))
        except ValueError as error:
            raise CdbError(path, offset, str(error)) from None
    return table


PARSERS: dict[str, Callable[[bytes, str], RuleTable]] = {"text": table_from_text, "cdb": table_from_cdb}
"""By plan.RulesFile.kind: what makes a table of the content of a file, given its path for messages."""
