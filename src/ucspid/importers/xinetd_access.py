"""only_from and no_access of xinetd.conf, as access rules.

A client on no_access is refused, also where only_from names it more closely: so xinetd does it,
whatever its manual says.
"""

import re
from ipaddress import ip_address, ip_network

from ucspid.importers.description import AccessRule, Imported, SourceLine
from ucspid.importers.rule_sources import checked
from ucspid.importers.xinetd_attributes import XinetdAttributes
from ucspid.rules.patterns import parse_pattern

_FACTORIZED = re.compile(r"((?:[0-9]{1,3}\.){0,3})\{([0-9,]+)\}((?:\.0)*)")
_OCTETS = 4


def set_access(service: Imported, attributes: XinetdAttributes, message: str | None) -> None:
    """Set the rules; message is what a refused client is sent."""
    denied, allowed = (_patterns(service, attributes, name) for name in ("no_access", "only_from"))
    if denied:
        service.add_rule(AccessRule(allow=False, patterns=denied, message=message))
    if "only_from" in attributes:
        if allowed:
            service.add_rule(AccessRule(allow=True, patterns=allowed))
        if message:
            service.add_rule(AccessRule(allow=False, message=message))
        service.settings["default_action"] = "deny"
    if any(isinstance(parse_pattern(pattern).where, bytes) for pattern in [*denied, *allowed]):
        service.need_lookup(remote_host=True)


def _patterns(service: Imported, attributes: XinetdAttributes, name: str) -> list[str]:
    if name not in attributes:
        return []
    found: list[str] = []
    place = attributes[name].place
    for word in attributes.words(name):
        try:
            found += [pattern for pattern in patterns(word) if pattern not in found]
        except ValueError:
            _refuse(service, place, name, word)
    return found


def _refuse(service: Imported, place: SourceLine, name: str, word: str) -> None:
    what = f"{name} names {word}, which is neither an address nor a host's name"
    advice = "write its network in the rules"
    if name == "no_access":
        service.cannot(place, what, advice)
    else:
        service.note(place, what, advice)


def patterns(word: str) -> list[str]:
    """Return what xinetd's form of an address stands for. Raises ValueError."""
    if found := _FACTORIZED.fullmatch(word):
        return [_padded(f"{found[1]}{number}{found[3]}") for number in found[2].split(",")]
    if "/" in word:
        return [_written(str(ip_network(word, strict=False)))]
    if re.fullmatch(r"[0-9.]+", word):
        return [_octets(word)]
    if ":" in word:
        address = ip_address(word)
        return [str(address) if int(address) else "::/0"]
    checked(word)
    return [word.lower()]


def _octets(word: str) -> str:
    """Return an address whose last octets, where they are 0, stand for all numbers."""
    packed = ip_address(word).packed
    length = 8 * len(packed.rstrip(b"\0"))
    return word if length == 8 * _OCTETS else str(ip_network((packed, length)))


def _padded(text: str) -> str:
    octets = text.split(".")
    if len(octets) > _OCTETS:
        raise ValueError(text)
    return _octets(".".join([*octets, "0", "0", "0"][:_OCTETS]))


def _written(network: str) -> str:
    """Return a network as rules write it: without a prefix length if it is one address."""
    return network.removesuffix("/32") if ":" not in network else network.removesuffix("/128")
