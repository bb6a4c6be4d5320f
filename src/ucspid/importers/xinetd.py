"""xinetd.conf, with what it includes: services as xinetd starts them."""

import re
from collections.abc import Callable

from ucspid.config.forms import Misfit
from ucspid.config.forwards import ForwardTarget
from ucspid.importers.banners import message_of
from ucspid.importers.description import UNLIMITED, Description, Imported
from ucspid.importers.endpoints import listen_on
from ucspid.importers.host import Host
from ucspid.importers.identity import run_as, set_group
from ucspid.importers.inet_programs import INTERNAL, USER
from ucspid.importers.limits import set_limit
from ucspid.importers.xinetd_access import set_access
from ucspid.importers.xinetd_attributes import DEFAULTS, XinetdAttributes, with_defaults
from ucspid.importers.xinetd_flags import set_flags, set_type
from ucspid.importers.xinetd_syntax import XinetdEntry, XinetdReader

MAX_COUNT = 65536
_HOST_AND_PORT = 2
_CPS = ["50", "10"]
"""What xinetd has without cps."""
_LIMITS = {"as": "as", "cpu": "cpu", "data": "data", "rss": "rss", "stack": "stack", "files": "nofile"}
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20}
_SIZE = re.compile(r"([0-9]{1,15})([kKmM]?)")
_REMARKS = (
    "As under xinetd, descriptor 2 is the client's socket; with stderr: log, what it gets is logged.",
    "xinetd set REMOTE_HOST to the client's address: here TCPREMOTEIP has it.",
    "xinetd passed its own environment on where there was no passenv: here inherit_env names what is passed.",
    "What log_type, log_on_success and log_on_failure chose, the daemon logs for all services.",
)


def import_xinetd(lines: list[str], path: str, host: Host, description: Description) -> None:
    """Add the services of a file and of those that it includes."""
    reader = XinetdReader(host, description)
    reader.take(lines, path)
    add_services(reader, host, description)


def import_xinetd_directory(path: str, host: Host, description: Description) -> None:
    """Add the services of a directory such as /etc/xinetd.d."""
    reader = XinetdReader(host, description)
    reader.read_directory(path)
    add_services(reader, host, description)


def add_services(reader: XinetdReader, host: Host, description: Description) -> None:
    """Add the services of entries."""
    found: list[tuple[XinetdEntry, XinetdAttributes]] = []
    defaults = XinetdAttributes(DEFAULTS)
    for entry in reader.entries:
        if entry.kind == "defaults":
            defaults.apply(entry.attributes, cumulative=True)
        else:
            found.append((entry, XinetdAttributes(DEFAULTS, defaults)))
    for line, why in defaults.ignored:
        description.note(line.place, f"{why}: xinetd ignores it", "remove the line")
    for entry, so_far in found:
        description.add(_service(entry, with_defaults(entry, so_far, defaults), defaults, host))
    for remark in _REMARKS if found else ():
        description.remark(remark)
    description.trailing += reader.comments


def _service(
    entry: XinetdEntry, attributes: XinetdAttributes, defaults: XinetdAttributes, host: Host
) -> Imported:
    name = attributes.first("id", entry.name)
    service = Imported(name, entry.place, comments=entry.comments)
    for line, why in attributes.ignored:
        service.remark(f"{line.place}: {why}: xinetd ignores the line.")
    _off(service, attributes, defaults, name)
    service.settings["stderr"] = "client"
    internal = set_type(service, entry, attributes)
    _listen(service, entry, attributes, host)
    if internal:
        _internal(service, entry)
    else:
        _program(service, entry, attributes, host)
        _user(service, entry, attributes, host)
    set_flags(service, entry, attributes)
    _limits(service, attributes)
    _environment(service, attributes)
    set_access(service, attributes, _banners(service, attributes, host))
    _lost(service, attributes)
    return service


