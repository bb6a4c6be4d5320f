"""Host names as users write them: what /etc/dnsrewrite, LOCALDOMAIN or /etc/resolv.conf make of them.

A rule is one of

    =NAME:OTHER         the name NAME is OTHER
    *SUFFIX:OTHER       what ends in SUFFIX has OTHER in its place
    ?SUFFIX:OTHER       the same, unless there are dots or brackets before it
    -SUFFIX:OTHER       what ends in SUFFIX is OTHER as a whole

and A+B+C in what comes out stands for AB, and for AC if that has no address.
"""

from __future__ import annotations

import os

from ucspid.tools import resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

REWRITE_FILE = b"/etc/dnsrewrite"


def qualified(name: bytes, kind: int, rounds: int = len(resolver.ROUNDS)) -> list[bytes]:
    """Return the addresses of a type of the first name that may be meant and has any. Raises OSError."""
    for candidate in candidates(name, rules()):
        found = resolver.addresses_of(candidate, kind, rounds)
        if found:
            return found
    return []


def candidates(name: bytes, rewriting: list[bytes]) -> Iterator[bytes]:
    """Yield the names that are meant, in order. Pure."""
    for rule in rewriting:
        name = rewrite(name, rule)
    start, *suffixes = name.split(b"+")
    if not suffixes:
        yield name
    for suffix in suffixes:
        yield start + suffix


def rewrite(name: bytes, rule: bytes) -> bytes:
    """Return what a rule makes of a name. Pure."""
    kind, (suffix, colon, other) = rule[:1], rule[1:].partition(b":")
    if not colon or kind not in {b"?", b"=", b"*", b"-"} or not name.lower().endswith(suffix.lower()):
        return name
    before = name[: len(name) - len(suffix)]
    if kind == b"=" and before:
        return name
    if kind == b"?" and any(byte in before for byte in b".[]"):
        return name
    return other if kind == b"-" else before + other


def rules() -> list[bytes]:
    """Return the rules of this host and this user. Raises OSError if a file cannot be read."""
    lines = resolver.read_lines(os.environb.get(b"DNSREWRITEFILE", REWRITE_FILE))
    if lines is not None:
        return [line.rstrip(b" \t\r") for line in lines]
    local = os.environb.get(b"LOCALDOMAIN")
    if local is not None:
        return [_search(local.split(b" ")), b"*.:"]
    for line in resolver.read_lines(resolver.RESOLV_CONF) or []:
        if line.startswith((b"search ", b"search\t", b"domain ", b"domain\t")):
            return [_search(line[len(b"search ") :].replace(b"\t", b" ").split()), b"*.:"]
    host = os.uname().nodename.encode()
    return [*([b"?:" + host[host.index(b".") :]] if b"." in host else []), b"*.:"]


def _search(domains: list[bytes]) -> bytes:
    return b"?:" + b"".join(b"+." + domain for domain in domains)
