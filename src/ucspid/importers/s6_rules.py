"""Access rules of s6-networking: a directory for each network or name, or the cdb made of them."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import NamedTuple

from ucspid.errors import ConfigError
from ucspid.importers.bounds import MAX_DEPTH
from ucspid.importers.description import AccessRule, Description, Imported, SourceLine
from ucspid.importers.host import Host
from ucspid.importers.rule_sources import RankedRule, add_sources, alone, variables, written
from ucspid.rules.cdb import Cdb

FOLDERS = ("ip4", "ip6", "reversedns", "uid", "gid")
_HEAD = 5
"""Bytes of a record of an allowing rule beside its environment and its program."""


class S6Rule(NamedTuple):
    """What is said of a key such as ip4/192.0.2.0_24; variables with None are removed."""

    key: str
    allow: bool
    env: list[tuple[bytes, bytes | None]]
    program: bool
    place: SourceLine


def set_s6_rules(service: Imported, place: SourceLine, host: Host, path: str) -> None:
    """Set the rules from a directory or a cdb. Raises ConfigError for a cdb that is none."""
    if host.is_directory(path):
        found = _from_folder(host, path)
    elif host.is_file(path):
        found = _from_cdb(host.read(path), host.label(path))
    else:
        service.cannot(place, f"there is no {path}, without which nobody may connect", "create it")
        return
    lookup = service.settings.get("lookup", {})
    service.remark(f"The rules are those of {path} when it was imported: changes of it have no effect.")
    _add(service, found, names=bool(lookup.get("remote_host")))


def import_s6_rules(path: str, host: Host, description: Description) -> None:
    """Add the rules of a directory alone."""
    service = alone(host.label(path), path.rpartition("/")[2])
    _add(service, _from_folder(host, path), names=True)
    description.add(service)


def import_s6_cdb(data: bytes, path: str, host: Host, description: Description) -> None:
    """Add the rules of a cdb alone."""
    service = alone(host.label(path), path.rpartition("/")[2].partition(".")[0])
    _add(service, _from_cdb(data, host.label(path)), names=True)
    description.add(service)


def is_s6_cdb(data: bytes, label: str) -> bool:
    """Say whether a cdb has keys of s6's rules."""
    return any(
        record.key.partition(b"/")[0].decode("latin-1") in FOLDERS for record in Cdb(data, label).records()
    )


def _from_folder(host: Host, path: str) -> Iterator[S6Rule]:
    for kind in FOLDERS:
        if not host.is_directory(f"{path}/{kind}"):
            continue
        for name in host.entries(f"{path}/{kind}"):
            folder = f"{path}/{kind}/{name}"
            if not host.is_directory(folder):
                continue
            names = set(host.entries(folder))
            if not names & {"allow", "deny"}:
                continue
            env = _variables(host, f"{folder}/env") if host.is_directory(f"{folder}/env") else []
            yield S6Rule(
                f"{kind}/{name}", "allow" in names, env, "exec" in names, SourceLine(host.label(folder))
            )


def _variables(host: Host, folder: str) -> list[tuple[bytes, bytes | None]]:
    """Return the variables that s6-envdir would set: up to the last newline, a newline for each NUL."""
    found: list[tuple[bytes, bytes | None]] = []
    for name in host.entries(folder):
        if not name.startswith(".") and host.is_file(f"{folder}/{name}"):
            data = host.read(f"{folder}/{name}")
            value = data.partition(b"\n")[0].rstrip(b" \t").replace(b"\0", b"\n") if data else None
            found.append((name.encode("utf-8", "surrogateescape"), value))
    return found


def _from_cdb(data: bytes, label: str) -> Iterator[S6Rule]:
    for record in Cdb(data, label).records():
        key = record.key.decode("utf-8", "surrogateescape")
        place = SourceLine(label)
        if record.data[:1] == b"D":
            yield S6Rule(key, allow=False, env=[], program=False, place=place)
        elif record.data[:1] == b"A" and len(record.data) >= _HEAD:
            length = int.from_bytes(record.data[1:3], "big")
            env = record.data[3 : 3 + length]
            program = record.data[_HEAD + length :]
            if len(record.data) < _HEAD + length:
                raise ConfigError(
                    [f"{label}: byte {record.offset}: the record is shorter than its environment"]
                )
            pairs = [item.partition(b"=") for item in env.split(b"\0") if item]
            found = [(name, value if equals else None) for name, equals, value in pairs]
            yield S6Rule(key, allow=True, env=found, program=bool(program), place=place)


def _add(service: Imported, found: Iterator[S6Rule], *, names: bool) -> None:
    sources = [source for item in found if (source := _source(service, item)) is not None]
    service.settings["default_action"] = "deny"
    add_sources(service, sources, names=names)


def _source(service: Imported, item: S6Rule) -> RankedRule | None:
    kind, _, name = item.key.partition("/")
    env = variables((name_, value) for name_, value in item.env if value is not None)
    removed = [name_.decode("utf-8", "replace") for name_, value in item.env if value is None]
    rule = AccessRule(
        allow=item.allow and not item.program, env=env if item.allow and not item.program else {}
    )
    if item.allow and removed:
        service.note(item.place, f"env removed {', '.join(removed)}", "remove them from env: of the service")
    if item.allow and item.program:
        service.note(
            item.place,
            f"clients of {item.key} got another program",
            "they are denied: give them a service of its own, or allow them",
        )
    if kind in {"ip4", "ip6"}:
        return _network(service, item, rule, name)
    if kind == "reversedns":
        if name == "@":
            return RankedRule((MAX_DEPTH, 0), [], rule, item.place)
        return RankedRule((2, -name.count(".")), [name, f".{name}"], rule, item.place)
    service.remark(f"{item.place}: {item.key} is for Unix sockets.")
    return None


def _network(service: Imported, item: S6Rule, rule: AccessRule, name: str) -> RankedRule | None:
    address, _, length = name.rpartition("_")
    try:
        network = ip_network((address, int(length)))
    except ValueError:
        service.remark(f"{item.place}: {item.key} is no network: it matched nobody.")
        return None
    return RankedRule((1, -network.prefixlen), [written(str(network))], rule, item.place)