def _off(service: Imported, attributes: XinetdAttributes, defaults: XinetdAttributes, name: str) -> None:
    if attributes.first("disable") == "yes":
        service.reasons.append(f"off: disable = yes in {attributes['disable'].place}")
    if "enabled" in defaults and name not in defaults.words("enabled"):
        service.reasons.append(f"off: enabled in {defaults['enabled'].place} does not name it")
    if name in defaults.words("disabled"):
        service.reasons.append(f"off: disabled in {defaults['disabled'].place} names it")
    service.off = bool(service.reasons)


def _listen(service: Imported, entry: XinetdEntry, attributes: XinetdAttributes, host: Host) -> None:
    kind = attributes.first("socket_type") or {"tcp": "stream"}.get(attributes.first("protocol"), "")
    protocol = attributes.first("protocol") or {"stream": "tcp", "dgram": "udp"}.get(kind, "")
    if (kind, protocol) != ("stream", "tcp"):
        service.cannot(
            entry.place, f"{kind or 'no socket_type'} {protocol} is not TCP", "keep xinetd for this service"
        )
        return
    flags, v6only = attributes.words("flags"), attributes.first("v6only") == "yes"
    everywhere = "0.0.0.0" if "IPv4" in flags else "::" if v6only else "*"  # noqa: S104
    address = attributes.first("bind", everywhere)
    if address == "::" and not v6only:
        address = "*"
    unlisted = "UNLISTED" in attributes.words("type")
    port = attributes.first("port") if unlisted or "port" in attributes else entry.name
    listen_on(service, entry.place, host, address, port)


def _internal(service: Imported, entry: XinetdEntry) -> None:
    service.settings["user"] = USER
    service.settings["program"] = INTERNAL.get(entry.name, ["internal"])
    if entry.name in INTERNAL:
        service.remark(f"{entry.name} was a part of xinetd; this program does the same.")
    else:
        service.cannot(
            entry.place, f"{entry.name} was a part of xinetd", "find a program that does it, or go without"
        )


def _program(service: Imported, entry: XinetdEntry, attributes: XinetdAttributes, host: Host) -> None:
    server, arguments = attributes.first("server"), attributes.words("server_args")
    if "redirect" in attributes:
        _redirect(service, entry, attributes)
        return
    if not server:
        service.cannot(
            entry.place, "there is no server: xinetd does not start it", "add one, or remove the entry"
        )
        server = "none"
    elif not host.has_program(server):
        service.cannot(
            attributes["server"].place, f"there is no program {server}", "install it, or remove the entry"
        )
    service.settings["program"] = [server, *arguments]
    if "NOLIBWRAP" not in attributes.words("flags"):
        service.daemon = attributes.first("libwrap", server.rpartition("/")[2])
    if "NAMEINARGS" in attributes.words("flags") and arguments:
        service.settings["program"] = [server, *arguments[1:]]
        service.settings["argv0"] = arguments[0]


def _redirect(service: Imported, entry: XinetdEntry, attributes: XinetdAttributes) -> None:
    """Set where connections are passed on to; what the server's attributes say besides is not used."""
    words = attributes.words("redirect")
    host, port = words if len(words) == _HOST_AND_PORT else ("", "")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        service.settings["forward"] = str(ForwardTarget.parse(target))
    except Misfit:
        service.settings["program"] = ["redirect"]
        service.cannot(
            attributes["redirect"].place,
            f"redirect = {' '.join(words)} is no host and port",
            "set forward: to where it went",
        )
    del service.settings["stderr"]
    if "NOLIBWRAP" not in attributes.words("flags"):
        server = attributes.first("server", entry.name)
        service.daemon = attributes.first("libwrap", server.rpartition("/")[2])


def _user(service: Imported, entry: XinetdEntry, attributes: XinetdAttributes, host: Host) -> None:
    user = attributes.first("user")
    if not user:
        service.cannot(
            entry.place, "there is no user: xinetd does not start it", "add one, or remove the entry"
        )
        return
    group = attributes.first("group") or (user if user.isdecimal() else None)
    run_as(service, attributes["user"].place, host, user)
    if group is not None:
        set_group(service, attributes["group" if "group" in attributes else "user"].place, host, group)
    if attributes.first("groups") != "yes":
        service.settings["groups"] = []


