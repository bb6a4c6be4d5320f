"""The command line of tcpserver, read as ucspi-tcp 0.88 reads it. Pure.

CommandLine are single letters, which may stand together and with their argument (-vRl0), until the first word
that is none. A later one overrides an earlier one. What tcpserver does not have are long options: the
original takes them for the end of the options, so that no command line in use has any.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from ucspid.plan import Rate
from ucspid.records import dataclass, field

USAGE = (
    "tcpserver: usage: tcpserver [ -1UXpPhHrRoOdDqQv ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] "
    "[ -g gid ] [ -u uid ] [ -b backlog ] [ -l localname ] [ -t timeout ] host port program"
)

QUIET, ERRORS, VERBOSE = 0, 1, 2
"""How much is said on descriptor 2: nothing (-q), errors (-Q), all (-v)."""

MAX_PORT = 0xFFFF
MAX_ID = 0xFFFFFFFF
_WORD = 0xFFFFFFFFFFFFFFFF
_RATE = re.compile(r"([1-9][0-9]{0,6})/(s|sec|min|h|hour|d|day)")
_PERIODS = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class UsageError(Exception):
    """The command line is wrong: what is said before the usage, if anything."""


@dataclass(slots=True)
class CommandLine:
    """What a command line asks for; the defaults are tcpserver's.

    uid and gid are 0 where they are not to change. local_name None looks it up. host and port are None,
    and program is empty, where the words have not sufficed.
    """

    verbosity: int = ERRORS
    limit: int = 40
    backlog: int = 20
    rules: str | None = None
    allow_missing_rules: bool = False
    banner: str = ""
    uid: int = 0
    gid: int = 0
    print_port: bool = False
    local_name: str | None = None
    remote_host: bool = True
    paranoid: bool = False
    ident: bool = True
    ident_timeout: int = 26
    keep_ip_options: bool = False
    nodelay: bool = False
    ipv4: bool = False
    ipv6: bool = False
    interface: str | None = None
    max_per_ip: int | None = None
    rate_per_ip: str | None = None
    rate: str | None = None
    refuse_message: str = ""
    control: str | None = None
    print_config: bool = False
    host: str | None = None
    port: str | None = None
    program: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> CommandLine:
    """Return what the words after the name ask for; environ is for -U. Raises UsageError."""
    options = CommandLine()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            _long(options, word, rest)
        else:
            _letters(options, word[1:], rest, environ)
    options.host, options.port = (*rest[:2], None, None)[:2]
    options.program = rest[2:]
    return options


def bucket(rate: str | None) -> Rate | None:
    """Return the rate that is written as COUNT/PERIOD, as the configuration file has it."""
    if rate is None:
        return None
    found = _RATE.fullmatch(rate)
    assert found is not None  # parse() has seen to it
    count = int(found[1])
    return Rate(count=count, seconds=_PERIODS[found[2]], burst=count)


def number(text: str) -> int:
    """Return the digits that a text begins with as a number of the machine; 0 if there are none."""
    found = re.match("[0-9]*", text)
    assert found is not None
    return int(found[0] or "0") & _WORD


def _letters(options: CommandLine, letters: str, rest: list[str], environ: Mapping[str, str]) -> None:
    """Take the letters of one word; the argument of the last is the rest of the word, or the next one."""
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in _FLAGS:
            for name, value in _FLAGS[letter].items():
                setattr(options, name, value)
        elif letter == "U":
            options.uid = number(environ["UID"]) if "UID" in environ else options.uid
            options.gid = number(environ["GID"]) if "GID" in environ else options.gid
        elif letter in _WITH_ARGUMENT:
            if not letters and not rest:
                raise UsageError(f"option requires an argument -- {letter}")
            argument = letters or rest.pop(0)
            name, convert = _WITH_ARGUMENT[letter]
            setattr(options, name, convert(argument))
            return
        else:
            raise UsageError(f"illegal option -- {letter}")


def _long(options: CommandLine, word: str, rest: list[str]) -> None:
    name, equals, argument = word[2:].partition("=")
    if name == "print-config" and not equals:
        options.print_config = True
        return
    if name not in _LONG:
        raise UsageError(f"illegal option -- {name}")
    if not equals:
        if not rest:
            raise UsageError(f"option requires an argument -- {name}")
        argument = rest.pop(0)
    attribute, convert = _LONG[name]
    try:
        setattr(options, attribute, convert(argument))
    except ValueError as problem:
        raise UsageError(f"{name}: {problem}") from None


def _positive(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text} is not a number of connections")
    return int(text)


def _rate(text: str) -> str:
    if not _RATE.fullmatch(text):
        raise ValueError(f"{text} is not a rate: write COUNT/s, COUNT/min, COUNT/h or COUNT/d")
    return text


_FLAGS: dict[str, dict[str, bool | int]] = {
    "q": {"verbosity": QUIET},
    "Q": {"verbosity": ERRORS},
    "v": {"verbosity": VERBOSE},
    "d": {"nodelay": False},
    "D": {"nodelay": True},
    "h": {"remote_host": True},
    "H": {"remote_host": False},
    "r": {"ident": True},
    "R": {"ident": False},
    "p": {"paranoid": True},
    "P": {"paranoid": False},
    "o": {"keep_ip_options": True},
    "O": {"keep_ip_options": False},
    "X": {"allow_missing_rules": True},
    "1": {"print_port": True},
    "4": {"ipv4": True},
    "6": {"ipv6": True},
}

_WITH_ARGUMENT: dict[str, tuple[str, Callable[[str], str | int]]] = {
    "b": ("backlog", number),
    "B": ("banner", str),
    "c": ("limit", number),
    "g": ("gid", number),
    "I": ("interface", str),
    "l": ("local_name", str),
    "t": ("ident_timeout", number),
    "u": ("uid", number),
    "x": ("rules", str),
}

_LONG: dict[str, tuple[str, Callable[[str], str | int]]] = {
    "max-per-ip": ("max_per_ip", _positive),
    "rate-per-ip": ("rate_per_ip", _rate),
    "rate": ("rate", _rate),
    "refuse-message": ("refuse_message", str),
    "control": ("control", str),
}

LETTERS = "".join(sorted([*_FLAGS, "U", *(f"{letter}:" for letter in _WITH_ARGUMENT)]))
"""All letters, with a colon after those that have an argument."""
WORDS = frozenset({"print-config", *_LONG})
"""All long options."""
