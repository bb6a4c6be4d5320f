"""inetd.conf: that of OpenBSD's and Debian's inetd, with the fields that FreeBSD adds.

[ADDRESS,…:]SERVICE TYPE PROTOCOL[,BUFFERS] wait|nowait[.MAX] USER[.GROUP] PROGRAM ARGV0 ARGUMENT…
"""

import re
from typing import NamedTuple

from ucspid.importers.bounds import MAX_WORDS
from ucspid.importers.description import UNLIMITED, Description, Imported, SourceLine
from ucspid.importers.endpoints import listen_on
from ucspid.importers.host import Host
from ucspid.importers.identity import run_as
from ucspid.importers.inet_programs import INTERNAL, USER

DEFAULT_RATE = 256
"""Starts of a service in a minute, inetd -R."""

_ADDRESSES = {"tcp": "*", "tcp46": "*", "tcp4": "0.0.0.0", "tcp6": "::"}  # noqa: S104
_FIELDS = 6
_WAIT = re.compile(r"(wait|nowait)(?:\.([0-9]{1,9})|((?:/[0-9]{0,9}){1,3}))?")
_MAX_RATE = 1_000_000
REMARK = (
    "As under inetd, descriptor 2 is the client's socket; with stderr: log, what is written there is logged."
)


class InetdEntry(NamedTuple):
    """A line of the file, with those that continue it."""

    place: SourceLine
    words: list[str]
    comments: list[str]


def import_inetd(lines: list[str], path: str, host: Host, description: Description) -> None:
    """Add the services of an inetd.conf."""
    entries, description.trailing[len(description.trailing) :] = read(lines, host.label(path))
    addresses = ["*"]
    for entry in entries:
        first = entry.words[0]
        if len(entry.words) == 1 and first.endswith(":"):
            addresses = first[:-1].split(",")
            continue
        if len(entry.words) < _FIELDS:
            description.note(
                entry.place,
                f"{len(entry.words)} fields, where {_FIELDS} or more are expected: inetd does not start it",
                "complete the line or remove it",
            )
            continue
        description.remark(REMARK)
        description.add(_service(entry, addresses, host))


def read(lines: list[str], label: str) -> tuple[list[InetdEntry], list[str]]:
    """Return the entries of a file, and the comments after the last of them."""
    entries: list[InetdEntry] = []
    comments: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            comments.append(line[1:].removeprefix(" "))
        elif line[:1].isspace() and entries and not comments:
            entries[-1].words.extend(line.split()[: MAX_WORDS - len(entries[-1].words)])
        elif words := line.split()[:MAX_WORDS]:
            entries.append(InetdEntry(SourceLine(label, number), words, comments))
            comments = []
    return entries, comments


def _service(entry: InetdEntry, default: list[str], host: Host) -> Imported:
    place = entry.place
    addresses, name = _split(entry.words[0])
    kind, protocol, wait, user, program = entry.words[1:_FIELDS]
    service = Imported(f"tcp-{name}" if name.isdecimal() else name, place, comments=entry.comments)
    protocol, _, buffers = protocol.partition(",")
    if buffers:
        service.note(
            place, f"{buffers} set the sizes of the socket's buffers", "set net.ipv4.tcp_rmem and tcp_wmem"
        )
    if kind != "stream" or protocol not in _ADDRESSES:
        service.settings["program"] = entry.words[_FIELDS - 1 :]
        service.cannot(place, f"{kind} {protocol} is not TCP", "keep inetd for this service")
        return service
    for address in addresses or default:
        listen_on(service, place, host, _ADDRESSES[protocol] if address == "*" else address, name)
    service.settings["stderr"] = "client"
    _wait(service, place, wait)
    if program == "internal":
        _internal(service, place, name)
    else:
        _program(service, entry, user, host)
    return service


def _split(field: str) -> tuple[list[str], str]:
    """Return the addresses in front of a service, and its name."""
    head, colon, name = field.rpartition(":")
    addresses = [address.strip("[]") for address in head.split(",")] if colon else []
    return addresses, name


def _wait(service: Imported, place: SourceLine, text: str) -> None:
    found = _WAIT.fullmatch(text)
    if found is None:
        service.cannot(place, f"{text} is neither wait nor nowait", "correct the line")
        return
    if found[1] == "wait":
        service.cannot(
            place,
            "wait handed the listening socket to the program",
            "keep inetd for this service, or run its own daemon",
        )
    settings = service.settings
    settings["max_connections"] = UNLIMITED
    if found[3] is None:
        count = int(found[2] or DEFAULT_RATE)
        settings["on_full"] = "refuse"
        if 0 < count <= _MAX_RATE:
            settings["rate"] = f"{count}/min"
        return
    limits = [int(number or 0) for number in found[3][1:].split("/")] + [0, 0]
    if limits[0]:
        settings["max_connections"] = min(limits[0], 65536)
    if limits[1]:
        settings["rate_per_ip"] = f"{min(limits[1], _MAX_RATE)}/min"
    if limits[2]:
        settings["max_per_ip"] = min(limits[2], 65536)
    if any(limits[1:]):
        settings["ipv6_prefix"] = 128


def _internal(service: Imported, place: SourceLine, name: str) -> None:
    service.settings["user"] = USER
    if name in INTERNAL:
        service.settings["program"] = INTERNAL[name]
        service.remark(f"{name} was a part of inetd; this program does the same.")
    else:
        service.settings["program"] = ["internal"]
        service.cannot(place, f"{name} was a part of inetd", "find a program that does it, or go without")


def _program(service: Imported, entry: InetdEntry, user: str, host: Host) -> None:
    program, arguments = entry.words[_FIELDS - 1], entry.words[_FIELDS:]
    service.settings["program"] = [program, *arguments[1:]]
    service.daemon = (arguments or [program])[0].rpartition("/")[2]
    if arguments and arguments[0] not in {program, program.rpartition("/")[2]}:
        service.settings["argv0"] = arguments[0]
    if not host.has_program(program):
        service.cannot(entry.place, f"there is no program {program}", "install it, or remove the line")
    user, _, login_class = user.partition("/")
    if login_class:
        service.note(
            entry.place,
            f"the login class {login_class} set resource limits",
            "set rlimits: and umask: as it did",
        )
    name, group = user, None
    if host.accounts.user(user) is None:
        name, group = next(
            ((user.partition(mark)[0], user.partition(mark)[2]) for mark in ":." if mark in user),
            (user, None),
        )
    run_as(service, entry.place, host, name, group)