def _limits(service: Imported, attributes: XinetdAttributes) -> None:
    settings = service.settings
    settings["max_connections"] = _count(service, attributes, "instances") or UNLIMITED
    settings["on_full"] = "refuse"
    if per_source := _count(service, attributes, "per_source"):
        settings["max_per_ip"] = per_source
        settings["ipv6_prefix"] = 128
    count, wait = (*attributes.words("cps"), *_CPS)[:2] if len(attributes.words("cps")) > 1 else _CPS
    if count.isdecimal() and int(count):
        settings["rate"] = f"{min(int(count), 1_000_000)}/s"
        service.beside["rate"] = f"over it, xinetd closed the service for {wait} s"
    _number(service, attributes, "nice", 10, lambda value: max(-20, min(value, 19)))
    _number(service, attributes, "umask", 8, lambda value: f"0{value | 0o022:02o}")
    for ending, name in _LIMITS.items():
        if value := attributes.first(f"rlimit_{ending}"):
            place, found = attributes[f"rlimit_{ending}"].place, _SIZE.fullmatch(value)
            if value == "UNLIMITED":
                set_limit(service, place, name, None)
            elif found:
                set_limit(service, place, name, int(found[1]) * _FACTORS[found[2].lower()])
            else:
                service.note(place, f"rlimit_{ending} = {value} is no limit", "set rlimits: as it was meant")


def _number(
    service: Imported, attributes: XinetdAttributes, name: str, base: int, made: Callable[[int], int | str]
) -> None:
    if name not in attributes:
        return
    try:
        service.settings[name] = made(int(attributes.first(name), base))
    except ValueError:
        service.note(attributes[name].place, f"{name} = {attributes.first(name)} is no number", "correct it")


def _count(service: Imported, attributes: XinetdAttributes, name: str) -> int | None:
    """Return a limit, None where there is none."""
    word = attributes.first(name, "UNLIMITED")
    if word == "UNLIMITED":
        return None
    if word.isascii() and word.isdecimal() and int(word):
        return min(int(word), MAX_COUNT)
    service.cannot(
        attributes[name].place, f"with {name} = {word} xinetd accepts nobody", "set a limit above 0"
    )
    return None


def _environment(service: Imported, attributes: XinetdAttributes) -> None:
    variables = dict(word.partition("=")[::2] for word in attributes.words("env") if word.find("=") > 0)
    if variables:
        service.settings["env"] = variables
    if passed := [name for name in attributes.words("passenv") if "=" not in name]:
        service.settings["inherit_env"] = passed


def _banners(service: Imported, attributes: XinetdAttributes, host: Host) -> str | None:
    """Set what refused clients are sent, and return it for rules; note the other banners."""
    if "banner_success" in attributes:
        service.note(
            attributes["banner_success"].place,
            f"banner_success sent {attributes.first('banner_success')} before the server started",
            "have the program, or a script before it, write it",
        )
    if "banner" in attributes:
        place = attributes["banner"].place
        service.settings["banner"] = message_of(service, place, host, attributes.first("banner")) or ""
    if "banner_fail" not in attributes:
        return None
    message = message_of(service, attributes["banner_fail"].place, host, attributes.first("banner_fail"))
    if message:
        service.settings["refuse_message"] = message
    return message


def _lost(service: Imported, attributes: XinetdAttributes) -> None:
    def note(name: str, what: str, advice: str) -> None:
        if name in attributes:
            service.note(attributes[name].place, what, advice)

    if "access_times" in attributes:
        times = " ".join(attributes.words("access_times"))
        service.cannot(
            attributes["access_times"].place,
            f"access_times allowed {times} only",
            "if it may serve at all times, remove the comment signs",
        )
    note(
        "max_load",
        f"max_load refused clients over a load of {attributes.first('max_load')}",
        "set max_connections",
    )
    note("deny_time", "deny_time banned clients of a SENSOR", "use rules that a program writes")
    for name in ("log_on_success", "log_on_failure"):
        if "USERID" in attributes.words(name):
            service.remark(
                "USERID asked the client's ident server: lookup: {ident: yes} does it for the program."
            )
