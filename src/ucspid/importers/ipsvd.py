"""Instructions of ipsvd: a folder with a file for each address or name, or the cdb made of it."""

import stat
from typing import NamedTuple

from ucspid.importers.description import AccessRule, Description, Imported, SourceLine
from ucspid.importers.host import Host, text_lines
from ucspid.importers.rule_sources import RankedRule, add_sources, alone, variables
from ucspid.rules.cdb import Cdb

_OCTETS = 4
_EVERYONE = "0"
_LAST = (2, 0)


class IpsvdInstruction(NamedTuple):
    """What is said of a client: kind is I for instructions, D to refuse it, X to execute something else."""

    name: str
    kind: str
    lines: list[str]
    place: SourceLine


def set_instructions(service: Imported, place: SourceLine, host: Host, path: str, *, limited: bool) -> None:
    """Set rules from a folder or a cdb; limited: they may change a limit per client."""
    if not (host.is_directory(path) or host.is_file(path)):
        service.cannot(place, f"there is no {path}, which says who may connect", "create it")
        return
    found = (
        _from_folder(host, path) if host.is_directory(path) else _from_cdb(host.read(path), host.label(path))
    )
    names = bool(service.settings.get("lookup", {}).get("remote_host"))
    service.remark(f"The rules are those of {path} when it was imported: changes of it have no effect.")
    add_sources(service, [_source(service, item, limited=limited) for item in found], names=names)


def import_instructions(path: str, host: Host, description: Description) -> None:
    """Add the instructions of a folder alone."""
    service = alone(host.label(path), path.rpartition("/")[2])
    found = _from_folder(host, path)
    add_sources(service, [_source(service, item, limited=True) for item in found])
    description.add(service)


def import_instructions_cdb(data: bytes, path: str, host: Host, description: Description) -> None:
    """Add the instructions of a cdb alone."""
    service = alone(host.label(path), path.rpartition("/")[2].partition(".")[0])
    found = _from_cdb(data, host.label(path))
    add_sources(service, [_source(service, item, limited=True) for item in found])
    description.add(service)


def is_ipsvd_cdb(data: bytes, label: str) -> bool:
    """Say whether each record of a cdb ends in the kind of an instruction."""
    kinds = {record.data[-1:] for record in Cdb(data, label).records()}
    return bool(kinds) and kinds <= {b"D", b"X", b"I"}


def is_folder(names: list[str]) -> bool:
    """Say whether the names in a directory are those of instructions."""
    return any(name == _EVERYONE or _is_address(name) for name in names)


def _is_address(name: str) -> bool:
    octets = name.split(".")
    return len(octets) <= _OCTETS and all(octet.isdecimal() and int(octet) <= 255 for octet in octets)  # noqa: PLR2004


def _from_folder(host: Host, path: str) -> list[IpsvdInstruction]:
    found: list[IpsvdInstruction] = []
    for name in host.entries(path):
        file = f"{path}/{name}"
        status = host.status(file)
        if name.startswith(".") or status is None or not stat.S_ISREG(status.st_mode):
            continue
        place = SourceLine(host.label(file))
        if status.st_mode & stat.S_IXUSR:
            found.append(IpsvdInstruction(name, "X", [], place))
        elif status.st_mode & stat.S_IRUSR:
            found.append(IpsvdInstruction(name, "I", host.lines(file), place))
        else:
            found.append(IpsvdInstruction(name, "D", [], place))
    return found


def _from_cdb(data: bytes, label: str) -> list[IpsvdInstruction]:
    return [
        IpsvdInstruction(
            record.key.decode("utf-8", "surrogateescape"),
            record.data[-1:].decode("latin-1"),
            text_lines(record.data[:-1].replace(b"\0", b"\n"), label),
            SourceLine(label),
        )
        for record in Cdb(data, label).records()
    ]


def _source(service: Imported, item: IpsvdInstruction, *, limited: bool) -> RankedRule:
    rule = AccessRule(allow=item.kind == "I")
    if item.kind == "X":
        service.note(
            item.place,
            f"clients of {item.name} got another program",
            "they are denied: give them a service of its own, or allow them",
        )
    for number, line in enumerate(item.lines, 1):
        _instruct(service, rule, line.rstrip(), SourceLine(item.place.file, number), limited=limited)
    return RankedRule(_rank(item.name), _patterns(item.name), rule, item.place)


def _rank(name: str) -> tuple[int, int]:
    if name == _EVERYONE:
        return _LAST
    return (0, -name.count(".")) if _is_address(name) else (1, -name.count("."))


def _patterns(name: str) -> list[str]:
    if name == _EVERYONE:
        return []
    octets = name.split(".")
    if not _is_address(name):
        return [name, f".{name}"]
    if len(octets) == _OCTETS:
        return [name]
    return [f"{'.'.join([*octets, '0', '0', '0'][:_OCTETS])}/{8 * len(octets)}"]


def _instruct(service: Imported, rule: AccessRule, line: str, place: SourceLine, *, limited: bool) -> None:
    mark, text = line[:1], line[1:]
    if mark == "+" and "=" in text:
        name, _, value = text.encode("utf-8", "surrogateescape").partition(b"=")
        rule.env |= variables([(name, value)])
    elif mark == "+":
        service.note(place, f"{line} removed a variable", "remove it from env: of the service")
    elif mark == "C":
        count, _, message = text.partition(":")
        if limited and count.isdecimal() and int(count):
            rule.max_per_ip = min(int(count), 65536)
            rule.message = unescaped(message) or None
        elif limited:
            rule.max_per_ip = 65536
    elif mark == "=" and text != _EVERYONE:
        rule.allow = False
        service.note(
            place,
            f"{line} allowed the address that a name had at that moment",
            "they are denied: allow networks",
        )
    elif line and mark not in {"#", "="}:
        service.remark(f"{place}: {line} is no instruction: tcpsvd ignores it.")


def unescaped(text: str) -> str:
    r"""Return a message with \n, \r and \\ as what they mean."""
    pieces = text.split("\\\\")
    return "\\".join(piece.replace("\\n", "\n").replace("\\r", "\r") for piece in pieces)
