"""What access rules and lookups write in forms of their own."""

import re
from typing import Annotated, Any, ClassVar, Self

from msgspec import Meta

from ucspid.config.forms import Account, Duration, Form, Misfit, Path
from ucspid.config.positions import Scalar
from ucspid.rules.patterns import LocalProcess, parse_pattern

MAX_CONNECTIONS = 65536
MAX_LOOKUP_TIME = 60
MAX_NAME = 253
"""Characters of the longest host name as text (RFC 1035, 2.3.4)."""

MAX_OCTET = 255

Count = Annotated[int, Meta(ge=1, le=MAX_CONNECTIONS)]
"""Connections at once."""

_ACCOUNT = re.compile(r"(uid|gid):([^0-9].*)")
_NAME = re.compile(rf"[!-~]{{1,{MAX_NAME}}}")
_OCTETS = re.compile(r"(?:[0-9]{1,3}\.){1,3}")
_GROUPS = re.compile(r"(?:[0-9A-Fa-f]{1,4}:){1,7}")
_RANGE = re.compile(r"(?:[0-9]{1,3}\.){0,3}[0-9]{1,3}-[0-9]{1,3}\.?")


def in_words_of_tcprules(text: str) -> str | None:
    """Return what to write for an address as tcprules writes it; None if it is no such address."""
    user, at, place = text.rpartition("@")
    if _RANGE.fullmatch(place):
        return f"{text} is a range of tcprules: write its networks"
    if not (meaning := _meaning(place)):
        return None
    return f"{text} is tcprules' form: here it is {user}{at}{meaning}"


def _meaning(place: str) -> str | None:
    if _OCTETS.fullmatch(place):
        octets = place.rstrip(".").split(".")
        padded = ".".join([*octets, "0", "0", "0"][:4])
        return f"{padded}/{8 * len(octets)}" if all(int(octet) <= MAX_OCTET for octet in octets) else None
    if _GROUPS.fullmatch(place):
        return f"{place}:/{16 * place.count(':')}"
    return place[1:] if place.startswith("=") and _NAME.fullmatch(place[1:]) else None


class ClientPattern(Form, str):
    """Whom a rule is for; the traits say what it depends on besides the client's address.

    That is its name, its ident user, its TLS handshake, its certificate in that, or what process it is.
    account is the user or the group of which the name is given, and not the number.
    """

    __slots__ = ("account", "certificates", "handshakes", "names", "processes", "users")
    TRAITS: ClassVar = ("certificates", "handshakes", "names", "processes", "users")
    names: bool
    users: bool
    handshakes: bool
    certificates: bool
    processes: bool
    account: tuple[str, Account] | None
    expects = (
        "an address, a network, a host name, a .domain or *, each possibly after user@; "
        "sni:NAME, san:NAME, sha256:HEX, unix:, uid:USER or gid:GROUP"
    )
    json_schema: ClassVar[dict[str, Any]] = {"type": "string", "minLength": 1}

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the pattern."""
        if not isinstance(value, str):
            raise Misfit
        if meant := in_words_of_tcprules(value):
            raise Misfit(meant)
        named = _ACCOUNT.fullmatch(value)
        try:
            parsed = parse_pattern(value if named is None else f"{named[1]}:0")
        except ValueError as error:
            raise Misfit(f'"{value}": {error}') from None
        pattern = cls(value)
        pattern.account = None if named is None else (named[1], Account.parse(named[2]))
        pattern.processes = isinstance(parsed.where, LocalProcess)
        pattern.names = isinstance(parsed.where, bytes) and parsed.trait is None
        pattern.handshakes = parsed.trait is not None
        pattern.certificates = parsed.trait in ("san", "sha256")
        pattern.users = parsed.user is not None
        return pattern


class RulesPath(Path):
    """The path of a file of rules, where a list of rules may stand too."""

    expects = "a list of rules or the path of a tcprules file"


class Said(Form):
    """A word that is there or not: alone in braces, or with yes after it."""

    expects = "yes, or no value"
    json_schema: ClassVar[dict[str, Any]] = {"enum": [True, None]}
    as_written = False

    def __init__(self, *, said: bool) -> None:
        """Keep whether the word is there."""
        self.said = said

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return that the word is there; what else is written after it is a mistake."""
        if isinstance(value, str):
            raise Misfit("takes only yes, or no value: list the clients under from")
        if value is False:
            raise Misfit("takes only yes: the opposite of allow is deny")
        if value is not None and value is not True:
            raise Misfit
        return cls(said=True)


class LocalHost(Form):
    """The name of the local host that programs get: one given, one looked up, or none."""

    expects = "a name, yes (look it up) or no"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "boolean"},
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": f"^{_NAME.pattern}$"},
        ]
    }
    as_written = False

    def __init__(self, name: str | None, *, look_up: bool) -> None:
        """Keep the name, or whether to look it up."""
        self.name = name
        self.look_up = look_up

    @classmethod
    def parse(cls, value: Scalar) -> Self:
        """Return the name; 0 is one too: tcpserver -l0 is what many have."""
        if isinstance(value, bool):
            return cls(None, look_up=value)
        if not isinstance(value, str | int) or not _NAME.fullmatch(str(value)):
            raise Misfit
        return cls(str(value), look_up=False)

    def written(self) -> str | bool:
        """Return the form that the file uses."""
        return self.look_up if self.name is None else self.name


class LookupTime(Duration):
    """The time that all lookups for a connection have together."""

    expects = "a time from 100ms to 60s such as 500ms or 5s (a bare number is seconds)"
    json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "number", "minimum": 0.1, "maximum": MAX_LOOKUP_TIME},
            Duration.json_schema["anyOf"][1],
        ]
    }
    least = 0.1
    most = MAX_LOOKUP_TIME
